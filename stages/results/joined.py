"""Join the rows of two labellings by their image, whatever the order of their files, in bounded memory."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc

from stages.results.read import read_labels

PARTS = 64
"""Files that each labelling is dealt into by the ids of its images; two of the same number are in memory."""

Pair = tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]
"""Rows of one image; None where a labelling has none."""


def joined(labels: str, others: str, columns: Sequence[str]) -> Iterator[list[Pair]]:
    """Yield the rows of two labellings, those of one image together, some images at a time; each once.

    Both are read once and kept in a temporary folder of this machine meanwhile.

    Args:
        labels, others: `OUT` or `OUT/labels` of a run.
        columns: of the labels, with `image_id`.

    Raises:
        ValueError: no labels there, a file cannot be read, or an image has two rows.
    """
    with tempfile.TemporaryDirectory(prefix="aopsam-") as folder:
        dealt = [_deal(one, columns, Path(folder) / name) for one, name in ((labels, "a"), (others, "b"))]
        for part in range(PARTS):
            ours, theirs = (_rows(paths[part], one) for paths, one in zip(dealt, (labels, others), strict=True))
            pairs: list[Pair] = [(row, theirs.pop(image_id, None)) for image_id, row in ours.items()]
            yield pairs + [(None, row) for row in theirs.values()]


def _deal(labels: str, columns: Sequence[str], folder: Path) -> list[Path]:
    """Deal the rows of a labelling into files by their ids."""
    folder.mkdir()
    paths = [folder / str(part) for part in range(PARTS)]
    writers: list[Any] = [None] * PARTS
    with ExitStack() as stack:
        for batch in read_labels(labels, columns):
            parts = [_part(image_id) for image_id in batch.column("image_id").to_pylist()]
            for part in sorted(set(parts)):
                if writers[part] is None:
                    writers[part] = stack.enter_context(ipc.new_file(str(paths[part]), batch.schema))
                writers[part].write_table(batch.filter(pa.array([one == part for one in parts])))
    return paths


def _part(image_id: str) -> int:
    return zlib.crc32(image_id.encode()) % PARTS


def _rows(path: Path, labels: str) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    with ipc.open_file(str(path)) as opened:
        rows = opened.read_all().to_pylist()
    found = {row["image_id"]: row for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"{labels}: {len(rows) - len(found)} rows too many; verify_labels.py names their images")
    return found

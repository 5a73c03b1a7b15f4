"""Read shards in SA-1B's layout: tars whose members are `./ID.jpg` and `./ID.json`, in any order."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

KINDS = {".jpg": "photo", ".jpeg": "photo", ".json": "JSON"}


@dataclass(frozen=True)
class Sample:
    """One photo with its annotations.

    Attributes:
        id: the members' common path inside the tar, without `./` and suffix.
        jpeg: the photo as stored, not decoded.
        width: pixels, as the JSON says.
        height: pixels, as the JSON says.
        annotations: the JSON's own dicts: `segmentation` {size [h, w], counts (COCO compressed RLE)}, `bbox` XYWH px,
            `area` px, `point_coords` [[x, y]] px, and whatever else the shard carries.
    """

    id: str
    jpeg: bytes
    width: int
    height: int
    annotations: list[dict[str, Any]]


def read_shard(source: str | Path | BinaryIO, on_problem: Callable[[str], None] | None = None) -> Iterator[Sample]:
    """Stream the samples of one shard; nothing is extracted to disk, and links are never followed.

    Members wait in memory for their partner, so a shard that keeps pairs together costs one photo of memory.

    Args:
        source: a path, or a binary file object (needs no seek).
        on_problem: called with one line for a broken JSON, a missing partner or a tar that ends too early; without
            it such members are passed over.

    Yields:
        Samples in the order in which their pair became complete.
    """
    report = on_problem or (lambda line: None)
    waiting: dict[str, dict[str, bytes]] = {}
    name = str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "shard"))
    try:
        with _open_stream(source) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                kind = KINDS.get(path.suffix.lower())
                if kind is None or not member.isfile():
                    continue
                stream = tar.extractfile(member)
                if stream is None:
                    continue
                key = str(path.with_suffix(""))
                pair = waiting.setdefault(key, {})
                pair[kind] = stream.read()
                if len(pair) == 2:
                    del waiting[key]
                    sample = _parse(name, key, pair["photo"], pair["JSON"], report)
                    if sample is not None:
                        yield sample
    except (tarfile.TarError, EOFError) as error:
        report(f"{name}: not a whole tar: {error}")
    for key, pair in waiting.items():
        have, lack = ("photo", "JSON") if "photo" in pair else ("JSON", "photo")
        report(f"{name}: {key}: {have} without its {lack}")


def _open_stream(source: str | Path | BinaryIO) -> tarfile.TarFile:
    if isinstance(source, str | Path):
        return tarfile.open(source, mode="r|*")
    return tarfile.open(fileobj=source, mode="r|*")


def _parse(name: str, key: str, jpeg: bytes, text: bytes, report: Callable[[str], None]) -> Sample | None:
    """A sample from its two members, or None after one line to `report`."""
    try:
        record = json.loads(text)
        image, annotations = record["image"], record["annotations"]
        sample = Sample(key, jpeg, int(image["width"]), int(image["height"]), list(annotations))
        if not all(isinstance(a, dict) for a in sample.annotations):
            raise TypeError("annotations must be objects")
    except (ValueError, KeyError, TypeError) as error:
        report(f"{name}: {key}.json: not an SA-1B record ({type(error).__name__}: {error})")
        return None
    return sample

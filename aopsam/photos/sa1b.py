"""Read shards in SA-1B's layout: tars whose members are `./ID.jpg` and `./ID.json`, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from aopsam.photos.json_text import parse_json
from aopsam.photos.lines import one_line, shown
from aopsam.photos.spool import Spool
from aopsam.photos.tar_stream import read_files

WAITING_BYTES = 64 << 20
"""Bytes of members that wait in memory for their partner; the rest waits in a temporary file."""

MAX_SIDE = 2**16
"""Pixels of the longest side that a photo may have."""
KINDS = {".jpg": "photo", ".jpeg": "photo", ".json": "JSON"}


@dataclass(frozen=True)
class Sample:
    """One photo with its annotations.

    Attributes:
        id: the members' common path inside the tar, without `./` and suffix.
        jpeg: the photo as stored (any format that `decode.open_photo` reads), not decoded.
        width: pixels, as the JSON says.
        height: pixels, as the JSON says.
        annotations: the JSON's own dicts: `segmentation` {size [h, w], counts (COCO compressed RLE)}, `bbox` XYWH px,
            `area` px, `point_coords` [[x, y]] px, and whatever else the shard carries.
        crowds: masks, as RLE, of many objects that are not told apart: neither one object nor background.
    """

    id: str
    jpeg: bytes
    width: int
    height: int
    annotations: list[dict[str, Any]]
    crowds: list[dict[str, Any]] = field(default_factory=list)


def read_shard(
    source: str | Path | BinaryIO, on_problem: Callable[[str], None] | None = None, name: str | None = None
) -> Iterator[Sample]:
    """Stream the samples of one shard; nothing is extracted to disk, and links are never followed.

    Members wait for their partner: `WAITING_BYTES` of them in memory, the rest in one anonymous temporary file, which
    takes as much disk as the shard where all photos come before all JSONs (11 GB of SA-1B).

    Args:
        source: a path, or a binary file object (needs no seek); gzip, bzip2 and xz are unpacked.
        on_problem: called with one line for a broken JSON, a missing partner, a damage of the tar or an empty one;
            without it such members are passed over.
        name: name of the source in those lines; by default its path, or the file object's `name`.

    Yields:
        Samples in the order in which their pair became complete.

    Raises:
        OSError: the path cannot be opened, or the temporary file's disk is full.
    """
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            yield from _read(file, name or str(source), on_problem)
    else:
        yield from _read(source, name or str(getattr(source, "name", "shard")), on_problem)


def _read(file: BinaryIO, name: str, on_problem: Callable[[str], None] | None) -> Iterator[Sample]:
    def report(line: str) -> None:
        if on_problem is not None:
            on_problem(one_line(f"{name}: {line}"))

    waiting: dict[str, str] = {}
    is_empty = True
    with Spool(WAITING_BYTES) as spool:
        for member, content in read_files(file, lambda member: _kind(member) is not None, report):
            key, kind = str(PurePosixPath(member).with_suffix("")), _kind(member)
            assert kind is not None
            is_empty = False
            if waiting.get(key, kind) == kind:
                if key in waiting:
                    report(f"{key}: its {kind} occurs twice; the later one is used")
                waiting[key] = kind
                spool.put(key, content)
                continue
            del waiting[key]
            partner = spool.take(key)
            photo, text = (content, partner) if kind == "photo" else (partner, content)
            sample = _parse(key, photo, text, report)
            if sample is not None:
                yield sample
    if is_empty:
        report("neither a photo nor a JSON is in it")
    for key, kind in waiting.items():
        report(f"{key}: {kind} without its {'JSON' if kind == 'photo' else 'photo'}")


def _kind(member: str) -> str | None:
    """Return the kind of a member by its name, None for others and for `._NAME`, which macOS adds to NAME."""
    path = PurePosixPath(member)
    return None if path.name.startswith("._") else KINDS.get(path.suffix.lower())


def _parse(key: str, jpeg: bytes, text: bytes, report: Callable[[str], None]) -> Sample | None:
    """Make a sample of its two members, or call `report` with one line and return None."""
    try:
        record = parse_json(text)
        image, annotations = record["image"], record["annotations"]
        sample = Sample(key, jpeg, _side(image, "width"), _side(image, "height"), list(annotations))
        if not all(isinstance(a, dict) for a in sample.annotations):
            raise TypeError("annotations must be objects")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        report(f"{key}.json: not an SA-1B record ({type(error).__name__}: {error})")
        return None
    return sample


def _side(image: dict[str, Any], side: str) -> int:
    given = image[side]
    pixels = int(given)
    if not 1 <= pixels <= MAX_SIDE or float(given) != pixels:
        raise ValueError(f"{side} {shown(given)}; it must be a whole number of pixels, 1 to {MAX_SIDE}")
    return pixels

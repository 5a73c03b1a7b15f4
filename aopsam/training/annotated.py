"""Load annotated photos from shards of any reader: checked once, stored compressed, decoded on access."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from aopsam.masks import rle
from aopsam.photos.decode import PhotoError, open_photo
from aopsam.photos.sa1b import Sample, read_shard
from aopsam.predictor.interior import interior_point


@dataclass(frozen=True)
class Annotated:
    """One photo in memory with its annotations.

    Attributes:
        id: the photo's name in its shard.
        rgb: (H, W, 3) uint8.
        rles: M COCO compressed RLE dicts.
        points_px: (M, 2) float, x and y of the pixel deepest inside each mask.
        areas_px: (M,) float.
        edges: (h, w) uint8, a teacher's probability of an edge times 255, of the whole photo at any resolution.
    """

    id: str
    rgb: np.ndarray
    rles: list[dict[str, Any]]
    points_px: np.ndarray
    areas_px: np.ndarray
    edges: np.ndarray | None = None


Problem = Callable[[str], None]
"""Callback that gets one line for each problem."""


def annotated(sample: Sample, on_problem: Problem, on_moved: Problem = lambda line: None) -> Annotated | None:
    """Decode a sample of a shard; a mask whose first `point_coords` are not there or off it gets its deepest point.

    A mask that is malformed, empty or of another size is left out, and so is a photo that cannot be decoded or has
    another size than its JSON says; each is a line to `on_problem` that names the photo.

    Args:
        sample: the photo and its annotations.
        on_problem: called with one line for each broken photo or mask.
        on_moved: called with one line for each recorded point that is not on its mask.

    Returns:
        The photo, or None if it has no usable mask.
    """
    try:
        rgb = open_photo(sample.jpeg).rgb
    except PhotoError as error:
        on_problem(f"{sample.id}: not a photo: {error}")
        return None
    if rgb.shape[:2] != (sample.height, sample.width):
        on_problem(f"{sample.id}: photo is {rgb.shape[1::-1]}, JSON says {(sample.width, sample.height)}")
        return None
    rles, points = [], []
    for number, annotation in enumerate(sample.annotations):
        try:
            mask = rle.decode(annotation.get("segmentation", {}))
            if mask.shape != rgb.shape[:2]:
                raise ValueError(f"mask of {mask.shape[::-1]} on a photo of {rgb.shape[1::-1]}")
            given = annotation.get("point_coords")
            recorded = _point_on(mask, given)
            points.append(recorded or interior_point(mask))
        except (ValueError, TypeError, AttributeError) as error:
            on_problem(f"{sample.id}: annotation {number}: {error}")
            continue
        if given and recorded is None:
            on_moved(f"{sample.id}: annotation {number}: {str(given)[:60]}")
        rles.append(annotation["segmentation"])
    if not rles:
        return None
    areas = np.array([rle.area(mask) for mask in rles], dtype=np.float64)
    return Annotated(sample.id, rgb, rles, np.array(points, dtype=np.float64), areas)


def _point_on(mask: np.ndarray, given: Any) -> tuple[float, float] | None:
    """Return the first of `point_coords`, x and y in pixels; None where that is no point of the mask (H, W) bool."""
    try:
        x, y = (float(value) for value in given[0])
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        return None
    inside = 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0]  # false for NaN
    return (x, y) if inside and mask[int(y), int(x)] else None


class StoredPhotos(Sequence[Annotated]):
    """Photos stored compressed, as they were read, in a temporary file; memory holds only their ids and offsets.

    The file has no name, is in `tempfile.gettempdir()` (TMPDIR) and is deleted with the process. It is read with
    `pread`, so that forked workers and threads may share it; it cannot be pickled.

    Attributes:
        ids: id of every photo.
        digests: SHA-256 of every photo's encoded file, in hex digits.
        stored_bytes: size of the file.
    """

    def __init__(self, photos: Iterable[tuple[bytes, Annotated]] = ()) -> None:
        """Store photos, each with its encoded file."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        self.ids: list[str] = []
        self.digests: list[str] = []
        self.stored_bytes = 0
        self._edges: Mapping[str, np.ndarray] = {}
        self._places: list[tuple[int, int, int]] = []
        self._largest: list[float] = []
        for encoded, photo in photos:
            self.add(encoded, photo)

    def add(self, encoded: bytes, photo: Annotated) -> None:
        """Store one more photo, with its encoded file."""
        text = json.dumps(
            {"rles": photo.rles, "points_px": photo.points_px.tolist(), "areas_px": photo.areas_px.tolist()}
        ).encode()
        self._file.write(encoded + text)
        self._file.flush()
        self._places.append((self.stored_bytes, len(encoded), len(text)))
        self.stored_bytes += len(encoded) + len(text)
        self.ids.append(photo.id)
        self.digests.append(hashlib.sha256(encoded).hexdigest())
        self._largest.append(largest_share(photo))

    @property
    def largest(self) -> np.ndarray:
        """Largest mask of every photo, (N,) float, see `largest_share`."""
        return np.array(self._largest, np.float64)

    def take(self, indices: Iterable[int]) -> StoredPhotos:
        """Return some of the photos, in the given order, from the same file."""
        part, chosen = copy.copy(self), list(indices)
        part.ids, part.digests = ([names[i] for i in chosen] for names in (self.ids, self.digests))
        part._places, part._largest = [self._places[i] for i in chosen], [self._largest[i] for i in chosen]
        return part

    def with_edges(self, edges: Mapping[str, np.ndarray]) -> StoredPhotos:
        """Return the same photos, from the same file, with the edges that a mapping has under their digests."""
        same = copy.copy(self)
        same._edges = edges
        return same

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Annotated: ...
    @overload
    def __getitem__(self, index: slice) -> StoredPhotos: ...
    def __getitem__(self, index: int | slice) -> Annotated | StoredPhotos:
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        start, photo_bytes, text_bytes = self._places[index]
        stored = os.pread(self._file.fileno(), photo_bytes + text_bytes, start)
        record = json.loads(stored[photo_bytes:])
        points_px = np.array(record["points_px"], np.float64).reshape(-1, 2)
        areas_px = np.array(record["areas_px"], np.float64)
        rgb = open_photo(stored[:photo_bytes]).rgb
        edges = self._edges.get(self.digests[index])
        return Annotated(self.ids[index], rgb, record["rles"], points_px, areas_px, edges)


def largest_share(photo: Annotated) -> float:
    """Return the area of a photo's largest mask over the square of the photo's longer side.

    Masks whose point is at the photo's edge do not count: no window has it.
    """
    height, width = photo.rgb.shape[:2]
    inner = ((photo.points_px >= 1) & (photo.points_px <= (width - 2, height - 2))).all(1)
    return float(photo.areas_px[inner].max(initial=0.0)) / max(height, width) ** 2


BARE = "{} photos without any annotation, such as {}"
MOVED = "{} recorded points that are not on their masks, such as {}; the points deepest inside are used instead"


class Findings:
    """Findings in the photos of some shards: a line for each problem, and one for each kind that is counted.

    Attributes:
        shard: number of the shard that is being read.
    """

    def __init__(self) -> None:
        self.shard = 0
        self._lines: list[tuple[int, str]] = []
        self._counted: dict[str, tuple[int, str]] = {}

    def say(self, line: str) -> None:
        """Note a problem."""
        self._lines.append((self.shard, line))

    def count(self, kind: str, example: str) -> None:
        """Count one more of a kind, a text with `{}` for how many there are and for the first of them."""
        count, first = self._counted.get(kind, (0, example))
        self._counted[kind] = count + 1, first

    def problems(self) -> list[str]:
        """Return the lines of problems, in the order of their shards."""
        return [line for _, line in sorted(self._lines, key=lambda pair: pair[0])]

    def lines(self) -> list[str]:
        """Return the lines of problems, then those of what was counted."""
        return self.problems() + [kind.format(*counted) for kind, counted in self._counted.items()]


def checked(sample: Sample, findings: Findings) -> Annotated | None:
    """Decode a sample as `annotated` does; photos without annotations and points that were moved are counted."""
    if not sample.annotations:
        findings.count(BARE, sample.id)
        return None
    return annotated(sample, findings.say, lambda line: findings.count(MOVED, line))


def load_photos(
    shards: Iterable[str | Path],
    on_problem: Problem | None = None,
    read: Callable[[Any, Problem], Iterator[Sample]] = read_shard,
) -> StoredPhotos:
    """Load all annotated photos of the shards, except those without any usable mask.

    Args:
        shards: paths of the shards.
        on_problem: callback that gets one line for each broken photo or mask; the rest is used. One more line counts
            the photos to which nothing is annotated, and one the recorded points that are off their masks.
        read: reader of one shard; by default of a tar in SA-1B's layout.

    Raises:
        ValueError: a photo or mask is broken and there is no `on_problem`; the message lists all of them.
    """
    findings, photos = Findings(), StoredPhotos()
    for findings.shard, shard in enumerate(shards):
        for sample in read(shard, findings.say):
            if (photo := checked(sample, findings)) is not None:
                photos.add(sample.jpeg, photo)
    if on_problem is not None:
        for line in findings.lines():
            on_problem(line)
    elif problems := findings.problems():
        raise ValueError("; ".join(problems))
    return photos

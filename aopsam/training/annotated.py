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
        largest: (N,) float, area of every photo's largest mask over the square of the photo's longer side; of masks
            whose point is not at the photo's edge, where no window has it.
    """

    def __init__(self, photos: Iterable[tuple[bytes, Annotated]]) -> None:
        """Store photos, each with its encoded file."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        self.ids: list[str] = []
        self.digests: list[str] = []
        self._edges: Mapping[str, np.ndarray] = {}
        places, largest = [], []
        for encoded, photo in photos:
            text = json.dumps(
                {"rles": photo.rles, "points_px": photo.points_px.tolist(), "areas_px": photo.areas_px.tolist()}
            ).encode()
            places.append((self._file.tell(), len(encoded), len(text)))
            self._file.write(encoded + text)
            self.ids.append(photo.id)
            self.digests.append(hashlib.sha256(encoded).hexdigest())
            largest.append(_largest(photo))
        self._file.flush()
        self.largest = np.array(largest, np.float64)
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def take(self, indices: Sequence[int]) -> StoredPhotos:
        """Return some of the photos, in the given order, from the same file."""
        part = copy.copy(self)
        chosen = np.array(indices, np.int64)
        part.ids, part.digests = ([names[i] for i in chosen] for names in (self.ids, self.digests))
        part._places, part.largest = self._places[chosen], self.largest[chosen]
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
        start, photo_bytes, text_bytes = (int(value) for value in self._places[index])
        stored = os.pread(self._file.fileno(), photo_bytes + text_bytes, start)
        record = json.loads(stored[photo_bytes:])
        points_px = np.array(record["points_px"], np.float64).reshape(-1, 2)
        areas_px = np.array(record["areas_px"], np.float64)
        rgb = open_photo(stored[:photo_bytes]).rgb
        edges = self._edges.get(self.digests[index])
        return Annotated(self.ids[index], rgb, record["rles"], points_px, areas_px, edges)


def _largest(photo: Annotated) -> float:
    """Return the largest mask's share of the photo's padded square; see `StoredPhotos.largest`."""
    height, width = photo.rgb.shape[:2]
    inner = ((photo.points_px >= 1) & (photo.points_px <= (width - 2, height - 2))).all(1)
    return float(photo.areas_px[inner].max(initial=0.0)) / max(height, width) ** 2


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
    problems: list[str] = []
    report = problems.append if on_problem is None else on_problem
    moved: list[str] = []
    bare: list[str] = []

    def usable() -> Iterator[tuple[bytes, Annotated]]:
        for shard in shards:
            for sample in read(shard, report):
                if not sample.annotations:
                    bare.append(sample.id)
                elif (photo := annotated(sample, report, moved.append)) is not None:
                    yield sample.jpeg, photo

    photos = StoredPhotos(usable())
    if problems:
        raise ValueError("; ".join(problems))
    if on_problem is not None and bare:
        on_problem(f"{len(bare)} photos without any annotation, such as {bare[0]}")
    if on_problem is not None and moved:
        on_problem(
            f"{len(moved)} recorded points that are not on their masks, such as {moved[0]}; the points deepest inside "
            "are used instead"
        )
    return photos

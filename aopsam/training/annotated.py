"""Load annotated photos from shards of any reader: checked once, stored compressed, decoded on access."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    """

    id: str
    rgb: np.ndarray
    rles: list[dict[str, Any]]
    points_px: np.ndarray
    areas_px: np.ndarray


Problem = Callable[[str], None]
"""Callback that gets one line for each problem."""


def annotated(sample: Sample, on_problem: Problem) -> Annotated | None:
    """Decode a sample of a shard; a mask without `point_coords` gets the point deepest inside it.

    A mask that is malformed, empty or of another size is left out, and so is a photo that cannot be decoded or has
    another size than its JSON says; each is a line to `on_problem` that names the photo.

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
            points.append(np.array(given[0], dtype=np.float64).reshape(2) if given else interior_point(mask))
        except (ValueError, TypeError, AttributeError) as error:
            on_problem(f"{sample.id}: annotation {number}: {error}")
            continue
        rles.append(annotation["segmentation"])
    if not rles:
        return None
    areas = np.array([rle.area(mask) for mask in rles], dtype=np.float64)
    return Annotated(sample.id, rgb, rles, np.array(points, dtype=np.float64), areas)


class StoredPhotos(Sequence[Annotated]):
    """Photos stored compressed, as they were read, in a temporary file; memory holds only their ids and offsets.

    The file has no name, is in `tempfile.gettempdir()` (TMPDIR) and is deleted with the process. It is read with
    `pread`, so that forked workers and threads may share it; it cannot be pickled.

    Attributes:
        ids: id of every photo.
    """

    def __init__(self, photos: Iterable[tuple[bytes, Annotated]]) -> None:
        """Store photos, each with its encoded file."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this does
        self.ids: list[str] = []
        places = []
        for encoded, photo in photos:
            text = json.dumps(
                {"rles": photo.rles, "points_px": photo.points_px.tolist(), "areas_px": photo.areas_px.tolist()}
            ).encode()
            places.append((self._file.tell(), len(encoded), len(text)))
            self._file.write(encoded + text)
            self.ids.append(photo.id)
        self._file.flush()
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def take(self, indices: Sequence[int]) -> StoredPhotos:
        """Return some of the photos, in the given order, from the same file."""
        part = copy.copy(self)
        part.ids, part._places = [self.ids[index] for index in indices], self._places[list(indices)]
        return part

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
        points_px, areas_px = (np.array(record[name], np.float64) for name in ("points_px", "areas_px"))
        rgb = open_photo(stored[:photo_bytes]).rgb
        return Annotated(self.ids[index], rgb, record["rles"], points_px, areas_px)


def load_photos(
    shards: Iterable[str | Path],
    on_problem: Problem | None = None,
    read: Callable[[Any, Problem], Iterator[Sample]] = read_shard,
) -> StoredPhotos:
    """Load all annotated photos of the shards, except those without any usable mask.

    Args:
        shards: paths of the shards.
        on_problem: callback that gets one line for each broken photo or mask; the rest is used.
        read: reader of one shard; by default of a tar in SA-1B's layout.

    Raises:
        ValueError: a photo or mask is broken and there is no `on_problem`; the message lists all of them.
    """
    problems: list[str] = []
    report = problems.append if on_problem is None else on_problem
    usable = (
        (sample.jpeg, photo)
        for shard in shards
        for sample in read(shard, report)
        if (photo := annotated(sample, report)) is not None
    )
    photos = StoredPhotos(usable)
    if problems:
        raise ValueError("; ".join(problems))
    return photos

"""Choose what is exported of labels: photos and masks, by stated rules that all formats share, and what is left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from aopsam.masks import nesting, rle
from aopsam.masks.runs import Runs
from schemas.labels import Status
from stages.config.selection import Selection
from stages.results.photos import LabelledPhotos, PhotoGone
from stages.results.read import LabelFiles, find_labels, read_batches
from stages.storage.location import uri_of

TOO_FEW = "too few masks"
GONE = "photo gone or changed"

_COLUMNS = ("image_id", "file_name", "content_sha256", "width", "height", "status", "masks")


@dataclass(frozen=True)
class Mask:
    """A mask that is exported.

    Attributes:
        number: place in its row's list of masks, from 0.
        record: of the labels table, with `segmentation` and `bbox` as exported.
        score: of the scorer, or predicted IoU without one; as short as single precision allows.
        lengths: of the runs of its RLE (`aopsam.masks.rle.runs`).
        parent: `number` of the exported mask that it is a part of.
    """

    number: int
    record: Mapping[str, Any]
    score: float
    lengths: npt.NDArray[np.int64]
    parent: int | None = None

    @property
    def hw(self) -> tuple[int, int]:
        """Rows and columns of its photo."""
        height, width = self.record["segmentation"]["size"]
        return int(height), int(width)

    @cached_property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.lengths[1::2].sum())

    @cached_property
    def bbox_xywh(self) -> tuple[int, int, int, int]:
        """Tight box in whole pixels: left, top, number of columns, number of rows."""
        return rle.bbox_of_runs_xywh(self.lengths, self.hw[0])

    @cached_property
    def runs(self) -> Runs:
        """Runs of pixels."""
        return _runs(self.lengths, self.hw)

    def cropped(self) -> npt.NDArray[np.bool_]:
        """Return the pixels of its box, (rows, columns) bool."""
        left, top, width, height = self.bbox_xywh
        cut = self.runs.within(left, top, left + width, top + height)
        return rle.decode(rle.from_runs(cut))


@dataclass(frozen=True)
class Photo:
    """A photo that is exported.

    Attributes:
        number: from 1, in the order of file names.
        first_mask: number of its mask 0, counted over all masks of the labels in that order, from 1: numbers do not
            depend on what is selected, nor on the order of files.
        row: `image_id`, `file_name`, `content_sha256`, `width`, `height`.
        masks: in the order of the labels.
        encoded: the photo as stored; empty where a format does not ask for it.
        listed: its row of the listing; likewise None.
    """

    number: int
    first_mask: int
    row: Mapping[str, Any]
    masks: Sequence[Mask]
    encoded: bytes = b""
    listed: Mapping[str, Any] | None = None


@dataclass
class Chosen:
    """The photos of labels that a selection leaves, read a batch at a time; counts of both.

    Attributes:
        labels: OUT of a run, or its labels.
        selection: what is exported.
        images: the photos, if not where they were labelled.
        only: which photos are read, by their file names.
        n_labelled: number of labelled photos, read or not.
        left_out: number of photos by status, or why.
        masks_left_out: of photos that are exported.
        gone: line of the first photo that is gone.
        inexact: masks that the format cannot hold well, counted by it.
    """

    labels: str
    selection: Selection
    images: str | None = None
    only: Callable[[str], bool] = lambda name: True
    n_labelled: int = 0
    n_photos: int = 0
    n_masks: int = 0
    masks_left_out: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    gone: str | None = None
    inexact: int = 0

    def photos(self, *, encoded: bool = False) -> Iterator[Photo]:
        """Yield the photos, in the order of the files of labels.

        Photos that could not be labelled are left out: nothing is known about them, and a training would read "no
        objects here". Those labelled without a mask are not, nor those of which no mask is left.

        Args:
            encoded: read the photos, too; one that is gone or has changed is left out.

        Raises:
            ValueError: no labels there, an unreadable file, an image with two rows, a malformed mask, or the photos
                cannot be found.
        """
        files = find_labels(self.labels)
        numbers = self._number(files)
        for path in files.paths:
            found = LabelledPhotos(uri_of(files.filesystem, path), self.images) if encoded else None
            for batch in read_batches(files, path, _COLUMNS):
                rows = [row for row in batch.to_pylist() if row["image_id"] in numbers and self.only(row["file_name"])]
                listed = found.find(rows) if found else [None] * len(rows)
                for row, place in zip(rows, listed, strict=True):
                    photo = self._photo(numbers[row["image_id"]], row)
                    if photo is None:
                        continue
                    if found is not None:
                        try:
                            photo = replace(photo, encoded=found.read(row, place), listed=place)
                        except PhotoGone as error:
                            self.left_out[GONE] += 1
                            self.gone = self.gone or str(error)
                            continue
                    self.n_photos += 1
                    self.n_masks += len(photo.masks)
                    self.masks_left_out += len(row["masks"]) - len(photo.masks)
                    yield photo

    def _number(self, files: LabelFiles) -> dict[str, tuple[int, int]]:
        """Return number and first mask's number of each labelled image by its id; count the others."""
        found: list[tuple[str, str, int]] = []
        for path in files.paths:
            for batch in read_batches(files, path, ["image_id", "file_name", "status", "masks"]):
                n_masks = pc.list_value_length(batch["masks"]).to_pylist()
                columns = (batch[name].to_pylist() for name in ("file_name", "image_id", "status"))
                for name, image_id, status, n in zip(*columns, n_masks, strict=True):
                    if status in (Status.OK, Status.EMPTY):
                        found.append((name, image_id, n))
                    else:
                        self.left_out[status] += 1
        found.sort()
        numbers: dict[str, tuple[int, int]] = {}
        first_mask = 1
        for number, (_, image_id, n) in enumerate(found, start=1):
            numbers[image_id] = number, first_mask
            first_mask += n
        if len(numbers) != len(found):
            raise ValueError(
                f"{self.labels}: {len(found) - len(numbers)} rows too many; verify_labels.py names their images"
            )
        self.n_labelled = len(found)
        return numbers

    def _photo(self, numbers: tuple[int, int], row: Mapping[str, Any]) -> Photo | None:
        """Return a labelled photo with the masks that are exported; None, and count it, where they are too few."""
        masks = select(row, self.selection)
        if len(masks) < self.selection.min_masks:
            self.left_out[TOO_FEW] += 1
            return None
        kept = {name: value for name, value in row.items() if name not in ("masks", "status")}
        return Photo(*numbers, kept, masks)


def select(row: Mapping[str, Any], selection: Selection) -> list[Mask]:
    """Return the masks of a row of labels that are exported, in its order.

    Raises:
        ValueError: a mask is malformed, of another size than its photo, or without a finite score.
    """
    every = []
    for number, record in enumerate(row["masks"]):
        try:
            every.append(_mask(number, record, [row["height"], row["width"]]))
        except ValueError as error:
            raise ValueError(f"{row['file_name']!r}: mask {number}: {error}") from error
    least = -math.inf if selection.min_score is None else selection.min_score
    most = selection.max_area or math.inf
    masks = [mask for mask in every if mask.score >= least and selection.min_area <= mask.area <= most]
    if selection.max_masks is not None:
        best = sorted(masks, key=lambda mask: -mask.score)[: selection.max_masks]
        masks = sorted(best, key=lambda mask: mask.number)
    if selection.overlap == "flat":
        flat = nesting.flattened([mask.runs for mask in masks])
        cut = [_recut(mask, runs) for mask, runs in zip(masks, flat, strict=True)]
        return [mask for mask in cut if mask.area >= selection.min_area]
    parents = _parents(masks, every)
    if selection.overlap == "largest":
        return [mask for mask, parent in zip(masks, parents, strict=True) if parent is None]
    return [replace(mask, parent=parent) for mask, parent in zip(masks, parents, strict=True)]


def _mask(number: int, record: Mapping[str, Any], size: list[int]) -> Mask:
    segmentation = record["segmentation"] or {}
    name = "predicted_iou" if record["score"] is None else "score"
    score = record[name]
    lengths = rle.runs(segmentation)
    if segmentation["size"] != size:
        raise ValueError(f"RLE size {segmentation['size']}, the image has {size}")
    if score is None or not math.isfinite(score):
        raise ValueError(f"{name} {score}")
    return Mask(number, record, float(str(np.float32(score))), lengths)


def runs_of(encoded: rle.RLE) -> Runs:
    """Return a mask's runs from its RLE.

    Raises:
        ValueError: the RLE is malformed.
    """
    height, width = encoded["size"]
    return _runs(rle.runs(encoded), (height, width))


def _runs(lengths: npt.NDArray[np.int64], hw: tuple[int, int]) -> Runs:
    ends = np.cumsum(lengths)
    starts, stops = (ends - lengths)[1::2], ends[1::2]
    some = starts < stops
    return Runs.of_flat(starts[some], stops[some], hw)


def _recut(mask: Mask, runs: Runs) -> Mask:
    encoded = rle.from_runs(runs)
    lengths = rle.runs(encoded)
    bbox = [float(side) for side in rle.sam_bbox_xywh(rle.bbox_of_runs_xywh(lengths, runs.hw[0]))]
    record = {**mask.record, "segmentation": encoded, "bbox": bbox, "area": runs.area, "parent": None}
    return Mask(mask.number, record, mask.score, lengths)


def _parents(masks: Sequence[Mask], every: Sequence[Mask]) -> list[int | None]:
    """Return the number of each mask's parent among the masks, of `every` mask of the row that are left.

    Links of the labels, passed on where a parent is left out; where the labels have none, they are found now.
    """
    linked = {mask.number: mask.record["parent"] for mask in every}
    if all(parent is None for parent in linked.values()):
        sizes = np.array([mask.area for mask in masks], np.int64)
        found = nesting.parents_of_rles([mask.record["segmentation"] for mask in masks], sizes)
        return [None if parent is None else masks[parent].number for parent in found]
    left = {mask.number for mask in masks}
    return [_ancestor(mask.number, linked, left) for mask in masks]


def _ancestor(number: int, linked: Mapping[int, int | None], left: set[int]) -> int | None:
    parent = linked[number]
    for _ in linked:  # of damaged labels, links might form a circle
        if parent is None or parent in left:
            return parent
        parent = linked.get(parent)
    return None

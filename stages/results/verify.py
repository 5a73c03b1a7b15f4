"""Check that a labels folder has one row for every image of a listing, and that its masks agree with their records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from aopsam.masks import rle
from schemas.labels import Reason, Status
from schemas.listing import SCHEMA
from stages.corpus.index import key_of, read_part
from stages.corpus.listing import open_corpus, parts_of
from stages.corpus.walk import Found
from stages.label.folder import names_by_key
from stages.results.read import LabelFiles, UnreadableTable, find_labels, read_batches
from stages.storage.tables import list_names

STATUS_OF: Mapping[Reason, Status] = dict.fromkeys(Reason, Status.FAILED) | {
    Reason.NONE: Status.OK,
    Reason.NO_MASK: Status.EMPTY,
    Reason.TOO_MANY_PIXELS: Status.REJECTED,
    Reason.TOO_SLOW: Status.REJECTED,
    Reason.HIDDEN_NAME: Status.REJECTED,
}
"""The one status that goes with each reason, kept apart from the code that writes the rows."""


@dataclass(frozen=True)
class Verified:
    """Counts of a verification."""

    images: int
    """Images of the listing."""
    masks: int
    """Masks checked."""
    mismatches: int
    """Lines reported."""

    def __add__(self, other: Verified) -> Verified:
        images, masks = self.images + other.images, self.masks + other.masks
        return Verified(images, masks, self.mismatches + other.mismatches)


def verify_run(images: str, labels: str, report: Callable[[str], None], others: Counter[str]) -> Verified:
    """Compare a labels folder with the images it was made from, an archive at a time.

    In memory are the listing of one archive, or of all files that are in none, and one batch of rows. Archives that are
    what they were when they were labelled are not read again, only their index in OUT.

    Args:
        images: the run's --images.
        labels: `OUT` or `OUT/labels` of a run.
        report: called with one printable line for every mismatch.
        others: to which every file is added that has no row, by its suffix.

    Raises:
        ValueError: there are no such images, or no labels folder (see `stages.results.read.find_labels`).
    """
    files, out = find_labels(labels), labels.rstrip("/").removesuffix("/labels")
    corpus, found = open_corpus(images, exclude=out)
    by_key = None if "images.parquet" in list_names(out) else _by_key(files)  # of an older version: one listing
    total = Verified(0, 0, 0)
    held = [SCHEMA.empty_table()]
    for part in parts_of(corpus, found, others):
        if not isinstance(part, Found):
            held.append(corpus.table(part))
            continue
        key = key_of(part.relative)
        known = read_part(out, key, part.stamp)
        if known is None:
            rows = corpus.table(corpus.rows_of_archive(part, others))
        else:
            rows = known.rows
            others.update(known.others)
        if by_key is None:
            held.append(rows)
        else:
            total += verify_listing(rows, files, by_key.pop(key, []), report)
    rest = list(files.paths) if by_key is None else [path for paths in by_key.values() for path in paths]
    return total + verify_listing(pa.concat_tables(held), files, sorted(rest), report)


def _by_key(files: LabelFiles) -> dict[str, list[str]] | None:
    """Return the label files by the archive whose photos they hold; None where their names do not tell."""
    paths = {path.rpartition("/")[2]: path for path in files.paths}
    by_key = names_by_key(paths)
    if sum(map(len, by_key.values())) < len(paths):
        return None
    return {key: [paths[name] for name in names] for key, names in by_key.items()}


def verify_listing(
    listing: pa.Table, files: LabelFiles, paths: Sequence[str], report: Callable[[str], None]
) -> Verified:
    """Compare label files with a listing of their images, a batch of rows at a time.

    Args:
        listing: the images that must have a row each, `schemas.listing.SCHEMA`.
        files: the labels folder.
        paths: files of it that hold these rows.
        report: called with one printable line for every mismatch.
    """
    expected = {image_id: place for place, image_id in enumerate(listing["image_id"].to_pylist())}
    n_rows = np.zeros(listing.num_rows, np.int64)
    mismatches = masks = 0

    def mismatch(about: str, text: str) -> None:
        nonlocal mismatches
        mismatches += 1
        report(f"{_printable(about)}: {_printable(text)}")

    if len(expected) != listing.num_rows:
        mismatch("the listing", f"{listing.num_rows - len(expected)} image ids occur twice")
    for path in paths:
        try:
            for batch in read_batches(files, path):
                for row in batch.to_pylist():
                    masks += len(row["masks"])
                    if row["image_id"] in expected:
                        n_rows[expected[row["image_id"]]] += 1
                    else:
                        mismatch(row["file_name"], f"row {row['image_id']} belongs to no image of the listing")
                    for text in row_mismatches(row):
                        mismatch(row["file_name"], text)
        except UnreadableTable as error:
            mismatch("unreadable table", str(error))
    for place in np.flatnonzero(n_rows != 1).tolist():
        mismatch(listing["file_name"][place].as_py(), f"{n_rows[place]} rows, must be 1")
    return Verified(listing.num_rows, masks, mismatches)


def row_mismatches(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield one text for each contradiction in a row of the labels table."""
    if row["status"] not in set(Status) or row["reason"] not in set(Reason):
        yield f"status {row['status']!r} with reason {row['reason']!r} is not in the schema"
        return
    status, reason, masks = Status(row["status"]), Reason(row["reason"]), row["masks"]
    if STATUS_OF[reason] is not status:
        yield f"status {status} does not go with reason {reason}"
    if (status is Status.OK) != bool(masks):
        yield f"status {status} with {len(masks)} masks"
    proposed, decoded = row["prompts_proposed"], row["prompts_decoded"]
    if not 0 <= decoded <= proposed or (masks and decoded == 0):
        yield f"{len(masks)} masks of {decoded} prompts decoded, {proposed} proposed"
    if status in (Status.OK, Status.EMPTY):
        if len(row["content_sha256"] or "") != 64:
            yield f"content_sha256 {row['content_sha256']!r} has not 64 hex digits"
        if not (row["height"] or 0) > 0 or not (row["width"] or 0) > 0:
            yield f"size {row['height']} x {row['width']}"
            return
    for number, mask in enumerate(masks):
        for text in mask_mismatches(mask, row["height"], row["width"]):
            yield f"mask {number}: {text}"
        parent = mask["parent"]
        if parent is not None and not (0 <= parent < len(masks) and (masks[parent]["area"] or 0) > (mask["area"] or 0)):
            yield f"mask {number}: parent {parent} is not a larger mask of the row"


def mask_mismatches(mask: Mapping[str, Any], height: int, width: int) -> Iterator[str]:
    """Yield one text for each contradiction in a mask record of an image of `height` x `width` px.

    The box must equal the mask's in segment-anything's convention (`aopsam.masks.rle.sam_bbox_xywh`).
    """
    for name in ("predicted_iou", "stability_score"):
        if mask[name] is None or not math.isfinite(mask[name]):
            yield f"{name} {mask[name]}"
    if mask["score"] is not None and not math.isfinite(mask["score"]):
        yield f"score {mask['score']}"
    points = mask["point_coords"] or []
    if not points and not mask["box"]:
        yield "neither point_coords nor box names its prompt"
    for point in points:
        if not _lie_within(point, (width, height)):
            yield f"point {point} lies outside {width} x {height}"
    if mask["box"] is not None and not (len(mask["box"]) == 4 and _are_finite(mask["box"])):
        yield f"box {mask['box']}"
    crop = mask["crop_box"] or []
    if len(crop) != 4 or not _lie_within([crop[0], crop[1], crop[0] + crop[2], crop[1] + crop[3]], (width, height)):
        yield f"crop_box {mask['crop_box']} lies outside {width} x {height}"
    segmentation = mask["segmentation"] or {}
    if segmentation.get("size") != [height, width]:
        yield f"RLE size {segmentation.get('size')}, the image has {[height, width]}"
        return
    try:
        lengths = rle.runs(segmentation)
    except ValueError as error:
        yield str(error)
        return
    area = int(lengths[1::2].sum())
    if area == 0:
        yield "no pixels"
    if mask["area"] != area:
        yield f"area {mask['area']}, the RLE has {area}"
    bbox = [float(value) for value in rle.sam_bbox_xywh(rle.bbox_of_runs_xywh(lengths, height))]
    if mask["bbox"] != bbox:
        yield f"bbox {mask['bbox']}, the RLE has {bbox}"


def _lie_within(coordinates: Sequence[float], limits_xy: tuple[int, int]) -> bool:
    """Return whether X, Y, X, Y, … are finite and between 0 and the limits."""
    inside = (0 <= value <= limits_xy[place % 2] for place, value in enumerate(coordinates) if value is not None)
    return len(coordinates) % 2 == 0 and _are_finite(coordinates) and all(inside)


def _are_finite(values: Iterable[float | None]) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def _printable(text: str) -> str:
    """Return `text` on one line, with everything that could steer a terminal escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

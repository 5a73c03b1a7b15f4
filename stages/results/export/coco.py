"""Export labels in the COCO instances format: one JSON file that pycocotools and most annotation tools open."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import numpy as np
import pyarrow.compute as pc

from aopsam.masks import rle
from schemas.labels import Status
from stages.results.export.exported import Exported
from stages.results.read import read_labels
from stages.storage.atomic import check_writable, write_text

FILE_NAME = "instances.json"
CATEGORY_ID = 1


def export_coco(labels: str, out: str) -> Exported:
    """Write `out`/instances.json.

    Images are numbered from 1 in the order of their file names, annotations from 1 in the order of their images, so
    that the same labels get the same numbers. `file_name` is relative to the images' root; `bbox` is COCO's (whole
    columns and rows, from the mask itself), `counts` text, `score` the predicted IoU; `parent_id` is the annotation
    that an annotation is a part of (of labels with `overlap: nested`), null where there is none.

    Images labelled without a mask are in it, as COCO has images without annotations. Images that could not be
    labelled are not: nothing is known about them, and a training loop would read "no objects here".

    Raises:
        ValueError: an `out` that cannot be written, no labels there, an unreadable file, an image with two rows, or a
            malformed mask.
    """
    check_writable(out, FILE_NAME)
    path = f"{out.rstrip('/')}/{FILE_NAME}"
    images, left_out = _list_images(labels)
    with write_text(path) as opened:
        opened.write('{"info": {"description": "masks by aopsam"}, "licenses": [],\n')
        opened.write(f'"categories": [{{"id": {CATEGORY_ID}, "name": "object", "supercategory": ""}}],\n"images": [')
        _write_items(opened, ({key: row[key] for key in _IMAGE_KEYS} for row in images.values()))
        opened.write('],\n"annotations": [')
        n_annotations = _write_items(opened, _annotations(labels, images))
        opened.write("]}\n")
    return Exported(path, len(images), n_annotations, left_out)


_IMAGE_KEYS = ("id", "file_name", "width", "height")


def _list_images(labels: str) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """List labelled images by image_id, in file-name order, with number and first annotation id; count the rest."""
    left_out: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    for batch in read_labels(labels, ["image_id", "file_name", "width", "height", "status", "masks"]):
        n_masks = pc.list_value_length(batch["masks"])
        for row in batch.drop_columns("masks").append_column("n_masks", n_masks).to_pylist():
            if row["status"] in (Status.OK, Status.EMPTY):
                found.append(row)
            else:
                left_out[row["status"]] = left_out.get(row["status"], 0) + 1
    found.sort(key=lambda row: (row["file_name"], row["image_id"]))
    images = {row["image_id"]: row for row in found}
    if len(images) != len(found):
        raise ValueError(f"{labels}: {len(found) - len(images)} rows too many; verify_labels.py names their images")
    first_annotation = 1
    for number, row in enumerate(images.values(), start=1):
        row |= {"id": number, "first_annotation": first_annotation}
        first_annotation += row["n_masks"]
    return images, left_out


def _annotations(labels: str, images: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for batch in read_labels(labels, ["image_id", "file_name", "masks"]):
        for row in batch.to_pylist():
            image = images.get(row["image_id"])
            if image is None:
                continue
            for number, mask in enumerate(row["masks"]):
                try:
                    annotation = _annotation(mask)
                except ValueError as error:
                    raise ValueError(f"{row['file_name']!r}: mask {number}: {error}") from error
                ids = {"id": image["first_annotation"] + number, "image_id": image["id"]}
                parent = None if mask["parent"] is None else image["first_annotation"] + mask["parent"]
                yield ids | annotation | {"parent_id": parent}


def _annotation(mask: Mapping[str, Any]) -> dict[str, Any]:
    segmentation = mask["segmentation"] or {}
    name = "predicted_iou" if mask["score"] is None else "score"
    score = mask[name]
    lengths = rle.runs(segmentation)
    if score is None or not math.isfinite(score):
        raise ValueError(f"{name} {score}")
    return {
        "category_id": CATEGORY_ID,
        "iscrowd": 0,
        "segmentation": segmentation,
        "area": int(lengths[1::2].sum()),
        "bbox": list(rle.bbox_of_runs_xywh(lengths, segmentation["size"][0])),
        # As short as single precision allows: 0.9, not 0.8999999761581421.
        "score": float(str(np.float32(score))),
    }


def _write_items(opened: TextIO, items: Iterator[dict[str, Any]]) -> int:
    """Write the items of a JSON array, one a line; return their number."""
    n_items = 0
    for n_items, item in enumerate(items, start=1):
        opened.write(("\n" if n_items == 1 else ",\n") + json.dumps(item, allow_nan=False))
    return n_items

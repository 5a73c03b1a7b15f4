"""Export labels in the COCO instances format: one JSON file that pycocotools and most annotation tools open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from stages.results.export.selection import Chosen, Photo
from stages.storage.atomic import check_writable, write_text

FILE_NAME = "instances.json"
CATEGORY = {"id": 1, "name": "object", "supercategory": ""}


def write_coco(chosen: Chosen, out: str) -> str:
    """Write `out`/instances.json.

    Numbers of images and annotations follow from the labels alone, whatever is selected and in whatever order files
    are read. `file_name` is relative to the images' root; `bbox` is COCO's (whole columns and rows, from the mask
    itself), `counts` text; `parent_id` is the annotation that an annotation is a part of, null where there is none;
    `mask` is its place in the labels' row, by which `import_labels.py` knows it again.
    """
    check_writable(out, FILE_NAME)
    path = f"{out.rstrip('/')}/{FILE_NAME}"
    images: list[tuple[int, str]] = []
    with write_text(path) as opened:
        opened.write('{"info": {"description": "masks by aopsam"}, "licenses": [],\n')
        opened.write(f'"categories": [{json.dumps(CATEGORY)}],\n"annotations": [')
        _write_items(opened, (item for photo in chosen.photos() for item in _annotations(photo, images)))
        opened.write('],\n"images": [')  # after the annotations: which images there are is known when those are read
        _write_items(opened, (item for _, item in sorted(images)))
        opened.write("]}\n")
    return path


def _annotations(photo: Photo, images: list[tuple[int, str]]) -> Iterator[str]:
    """Yield the annotations of a photo as JSON; append its image."""
    row = photo.row
    image = {"id": photo.number} | {name: row[name] for name in ("file_name", "width", "height")}
    images.append((photo.number, _json(image)))
    for mask in photo.masks:
        yield _json(
            {
                "id": photo.first_mask + mask.number,
                "image_id": photo.number,
                "category_id": CATEGORY["id"],
                "iscrowd": 0,
                "segmentation": mask.record["segmentation"],
                "area": mask.area,
                "bbox": mask.bbox_xywh,
                "score": mask.score,
                "parent_id": None if mask.parent is None else photo.first_mask + mask.parent,
                "mask": mask.number,
            }
        )


def _json(item: dict[str, Any]) -> str:
    return json.dumps(item, allow_nan=False)


def _write_items(opened: TextIO, items: Iterator[str]) -> None:
    """Write the items of a JSON array, one a line."""
    for number, item in enumerate(items):
        opened.write(("\n" if number == 0 else ",\n") + item)

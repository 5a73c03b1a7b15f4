"""Export labels as shards for WebDataset: a photo and a JSON of its masks under one key."""

from __future__ import annotations

import json
from typing import Any

from stages.results.export.photo_files import file_stem, plain_photo
from stages.results.export.selection import Chosen, Photo
from stages.results.export.shards import shards
from stages.storage.folder import write_folder


def write_webdataset(chosen: Chosen, out: str) -> str:
    """Write `out`/shard-000000.tar and so on, with KEY.jpg or KEY.png and KEY.json; masks are COCO RLEs."""
    with write_folder(out) as folder, shards(folder, "shard-{:06d}.tar") as tars:
        for photo in chosen.photos(encoded=True):
            key = file_stem(photo)
            encoded, suffix = plain_photo(photo)
            tars.add({key + suffix: encoded, f"{key}.json": json.dumps(_record(photo), allow_nan=False).encode()})
    return out


def _record(photo: Photo) -> dict[str, Any]:
    masks = [
        {
            "mask": mask.number,
            "segmentation": mask.record["segmentation"],
            "bbox": mask.bbox_xywh,
            "area": mask.area,
            "score": mask.score,
            "parent": mask.parent,
        }
        for mask in photo.masks
    ]
    return {**photo.row, "masks": masks}

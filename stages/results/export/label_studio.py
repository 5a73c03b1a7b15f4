"""Export labels as tasks with predictions for Label Studio: brush masks to correct, and the interface they need."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from aopsam.masks import rle
from stages.results.export.selection import Chosen, Mask, Photo
from stages.storage.atomic import check_writable, write_text

FILE_NAME, CONFIG_NAME = "tasks.json", "label_config.xml"
CONFIG = """<View>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="object" toName="image"><Label value="object"/></BrushLabels>
</View>
"""
SERVED = "/data/local-files/?d="
"""Beginning of the address of a photo in Label Studio's local storage."""

_CHANNELS = 4
_SIZES = (3, 7, 12, 16)
"""Bits of the lengths of runs, of which each run takes one."""


def write_label_studio(chosen: Chosen, out: str) -> str:
    """Write `out`/tasks.json and label_config.xml.

    A task is a photo; its predictions are brush masks with their scores. `data.image` is its address in Label Studio's
    local storage, whose root is to be the images' root (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT), so that photos in
    archives must be unpacked; `data.file_name` and the masks' ids are how `import_labels.py` knows them again.
    """
    check_writable(out, FILE_NAME, CONFIG_NAME)
    path = f"{out.rstrip('/')}/{FILE_NAME}"
    with write_text(f"{out.rstrip('/')}/{CONFIG_NAME}") as opened:
        opened.write(CONFIG)
    with write_text(path) as opened:
        opened.write("[")
        for number, photo in enumerate(chosen.photos()):
            opened.write(("\n" if number == 0 else ",\n") + json.dumps(_task(photo), allow_nan=False))
        opened.write("\n]\n")
    return path


def _task(photo: Photo) -> dict[str, Any]:
    row = photo.row
    data = {"image": SERVED + quote(row["file_name"]), "file_name": row["file_name"], "image_id": row["image_id"]}
    prediction = {
        "model_version": "aopsam",
        "score": max((mask.score for mask in photo.masks), default=0.0),
        "result": [_result(mask) for mask in photo.masks],
    }
    return {"id": photo.number, "data": data, "predictions": [prediction]}


def _result(mask: Mask) -> dict[str, Any]:
    height, width = mask.hw
    return {
        "id": mask_id(mask.number),
        "type": "brushlabels",
        "from_name": "object",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": mask.score,
        "value": {"format": "rle", "rle": brush_rle(mask).tolist(), "brushlabels": ["object"]},
        "meta": {"parent": None if mask.parent is None else mask_id(mask.parent)},
    }


def mask_id(number: int) -> str:
    """Return the id of a mask in its task, by its place in the labels' row."""
    return f"mask-{number}"


def brush_rle(mask: Mask) -> npt.NDArray[np.uint8]:
    """Return a mask as Label Studio's brush code: bytes (thi.ng's rle-pack) of height x width pixels RGBA, 0 or 255."""
    by_row = np.ascontiguousarray(rle.decode(mask.record["segmentation"])).ravel()
    ends = np.flatnonzero(np.diff(by_row, append=~by_row[-1])) + 1
    lengths = np.diff(ends, prepend=0) * _CHANNELS
    values = np.where(by_row[ends - 1], 255, 0)
    # A run holds at most 2^16 values: longer ones are several.
    most = 1 << _SIZES[-1]
    pieces = -(-lengths // most)
    values = np.repeat(values, pieces)
    split = np.full(len(values), most)
    split[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * most
    size = np.searchsorted([1 << bits for bits in _SIZES], split)
    header = [(by_row.size * _CHANNELS, 32), (8 - 1, 5), *((bits - 1, 4) for bits in _SIZES)]
    # Of a run: that it is one, which size its length has, its length less 1, its value.
    fields = np.stack([np.ones_like(split), size, split - 1, values], axis=1).ravel()
    widths = np.stack(
        [np.full_like(split, 1), np.full_like(split, 2), np.array(_SIZES)[size], np.full_like(split, 8)], axis=1
    ).ravel()
    numbers, bits = zip(*header, strict=True)
    return np.packbits(_bits(np.concatenate([numbers, fields]), np.concatenate([bits, widths])))


def _bits(numbers: npt.NDArray[np.int64], widths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Write each number in so many bits, the highest first."""
    shift = np.repeat(np.cumsum(widths), widths) - 1 - np.arange(widths.sum())
    return ((np.repeat(numbers, widths) >> shift) & 1).astype(np.uint8)

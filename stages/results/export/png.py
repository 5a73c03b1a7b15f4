"""Export labels as label maps: for each photo a PNG whose pixels say which mask they belong to."""

from __future__ import annotations

import json

import numpy as np

from stages.results.export.photo_files import file_stem, plain_photo, png
from stages.results.export.selection import Chosen, Photo
from stages.storage.folder import write_folder

MOST_MASKS = 65_534
"""Masks that 16 bits tell apart; some readers take the highest number for "void"."""


def write_png(chosen: Chosen, out: str) -> str:
    """Write `out`/images, `out`/masks and masks.jsonl.

    A mask file has the name of its photo and 16 bits of grey: 0 where there is no mask, else the mask's number from 1,
    whose score and place in the labels' row the photo's line of masks.jsonl tells.

    Raises:
        ValueError: a photo has more masks than 16 bits tell apart.
    """
    with write_folder(out) as folder, folder.open("masks.jsonl") as lines:
        for photo in chosen.photos(encoded=True):
            stem = file_stem(photo)
            encoded, suffix = plain_photo(photo)
            folder.write(f"images/{stem}{suffix}", encoded)
            folder.write(f"masks/{stem}.png", png(_label_map(photo)))
            masks = [
                {"id": number, "mask": mask.number, "score": mask.score, "area": mask.area}
                for number, mask in enumerate(photo.masks, start=1)
            ]
            lines.write(json.dumps({"file": f"masks/{stem}.png", **photo.row, "masks": masks}).encode() + b"\n")
    return out


def _label_map(photo: Photo) -> np.ndarray:
    if len(photo.masks) > MOST_MASKS:
        raise ValueError(f"{photo.row['file_name']!r}: {len(photo.masks)} masks; a map can tell {MOST_MASKS} apart")
    by_column = np.zeros(photo.row["width"] * photo.row["height"], np.uint16)
    for number, mask in enumerate(photo.masks, start=1):
        for start, stop in zip(mask.runs.starts.tolist(), mask.runs.stops.tolist(), strict=True):
            by_column[start:stop] = number
    return np.ascontiguousarray(by_column.reshape(photo.row["width"], photo.row["height"]).T)

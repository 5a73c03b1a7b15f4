"""Export labels as a YOLO segmentation set: photos, a text file of polygons for each, and data.yaml."""

from __future__ import annotations

import numpy as np

from aopsam.masks.outline import joined, outlines
from stages.results.export.photo_files import file_stem, plain_photo
from stages.results.export.selection import Chosen, Mask
from stages.storage.folder import write_folder

DATA_YAML = "path: .\ntrain: images\nval: images\nnames:\n  0: object\n"

INTO_PIXEL = 0.25
"""Place of a point in its pixel, 0 to 1: readers that cut off its fraction (Ultralytics) and readers that round it
(supervision) both come to that pixel, and fill the polygon with its edge as OpenCV does: no side is lost."""


LEAST_IOU = 0.95
"""Between a mask and its polygon; masks below are written, and counted."""


def write_yolo(chosen: Chosen, out: str) -> str:
    """Write `out`/images, `out`/labels and data.yaml.

    A line is a mask: `0 x y x y …`, parts of width and height. The format knows no holes and no parts: both are joined
    to one polygon by a cut (`aopsam.masks.outline.joined`), as Ultralytics' own converter joins parts. So a mask in
    parts that lie far apart, for their size, has no good polygon; `chosen.inexact` counts them. There is no place for
    scores.
    """
    with write_folder(out) as folder:
        for photo in chosen.photos(encoded=True):
            stem = file_stem(photo)
            encoded, suffix = plain_photo(photo)
            folder.write(f"images/{stem}{suffix}", encoded)
            polygons = [_polygon(mask) for mask in photo.masks]
            chosen.inexact += sum(least_iou < LEAST_IOU for _, least_iou in polygons)
            folder.write(f"labels/{stem}.txt", "".join(f"0 {line}\n" for line, _ in polygons).encode())
        folder.write("data.yaml", DATA_YAML.encode())
    return out


def _polygon(mask: Mask) -> tuple[str, float]:
    """Return the points of a mask's polygon as text, and the IoU that it has at least with the mask."""
    left, top, _, _ = mask.bbox_xywh
    line, least_iou = joined(outlines(mask.cropped()))
    points = line + np.array([left, top]) + INTO_PIXEL
    height, width = mask.hw
    shares = np.resize(points, (max(3, len(points)), 2)) / (width, height)  # a pixel or a line has fewer than 3
    return " ".join(f"{share:.6f}" for share in shares.ravel()), least_iou

"""Twelve objects in the project's own sample photos (public domain, `samples/README.md`), outlined by hand."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from aopsam.masks import rle
from aopsam.predictor.interior import interior_point
from aopsam.training.annotated import Annotated
from tests.helpers import ROOT

SAMPLES = ROOT / "samples"

ELLIPSES = {
    "astronaut": [(168, 386, 35, 38)],
    "chelsea": [(170, 116, 36, 30), (320, 137, 23, 27)],
    "coffee": [(290, 112, 117, 95), (366, 285, 39, 40)],
}
"""Middle x and y, half width and half height, in pixels."""
POLYGONS = {
    "astronaut": [
        [(278, 343), (327, 345), (329, 374), (281, 376)],
        [(280, 430), (300, 392), (335, 368), (380, 360), (430, 372), (470, 400), (490, 450), (490, 511), (285, 511)],
        [(185, 92), (230, 85), (265, 95), (270, 120), (255, 170), (240, 188), (205, 185), (188, 160), (178, 115)],
    ],
    "chelsea": [[(232, 228), (262, 232), (291, 231), (282, 250), (258, 265), (248, 250)]],
    "coffee": [
        [
            *[(205, 140), (215, 118), (245, 103), (290, 98), (330, 103), (358, 120)],
            *[(370, 150), (350, 170), (320, 185), (290, 192), (255, 185), (225, 165)],
        ],
        [(197, 300), (200, 270), (215, 232), (255, 235), (240, 290), (222, 308)],
    ],
    "rocket": [
        [
            *[(311, 150), (315, 135), (321, 127), (328, 135), (333, 150), (333, 178)],
            *[(330, 185), (330, 400), (312, 400), (313, 185), (310, 178)],
        ]
    ],
}


def free_photos() -> list[Annotated]:
    """The four photos with their masks and interior points."""
    return [_photo(name) for name in POLYGONS]


def _photo(name: str) -> Annotated:
    rgb = np.asarray(Image.open(SAMPLES / f"{name}.jpg").convert("RGB"))
    masks = []
    for x, y, half_width, half_height in ELLIPSES.get(name, []):
        drawing = Image.new("1", rgb.shape[1::-1])
        ImageDraw.Draw(drawing).ellipse((x - half_width, y - half_height, x + half_width, y + half_height), fill=1)
        masks.append(np.array(drawing))
    for polygon in POLYGONS[name]:
        drawing = Image.new("1", rgb.shape[1::-1])
        ImageDraw.Draw(drawing).polygon(polygon, fill=1)
        masks.append(np.array(drawing))
    points = np.array([interior_point(mask) for mask in masks], dtype=np.float64)
    areas = np.array([mask.sum() for mask in masks], dtype=np.float64)
    return Annotated(name, rgb, [dict(rle.encode(mask)) for mask in masks], points, areas)

"""Large photos are labelled in tiles, each object once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from segment_anything.modeling import Sam

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.sam.encode import encode
from benchmarks.tiling import judge, made_scene


def test_tiles_find_every_object_once(tiny: Sam) -> None:
    """`benchmarks/tiling.py`, smaller."""
    made = made_scene((300, 420), 200, 35)
    generator = AutoMaskGenerator(
        tiny, prompts="grid-7", output_mode="coco_rle", duplicates="mask-nms", mask_nms_thresh=0.5, tile_size=200
    )
    labelled = generator.label(made.rgb)
    rows = judge(made, labelled.records, 200, 0.25)
    assert sum(row["across_seams"] for row in rows) == 2
    assert [row["masks"] for row in rows] == [1] * 4
    assert min(row["iou"] for row in rows) > 0.9
    assert labelled.prompts_decoded == 7 * 49  # six tiles and the whole photo
    joined = [r for r in labelled.records if r["crop_box"][2:] not in ([200, 200], [420, 300])]
    assert joined
    for record in labelled.records:
        assert record["segmentation"]["size"] == [300, 420]


def test_a_photo_no_larger_than_a_tile_is_labelled_as_without_tiles(tiny: Sam, scene: np.ndarray) -> None:
    options = {"prompts": "grid-3", "output_mode": "coco_rle"}
    tiled = AutoMaskGenerator(tiny, tile_size=320, **options).generate(scene)
    assert tiled == AutoMaskGenerator(tiny, **options).generate(scene)


@pytest.mark.parametrize(
    ("sides", "options", "encodings"),
    [
        ((64, 4097), {"prompts": "grid-1"}, 4),  # three tiles of four times the 512 that tiny reads, and the whole
        ((4097, 64), {"prompts": "grid-1"}, 4),
        ((64, 4096), {"prompts": "grid-1"}, 1),
        ((64, 4097), {"prompts": "grid-1", "tile_size": None}, 1),
        ((64, 4097), {"prompts": "grid-1", "tile_size": 4097}, 1),
        ((64, 4097), {"points_per_side": 1}, 1),
        ((64, 4097), {"points_per_side": 1, "tile_size": 4096}, 3),
        ((64, 4097), {"point_grids": [np.full((1, 2), 0.5)]}, 1),
        ((64, 4097), {"prompts": "grid-1", "crop_n_layers": 1}, 5),
    ],
)
def test_large_photos_are_tiled_unless_told_otherwise(
    tiny: Sam, sides: tuple[int, int], options: dict[str, Any], encodings: int
) -> None:
    labelled = AutoMaskGenerator(tiny, **options).label(np.zeros((*sides, 3), np.uint8))
    assert labelled.prompts_decoded == encodings  # one point each


def test_a_large_photo_that_is_encoded_already_is_taken_whole(tiny: Sam) -> None:
    photo = np.zeros((64, 4097, 3), np.uint8)
    encoded = encode(tiny, photo)
    assert AutoMaskGenerator(tiny, prompts="grid-1").label(photo, encoded).prompts_decoded == 1
    assert AutoMaskGenerator(tiny, prompts="grid-1", tile_size=4096).label(photo, encoded).prompts_decoded == 3

"""Instance files of COCO's and LVIS's kind: every form of mask, and what is broken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from aopsam.masks import rle
from aopsam.photos.instances import file_name, read_instances
from aopsam.photos.sa1b import Sample

SQUARE = np.zeros((20, 30), bool)
SQUARE[5:15, 10:22] = True


def image(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.jpg", "width": 30, "height": 20} | more


def annotation(segmentation: Any, of: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": of, "category_id": 3, "segmentation": segmentation} | more


def read(images: list[Any], annotations: list[Any]) -> tuple[list[Sample], list[str]]:
    problems: list[str] = []
    record = {"images": images, "annotations": annotations}
    return list(read_instances(record, lambda name: name.encode(), problems.append)), problems


def test_polygons_and_both_kinds_of_run_lengths_are_the_same_mask() -> None:
    polygon = [[10, 5, 22, 5, 22, 15, 10, 15]]
    uncompressed = {"size": [20, 30], "counts": rle.runs(rle.encode(SQUARE)).tolist()}
    (sample,), problems = read([image(1)], [annotation(p) for p in (polygon, uncompressed, rle.encode(SQUARE))])
    assert not problems
    assert (sample.id, sample.jpeg, sample.width, sample.height) == ("1", b"1.jpg", 30, 20)
    assert all((rle.decode(a["segmentation"]) == SQUARE).all() for a in sample.annotations)
    assert [(a["area"], a["bbox"]) for a in sample.annotations] == [(120, [10, 5, 12, 10])] * 3


def test_polygons_are_drawn_as_pycocotools_draws_them() -> None:
    polygons = [[1.5, 2.0, 12.2, 3.0, 8.0, 17.5], [15.0, 4.0, 29.0, 4.0, 22.0, 12.5, 16.0, 11.0]]
    ((sample,), _) = read([image(1)], [annotation(polygons)])
    drawn = coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 30))
    assert sample.annotations[0]["segmentation"]["counts"] == drawn["counts"].decode()
    assert sample.annotations[0]["area"] == coco_mask.area(drawn)


def test_crowds_and_empty_masks_are_no_objects() -> None:
    nothing = rle.encode(np.zeros((20, 30), bool))
    (sample,), problems = read([image(1)], [annotation(rle.encode(SQUARE), iscrowd=1), annotation(nothing)])
    assert (sample.annotations, sample.crowds, problems) == ([], [rle.encode(SQUARE)], [])


def test_the_area_that_the_file_gives_is_kept_apart() -> None:
    polygon = [[10, 5, 22, 5, 22, 15, 10, 15]]
    (sample,), _ = read([image(1)], [annotation(polygon, area=119.5), annotation(polygon, area="large")])
    assert [(a["area"], a.get("declared_area")) for a in sample.annotations] == [(120, 119.5), (120, None)]


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 2, 3, 4]], "at least 3 points"),
        ([[1, 2, 3, 4, 5, float("nan")]], "not finite"),
        ([["a", 2, 3, 4, 5, 6]], "float"),
        ([], "polygons or an RLE"),
        (None, "polygons or an RLE"),
        ({"size": [20, 30], "counts": [5, 5]}, "add up to 10"),
        ({"size": [20, 30], "counts": "zzz"}, ""),
        (rle.encode(np.ones((4, 4), bool)), "[4, 4]"),
    ],
)
def test_a_broken_mask_costs_its_annotation(segmentation: Any, words: str) -> None:
    good = annotation(rle.encode(SQUARE))
    (sample,), problems = read([image(1)], [annotation(segmentation), good])
    assert len(sample.annotations) == 1
    assert len(problems) == 1
    assert problems[0].startswith("1.jpg: annotation 7: ")
    assert words in problems[0]


def test_far_points_are_drawn_up_to_the_edge() -> None:
    ((sample,), problems) = read([image(1)], [annotation([[-1e12, -1e12, 1e12, -1e12, 1e12, 1e12, -1e12, 1e12]])])
    assert not problems
    assert sample.annotations[0]["area"] == 600


def test_a_broken_image_costs_itself() -> None:
    images = [image(1, width=0), image(2, file_name=None), image(3, file_name="../x.jpg"), {"id": 4}, image(5)]
    images += [7, image(8, height=float("inf")), image([9])]
    samples, problems = read(images, [])
    assert [sample.id for sample in samples] == ["5"]
    assert len(problems) == 7


def test_what_is_no_annotation_costs_itself() -> None:
    good = annotation(rle.encode(SQUARE))
    (sample,), problems = read([image(1)], ["x", {"image_id": [1]}, good])
    assert len(sample.annotations) == 1
    assert len(problems) == 2


def test_lvis_names_photos_by_their_url() -> None:
    assert file_name({"coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg"}) == "000000397133.jpg"


@pytest.mark.parametrize("record", [{}, {"images": []}, {"images": {}, "annotations": []}])
def test_another_file_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no instance file"):
        list(read_instances(record, lambda name: b"", lambda line: None))

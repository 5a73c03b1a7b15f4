"""Instance files of COCO's and LVIS's kind: every form of mask, and what is broken."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
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


def read(images: list[Any], annotations: list[Any], photo: bytes | None = None) -> tuple[list[Sample], list[str]]:
    problems: list[str] = []
    record = {"images": images, "annotations": annotations}
    return list(read_instances(record, lambda name: photo or name.encode(), problems.append)), problems


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


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
    assert (sample.annotations, sample.crowds) == ([], [rle.encode(SQUARE)])
    (problem,) = problems
    assert problem.startswith("1.jpg: 1 of 2 annotations are left out: masks without a pixel")


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


@pytest.mark.parametrize(
    ("of_image", "image_id"),
    [
        (1, "1"),
        ("1", 1),
        (1, 1.0),
        (1.0, "1"),
        ("1.0", 1),
        (1, " 1 "),
        ("x-1", "x-1"),
        ("007", 7),
        (7, "007"),
        (-1, "-1"),
    ],
)
def test_text_number_and_float_are_one_id(of_image: Any, image_id: Any) -> None:
    images = [image(1) | {"id": of_image}, image(2) | {"id": "other"}]
    samples, problems = read(images, [annotation(rle.encode(SQUARE), of=image_id)])
    assert [len(sample.annotations) for sample in samples] == [1, 0]
    assert not problems


def test_zeros_in_front_are_another_id_where_both_are_there() -> None:
    images = [image(1) | {"id": "07"}, image(2) | {"id": 7}]
    mask = rle.encode(SQUARE)
    samples, problems = read(images, [annotation(mask, of="07"), *[annotation(mask, of=7)] * 2])  # type: ignore[arg-type]
    assert [len(sample.annotations) for sample in samples] == [1, 2]
    assert not problems
    _, (problem,) = read(images, [annotation(mask, of="007")])  # type: ignore[arg-type]
    assert "belong to no image" in problem


@pytest.mark.parametrize("image_id", [101, "x", None, 1.5, float("nan"), True, [1], 2.0**60])
def test_annotations_of_no_image_are_counted(image_id: Any) -> None:
    mask = rle.encode(SQUARE)
    (sample,), (problem,) = read([image(1)], [annotation(mask), *[annotation(mask, of=image_id)] * 3])
    assert len(sample.annotations) == 1
    assert problem.startswith("3 of 4 annotations belong to no image")
    assert repr(image_id) in problem


def test_images_of_one_id_are_refused() -> None:
    mask = rle.encode(SQUARE)
    images = [image(1), image(2) | {"id": "1"}, image(3)]
    (sample,), (problem,) = read(images, [annotation(mask), annotation(mask), annotation(mask, of=3)])
    assert (sample.id, len(sample.annotations)) == ("3", 1)
    assert problem.startswith("2 images share their id")
    assert "their 2 annotations" in problem


def test_a_photo_of_two_images_is_read_once_with_the_annotations_of_both() -> None:
    mask, other = annotation(rle.encode(SQUARE)), annotation([[1, 1, 9, 1, 9, 9]], of=2)
    images = [image(1), image(2, file_name="1.jpg"), image(3), image(4, file_name="./1.jpg")]
    again = annotation(rle.encode(SQUARE), of=2)
    samples, (problem,) = read(images, [mask, again, other, annotation(mask["segmentation"], of=3)])
    assert [(sample.id, len(sample.annotations)) for sample in samples] == [("1", 2), ("3", 1)]
    assert problem.startswith("2 images name a photo that an earlier one names, such as {")
    assert "1 annotations are equal to others and left out" in problem


def test_a_photo_of_two_sizes_is_not_one() -> None:
    samples, problems = read([image(1), image(2, file_name="1.jpg", width=31)], [])
    assert [sample.width for sample in samples] == [30, 31]  # the photo will tell which is wrong
    assert not problems


@pytest.mark.parametrize("of_image", [None, True, [1], float("nan"), ""])
def test_an_image_without_an_id_is_named(of_image: Any) -> None:
    samples, (problem,) = read([image(1) | {"id": of_image}], [])
    assert not samples
    assert "1.jpg: id " in problem


@pytest.mark.parametrize(
    ("iscrowd", "is_crowd"),
    [
        *[(no, False) for no in ("0", 0.0, None, "", "false", False)],
        *[(yes, True) for yes in (1, "1", 1.0, True, "True")],
    ],
)
def test_what_is_a_crowd(iscrowd: Any, is_crowd: bool) -> None:
    (sample,), problems = read([image(1)], [annotation(rle.encode(SQUARE), iscrowd=iscrowd)])
    assert (len(sample.annotations), len(sample.crowds)) == (int(not is_crowd), int(is_crowd))
    assert not problems


@pytest.mark.parametrize("iscrowd", ["perhaps", 2, [0]])
def test_what_is_neither_crowd_nor_object_is_named(iscrowd: Any) -> None:
    (sample,), (problem,) = read([image(1)], [annotation(rle.encode(SQUARE), iscrowd=iscrowd)])
    assert not sample.annotations
    assert not sample.crowds
    assert f"iscrowd {iscrowd!r}; it must be 0 or 1" in problem


@pytest.mark.parametrize("sides", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}, {"width": 30}])
def test_a_size_that_is_not_given_is_the_photos(sides: dict[str, Any]) -> None:
    given = {"id": 1, "file_name": "1.png"} | sides
    (sample,), problems = read([given], [annotation(rle.encode(SQUARE))], png(30, 20))
    assert (sample.width, sample.height, len(sample.annotations)) == (30, 20, 1)
    assert not problems


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ({"width": 60}, "30 x 20 pixels"),
        ({"width": 30.5, "height": 20}, "width 30.5"),
        ({"width": "?"}, "width '?'"),
        ({"width": 30, "height": True}, "height True"),
        ({"width": -3, "height": 20}, "width -3"),
    ],
)
def test_a_size_that_cannot_be_is_named(sides: dict[str, Any], words: str) -> None:
    samples, (problem,) = read([{"id": 1, "file_name": "1.png"} | sides], [], png(30, 20))
    assert not samples
    assert words in problem


def test_a_broken_polygon_costs_itself() -> None:
    square = [10, 5, 22, 5, 22, 15, 10, 15]
    bad: list[Any] = [[1, 2], [1, 2, 3, 4, 5, float("inf")], "123456", 7, [], [None] * 6]
    (sample,), (problem,) = read([image(1)], [annotation([bad[0], square, *bad[1:]])])
    assert (rle.decode(sample.annotations[0]["segmentation"]) == SQUARE).all()
    assert problem.startswith("1.jpg: annotation 7: 6 of 7 polygons left out: a polygon of 2 numbers")


def test_windows_names_have_ids_like_others() -> None:
    samples, problems = read([image(1, file_name="images\\a.jpg"), image(2, file_name=".\\b\\c.jpg")], [])
    assert [sample.id for sample in samples] == ["images/a", "./b/c"]
    assert not problems


@pytest.mark.parametrize("name", ["..\\a.jpg", "b\\..\\..\\a.jpg", "\\a.jpg", "C:\\a.jpg", "/a.jpg", "b/../../a.jpg"])
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="leaves the photos' folder"):
        file_name({"id": 1, "file_name": name})


def test_what_the_caller_leaves_out_needs_no_line() -> None:
    problems: list[str] = []
    record = {"images": [image(1), image(2)], "annotations": []}
    samples = read_instances(record, lambda name: None if name == "1.jpg" else b"x", problems.append)
    assert [sample.id for sample in samples] == ["2"]
    assert not problems


def deep(levels: int = 5000) -> Any:
    value: Any = 7
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("field", ["id", "iscrowd", "segmentation", "area"])
def test_deep_values_cost_their_annotation_at_most(field: str) -> None:
    good = annotation(rle.encode(SQUARE))
    (sample,), problems = read([image(1)], [good | {field: deep()}, good])
    assert len(sample.annotations) == 2 - len(problems)
    assert len(problems) == (field in ("iscrowd", "segmentation"))


@pytest.mark.parametrize("field", ["id", "file_name", "coco_url", "width"])
def test_deep_values_cost_their_image_at_most(field: str) -> None:
    samples, problems = read([image(1), image(2, file_name=None) | {field: deep()}, deep()], [])
    assert [sample.id for sample in samples] == ["1"]
    assert len(problems) == 2


def test_the_line_of_a_broken_image_counts_its_annotations() -> None:
    mask = rle.encode(SQUARE)
    _, (problem,) = read([image(1, width=-1), image(2)], [annotation(mask), annotation(mask), annotation(mask, of=2)])
    assert problem.endswith("its 2 annotations are left out with it")


def test_uncompressed_runs_of_another_size_are_refused() -> None:
    turned = {"size": [30, 20], "counts": rle.runs(rle.encode(SQUARE)).tolist()}
    (sample,), (problem,) = read([image(1)], [annotation(turned)])
    assert not sample.annotations
    assert "mask of [30, 20] [h, w], photo of [20, 30]" in problem
    (sample,), problems = read([image(1)], [annotation({"counts": turned["counts"]})])
    assert len(sample.annotations) == 1
    assert not problems


def test_run_lengths_are_whole_numbers() -> None:
    (sample,), (problem,) = read([image(1)], [annotation({"size": [20, 30], "counts": [100.5, 400, 100.5]})])
    assert not sample.annotations
    assert "no whole numbers" in problem


@pytest.mark.parametrize("area", [10**400, float("inf"), float("nan"), [1], True])
def test_an_area_that_is_no_number_costs_nothing(area: Any) -> None:
    (sample,), problems = read([image(1)], [annotation(rle.encode(SQUARE), area=area)])
    assert "declared_area" not in sample.annotations[0]
    assert not problems


def test_a_polygon_of_endless_edges_is_not_drawn() -> None:
    zigzag = [0, 0, 60_000, 30_000] * 100_000
    (sample,), (problem,) = read([image(1, width=60_000, height=30_000)], [annotation([zigzag])])
    assert not sample.annotations
    assert "a polygon whose edges are" in problem


def test_names_and_lines_are_valid_text() -> None:
    images = [image(1, file_name="\udce4.jpg"), image(2, file_name="\ud800\n.jpg", width=-1)]
    (sample,), (problem,) = read(images, [], b"x")
    assert sample.id == r"\udce4"
    assert problem.encode().decode().splitlines() == [problem]

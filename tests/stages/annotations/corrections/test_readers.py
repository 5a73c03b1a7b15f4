from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from aopsam.masks import rle
from stages.annotations.corrections import corrected
from stages.annotations.corrections.bring_back import READERS
from stages.annotations.corrections.cvat import read_cvat
from stages.annotations.corrections.label_studio import read_label_studio
from stages.config.selection import Selection
from stages.results.export.label_studio import brush_rle
from stages.results.export.selection import select
from tests.helpers.made_labels import disc, label_row, mask_record


def xml(shape: str) -> bytes:
    return f'<annotations><image id="0" name="a" width="8" height="6">{shape}</image></annotations>'.encode()


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        ('<mask rle="48" left="0" top="0" width="9" height="6"/>', "leaves the photo"),
        ('<mask rle="48" left="-1" top="0" width="8" height="6"/>', "leaves the photo"),
        ('<mask rle="47" left="0" top="0" width="8" height="6"/>', "add up to 47, not to 8 x 6"),
        ('<mask rle="50,-2" left="0" top="0" width="8" height="6"/>', "add up to 48"),
        ('<mask left="0" top="0" width="8" height="6"/>', "no 'rle'"),
        (f'<mask rle="{10**30}" left="0" top="0" width="8" height="6"/>', "too large"),
        ('<mask rle="x" left="0" top="0" width="8" height="6"/>', "invalid literal"),
        ('<polygon points="1,2;x,3"/>', "could not convert"),
        ('<box xtl="1" ytl="1" xbr="2" ybr="2"/>', "a box is no mask"),
    ],
)
def test_a_shape_of_cvat_that_cannot_be_used_is_a_fault_of_its_photo(shape: str, fault: str) -> None:
    (photo,) = read_cvat(xml(shape))
    assert photo.shapes == []
    assert len(photo.faults) == 1
    assert fault in photo.faults[0]


def test_a_photo_of_cvat_beyond_any_size_is_a_fault() -> None:
    shape = xml('<mask rle="1" left="0" top="0" width="1" height="1"/>')
    (photo,) = read_cvat(shape.replace(b'width="8" height="6"', b'width="65000" height="65000"'))
    assert "a photo of '65000' x '65000' pixels; it may have 1 to" in photo.faults[0]


def test_polygons_and_places_of_cvat() -> None:
    polygon = '<polygon points="1.5,2;4,2;4,5"><attribute name="score">7</attribute>'
    (photo,) = read_cvat(
        xml(f'{polygon}<attribute name="mask">12</attribute></polygon><polygon points="0,0;8,0;8,6"/>')
    )
    assert [shape.segmentation for shape in photo.shapes] == [[[1.5, 2, 4, 2, 4, 5]], [[0, 0, 8, 0, 8, 6]]]
    assert [shape.mask for shape in photo.shapes] == [12, None]


def task(**region: Any) -> bytes:
    result = {"id": "r", "type": "brushlabels", "original_width": 8, "original_height": 6, "value": {}} | region
    return json.dumps([{"data": {"file_name": "a"}, "annotations": [{"result": [result]}]}]).encode()


def brush() -> list[int]:
    (mask,) = select(label_row("a", "a", 8, 6, [mask_record(disc(6, 8, 4, 3, 2), (4, 3))]), Selection())
    return brush_rle(mask).tolist()


@pytest.mark.parametrize(
    ("region", "fault"),
    [
        ({"value": {"rle": brush()[:-3]}}, "ends early"),
        ({"value": {"rle": brush()}, "original_width": 9}, "holds 192 values of 8 bits, not 216"),
        ({"value": {"rle": [999]}}, "no list of bytes"),
        ({"value": {"rle": "x"}}, "no list of bytes"),
        ({"original_height": 10**9}, "a photo of 8 x 1000000000 pixels; it may have"),
        ({"original_height": 199_999_999, "original_width": 2}, "it may have 1 to"),
        ({"type": "rectanglelabels"}, "is no mask"),
        ({"value": None}, "no region"),
        ({"value": {"rle": brush()}, "image_rotation": 90}, "was turned"),
    ],
)
def test_a_region_that_cannot_be_used_is_a_fault_of_its_photo(region: dict[str, Any], fault: str) -> None:
    (photo,) = read_label_studio(task(**region))
    assert photo.shapes == []
    assert fault in photo.faults[0]


def test_polygons_of_label_studio_are_in_percent() -> None:
    region = {"type": "polygonlabels", "value": {"points": [[25, 50], [100, 50], [100, 100]]}, "id": "mask-4"}
    (photo,) = read_label_studio(task(**region))
    assert photo.shapes[0].segmentation == [[2, 3, 8, 3, 8, 6]]
    assert photo.shapes[0].mask == 4


def test_brushes_come_back(tmp_path: object) -> None:
    (photo,) = read_label_studio(task(value={"format": "rle", "rle": brush()}))
    np.testing.assert_array_equal(rle.decode(photo.shapes[0].segmentation), disc(6, 8, 4, 3, 2))


def test_a_task_without_a_file_name_is_known_by_its_address() -> None:
    tasks = [{"data": {"image": "/data/local-files/?d=b/c%20%231.png"}, "annotations": [{"result": []}]}]
    assert [photo.file_name for photo in read_label_studio(json.dumps(tasks).encode())] == ["b/c #1.png"]


def test_tasks_that_nobody_annotated_are_not_corrected() -> None:
    tasks = [
        {"data": {"file_name": "a"}, "predictions": [{"result": []}]},
        {"data": {"file_name": "b"}, "annotations": []},
    ]
    assert read_label_studio(json.dumps(tasks).encode()) == []


def test_a_file_over_the_limit_is_not_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert corrected.read_file(str(tmp_path / "x")) == b"12345"
    monkeypatch.setattr(corrected, "MAX_BYTES", 4)
    with pytest.raises(ValueError, match="5 bytes, over the limit of 4"):
        corrected.read_file(str(tmp_path / "x"))


@pytest.mark.parametrize("tool", READERS)
def test_damaged_files_are_read_or_end_with_a_value_error(tool: str) -> None:
    coco = {
        "images": [{"id": 1, "file_name": "a"}],
        "annotations": [{"image_id": 1, "segmentation": [[1, 2, 3]], "id": 4}],
    }
    sound = {
        "coco": json.dumps(coco).encode(),
        "cvat": xml(
            '<mask rle="3,45" left="0" top="0" width="8" height="6"><attribute name="mask">1</attribute></mask>'
        ),
        "label-studio": task(value={"format": "rle", "rle": brush()}),
    }[tool]
    rng = random.Random(0)
    read = 0
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice(b'0129-.,"[]{}<>/ax\x00\xff')
        try:
            read += bool(READERS[tool](bytes(damaged)))
        except (ValueError, RecursionError):
            continue
    assert 0 < read < 300

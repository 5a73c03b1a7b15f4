"""COCO's instance files, nearly sound: each image and each annotation is read or counted in a line."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aopsam.masks import rle
from aopsam.photos.instances import read_instances
from aopsam.photos.sa1b import Sample
from stages.annotations.read import read_annotated
from tests.helpers.mutations import check_lines, damaged, limited, mutated

SIZES = {1: (30, 20), 2: (16, 16), 3: (40, 10)}
"""Width and height of the photos by id."""


def _png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


PHOTOS = {f"{number}.png": _png(*size) for number, size in SIZES.items()}


def _segmentation(form: str, width: int, height: int, box: tuple[int, int, int, int]) -> Any:
    left, top, wide, high = box
    mask = np.zeros((height, width), bool)
    mask[top : top + high, left : left + wide] = True
    if form == "polygon":
        return [[left, top, left + wide, top, left + wide, top + high, left, top + high]]
    compressed = rle.encode(mask)
    return dict(compressed) if form == "compressed" else compressed | {"counts": rle.runs(compressed).tolist()}


@st.composite
def sound_records(draw: st.DrawFn) -> dict[str, Any]:
    images = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        for number, (width, height) in SIZES.items()
    ]
    annotations = []
    for number in range(draw(st.integers(1, 5))):
        of_image = draw(st.sampled_from(list(SIZES)))
        width, height = SIZES[of_image]
        box = (number, draw(st.integers(0, 3)), draw(st.integers(1, width - number)), draw(st.integers(1, height - 3)))
        form = draw(st.sampled_from(["polygon", "compressed", "counts"]))
        annotations.append(
            {
                "id": number + 10,
                "image_id": of_image,
                "iscrowd": int(draw(st.integers(0, 9)) == 0),
                "area": box[2] * box[3],
                "bbox": list(box),
                "segmentation": _segmentation(form, width, height, box),
            }
        )
    return {"images": images, "annotations": annotations}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    """Draw a sound file and what became of it; objects that did not change are the same ones in both."""
    sound = draw(sound_records())
    return sound, draw(mutated(st.just(sound)))


def counted_images(lines: Sequence[str]) -> int:
    """Return how many images the lines account for."""
    several = r"(\d+) images (?:share their id|name a photo that)"
    shared = [int(found[1]) for line in lines if (found := re.search(several, line))]
    return sum(shared) + sum(bool(_IMAGE.search(line)) for line in lines)


_IMAGE = re.compile(r"its (\d+) annotations are left out with it")
_COUNTS = (
    r"(\d+) annotations are left out: no objects",
    r"(\d+) of \d+ annotations belong to no image",
    r"(\d+) of \d+ annotations are left out: masks without a pixel",
    r"they and their (\d+) annotations are left out",
    r"(\d+) annotations are equal to others",
    _IMAGE.pattern,
)


def counted_annotations(lines: Sequence[str]) -> int:
    """Return how many annotations the lines account for."""
    single = sum(bool(re.search(r": annotation (?!.*polygons left out)", line)) for line in lines)
    return single + sum(int(found[1]) for line in lines for each in _COUNTS if (found := re.search(each, line)))


def _key(value: Any) -> Any:
    """Return an id so that whatever may be the same id is the same; more may be than is."""
    try:
        return Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError, RecursionError):
        return str(type(value)) if isinstance(value, list | dict) else str(value).strip()


def assert_untouched_are_read(
    sound: dict[str, Any], record: dict[str, Any], samples: Sequence[Sample], lines: Sequence[str]
) -> None:
    """Each annotation that did not change, of an image that did not, is among the samples with its own box."""
    keys = [_key(image.get("id")) for image in record["images"] if isinstance(image, dict)]
    for annotation in sound["annotations"]:
        image = sound["images"][annotation["image_id"] - 1]
        kept = any(image is each for each in record["images"]) and keys.count(_key(image["id"])) == 1
        times = sum(annotation is each for each in record["annotations"])
        if not (kept and times):
            continue
        of_image = [each for each in samples if each.id == str(image["id"])]
        if annotation["iscrowd"]:
            boxes = [list(rle.bbox_xywh(mask)) for sample in of_image for mask in sample.crowds]
        else:
            boxes = [each["bbox"] for sample in of_image for each in sample.annotations]
        joined = any("name a photo that" in line for line in lines)  # equal ones are read once there
        assert boxes.count(annotation["bbox"]) >= (1 if joined else times)


@given(pairs())
def test_records(pair: tuple[dict[str, Any], Any]) -> None:
    sound, record = pair
    lines: list[str] = []
    left_out = []

    def read_photo(name: str) -> bytes | None:
        if name not in PHOTOS:
            left_out.append(name)
        return PHOTOS.get(name)

    if not isinstance(record, dict):
        return
    try:
        with limited():
            samples = list(read_instances(record, read_photo, lines.append))
    except ValueError:
        assert not all(isinstance(record.get(name), list) for name in ("images", "annotations"))
        return
    check_lines(lines)
    check_samples(samples)
    assert len(samples) + len(left_out) + counted_images(lines) == len(record["images"])
    if not left_out:
        used = sum(len(sample.annotations) + len(sample.crowds) for sample in samples)
        assert used + counted_annotations(lines) == len(record["annotations"])
    assert_untouched_are_read(sound, record, samples, lines)


def check_samples(samples: Sequence[Sample]) -> None:
    for sample in samples:
        sample.id.encode()  # it becomes a column of text
        for annotation in sample.annotations:
            mask = rle.decode(annotation["segmentation"])
            assert mask.shape == (sample.height, sample.width)
            assert mask.sum() == annotation["area"] > 0
            assert 0 < annotation.get("declared_area", 1) < float("inf")
        assert all(rle.decode(mask).shape == (sample.height, sample.width) for mask in sample.crowds)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert all(repr(value) == repr(dict(pairs)[key]) for key, value in pairs)
    return dict(pairs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    for name, photo in PHOTOS.items():
        (folder / name).write_bytes(photo)
    return folder


@given(data=st.data())
def test_files(folder: Path, data: st.DataObject) -> None:
    """A file that is damaged, too: nothing is raised; without a line, each image and annotation is there."""
    record = data.draw(mutated(sound_records()))
    try:
        encoded = json.dumps(record, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError):  # Python writes no numbers of more than 4,300 digits
        return
    if data.draw(st.booleans()):
        encoded = data.draw(damaged(encoded))
    (folder / "train.json").write_bytes(encoded)
    lines: list[str] = []
    with limited():
        samples = list(read_annotated(str(folder / "train.json"), lines.append))
    check_lines(lines)
    check_samples(samples)
    if not lines:
        read = json.loads(encoded, object_pairs_hook=_without_repeats)
        assert len(samples) == len(read["images"])
        used = sum(len(sample.annotations) + len(sample.crowds) for sample in samples)
        assert used == len(read["annotations"])

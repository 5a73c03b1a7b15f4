"""COCO's run lengths, nearly sound: refused, or what a slow plain reader and pycocotools make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from aopsam.masks import rle
from aopsam.photos.instances import read_instances
from tests.helpers.mutations import check_lines, limited, mutated

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


def _write(number: int, groups: int) -> str:
    """Write a number in so many groups of five bits, which may be more than it needs, or fewer."""
    bits = [number >> 5 * place & 31 for place in range(groups)]
    return "".join(chr(48 + value + 32 * (place < groups - 1)) for place, value in enumerate(bits))


@st.composite
def counts(draw: st.DrawFn) -> tuple[list[int], str, list[int]]:
    """Draw a size, `counts`, and the run lengths that were meant."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    ends = [*sorted(draw(st.lists(st.integers(0, height * width), max_size=8))), height * width]
    lengths = [int(length) for length in np.diff([0, *ends])]
    written = ""
    for place, length in enumerate(lengths):
        number = length - lengths[place - 2] if place > 2 else length
        enough = next(groups for groups in range(1, 9) if -(1 << 5 * groups - 1) <= number < 1 << 5 * groups - 1)
        written += _write(number, draw(st.integers(enough, 9)) if draw(st.integers(0, 5)) == 0 else enough)
    return [height, width], written, lengths


@st.composite
def odd_counts(draw: st.DrawFn) -> tuple[list[int], str]:
    """Draw `counts` with other characters in some places, other numbers, or of another size."""
    size, written, _ = draw(counts())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(written)))
        piece = draw(st.one_of(st.text("0123456789:;<=>?@ABCNOPQ_`klmno", max_size=4), st.text(max_size=2)))
        if draw(st.booleans()):
            number = draw(st.integers(-(2**35), 2**35) | st.integers(-150, 150) | st.just(2**32))
            piece = _write(number, draw(st.integers(1, 8)))
        written = written[:at] + piece + written[at + draw(st.integers(0, 3)) :]
    return draw(st.sampled_from([size, size, size[::-1], [size[0], size[1] + 1]])), written


def _read_slowly(size: list[int], written: str) -> list[int] | None:
    """Return the run lengths of `counts`; None for what is none: COCO's `rleFrString`, with checks."""
    lengths: list[int] = []
    number = groups = 0
    for character in written:
        value = ord(character) - 48
        if not 0 <= value < 64:
            return None
        number |= (value & 31) << 5 * groups
        groups += 1
        if value & 32:
            continue
        if value & 16:
            number -= 1 << 5 * groups
        # C shifts an `int` here: 7 groups hold no negative number, 8 none.
        if groups > 7 or (groups == 7 and number < 0):
            return None
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = groups = 0
    sound = groups == 0 and lengths and min(lengths) >= 0 and sum(lengths) == size[0] * size[1]
    return lengths if sound else None


@given(counts())
def test_sound(drawn: tuple[list[int], str, list[int]]) -> None:
    size, written, lengths = drawn
    assert _read_slowly(size, written) in (lengths, None)
    check({"size": size, "counts": written})


@given(odd_counts())
def test_odd(drawn: tuple[list[int], str]) -> None:
    check({"size": drawn[0], "counts": drawn[1]})


def check(mask: dict[str, Any]) -> None:
    expected = _read_slowly(mask["size"], mask["counts"])
    try:
        with limited():
            lengths = rle.runs(mask).tolist()
    except ValueError:
        assert expected is None
        return
    assert lengths == expected
    bitmap = rle.decode(mask)
    assert (bitmap == np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(mask["size"], order="F")).all()
    # What is sound may be given to C.
    assert (coco_mask.decode(mask) == bitmap).all()
    assert coco_mask.area(mask) == rle.area(mask) == bitmap.sum()
    if bitmap.any():
        assert coco_mask.toBbox(mask).tolist() == list(rle.bbox_xywh(mask))
    assert coco_mask.iou([mask], [rle.encode(bitmap)], [0]).item() == (1 if bitmap.any() else 0)
    assert (rle.decode(rle.encode(bitmap)) == bitmap).all()


@st.composite
def segmentations(draw: st.DrawFn) -> Any:
    size, written, lengths = draw(counts())
    numbers = st.floats(-5, 20) | st.integers(-5, 20)
    polygons = st.lists(st.lists(numbers, min_size=6, max_size=12), min_size=1, max_size=3)
    sound = st.sampled_from([{"size": size, "counts": written}, {"size": size, "counts": lengths}]) | polygons
    return size, draw(mutated(sound, most=3))


@given(segmentations())
def test_whatever_reaches_pycocotools(drawn: tuple[list[int], Any]) -> None:
    """A segmentation of an instance file, compressed, as a list or as polygons, is a mask of the photo or a line."""
    (height, width), segmentation = drawn
    lines: list[str] = []
    record = {
        "images": [{"id": 1, "file_name": "1.png", "width": width, "height": height}],
        "annotations": [{"id": 1, "image_id": 1, "segmentation": segmentation}],
    }
    with limited():
        (sample,) = read_instances(record, lambda name: b"", lines.append)
    check_lines(lines)
    if not sample.annotations:
        assert lines
        return
    assert len(lines) == ("polygons left out" in "".join(lines))
    mask = sample.annotations[0]["segmentation"]
    assert rle.decode(mask).shape == (height, width)
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
        assert rle.runs(mask).tolist() == [int(count) for count in segmentation["counts"]]
        assert segmentation.get("size", [height, width]) == [height, width]

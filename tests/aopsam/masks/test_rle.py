from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from aopsam.masks import rle
from aopsam.masks.runs import Runs

RNG = np.random.default_rng(0)


def made_masks() -> list[np.ndarray]:
    """Masks of every awkward shape: one pixel, one row, one column, full, empty, noise, blobs."""
    masks = [np.zeros((1, 1), bool), np.ones((1, 1), bool), np.zeros((5, 3), bool), np.ones((5, 3), bool)]
    for height, width in [(1, 40), (40, 1), (7, 9), (64, 48)]:
        for share in (0.02, 0.5, 0.98):
            masks.append(RNG.random((height, width)) < share)
    disc = np.hypot(*np.mgrid[-200:200, -300:300]) < 150
    frame = ~np.pad(np.ones((3, 4), bool), 3)
    last_pixel = np.zeros((300, 200), bool)
    last_pixel[-1, -1] = True
    return [*masks, disc, frame, last_pixel, ~last_pixel]


@pytest.mark.parametrize("mask", made_masks(), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
def test_agrees_with_pycocotools(mask: np.ndarray) -> None:
    encoded = rle.encode(mask)
    reference = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encoded == {"size": list(mask.shape), "counts": reference["counts"].decode()}
    decoded = rle.decode(encoded)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)
    assert rle.area(encoded) == mask.sum()
    np.testing.assert_array_equal(rle.decode(reference), mask)  # counts as bytes


@pytest.mark.parametrize("mask", made_masks(), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
def test_box_is_that_of_the_bitmap(mask: np.ndarray) -> None:
    box = rle.bbox_xywh(rle.encode(mask))
    if not mask.any():
        assert box == (0, 0, 0, 0)
        return
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert box == (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)


def test_box_in_segment_anythings_convention() -> None:
    import torch
    from segment_anything.utils.amg import batched_mask_to_box, box_xyxy_to_xywh

    import aopsam  # noqa: F401  (segment-anything needs its torchvision shim)

    for mask in made_masks():
        expected = box_xyxy_to_xywh(batched_mask_to_box(torch.from_numpy(mask)[None])[0]).tolist()
        assert list(rle.sam_bbox_xywh(rle.bbox_xywh(rle.encode(mask)))) == expected


MALFORMED = {
    "no counts": ({"size": [2, 2]}, "compressed string"),
    "list counts": ({"size": [2, 2], "counts": [1, 3]}, "compressed string"),
    "empty": ({"size": [2, 2], "counts": ""}, "empty"),
    "not ascii": ({"size": [2, 2], "counts": "4é"}, "ASCII"),
    "byte below": ({"size": [2, 2], "counts": "4\n"}, "byte 10 at 1"),
    "byte above": ({"size": [2, 2], "counts": "p"}, "byte 112 at 0"),
    "cut": ({"size": [2, 2], "counts": "P"}, "inside a number"),
    "endless number": ({"size": [2, 2], "counts": "o" * 5000 + "0"}, "5001 characters"),
    "negative": ({"size": [2, 2], "counts": "1O4"}, "negative"),
    "too few": ({"size": [2, 2], "counts": "3"}, "add up to 3 pixels"),
    "too many": ({"size": [2, 2], "counts": "5"}, "add up to 5 pixels"),
    "no size": ({"counts": "4"}, "[height, width]"),
    "size of three": ({"size": [2, 2, 1], "counts": "4"}, "[height, width]"),
    "zero": ({"size": [0, 4], "counts": "0"}, "positive"),
    "minus": ({"size": [-2, -2], "counts": "4"}, "positive"),
    "float": ({"size": [2.0, 2.0], "counts": "4"}, "positive"),
    "bool": ({"size": [True, True], "counts": "1"}, "positive"),
    "absurd": ({"size": [10**9, 10**9], "counts": "4"}, "limit"),
    "absurd text": ({"size": "9" * 10**6, "counts": "4"}, "..."),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_is_refused_in_one_line(name: str) -> None:
    bad, expected = MALFORMED[name]
    for read in (rle.decode, rle.area, rle.bbox_xywh):
        with pytest.raises(ValueError) as caught:  # noqa: PT011  (the text is checked below)
            read(bad)
        message = str(caught.value)
        assert expected in message
        assert "\n" not in message
        assert len(message) < 200


def test_a_large_size_is_not_allocated() -> None:
    """A valid RLE of 2 Gpx costs nothing to check, and is refused before its bitmap is made."""
    side = 46_340
    counts = coco.frPyObjects([{"size": [side, side], "counts": [side * side]}], side, side)[0]["counts"]
    large = {"size": [side, side], "counts": counts.decode()}
    assert rle.area(large) == 0
    with pytest.raises(ValueError, match="above the limit"):
        rle.decode(large)


def test_damaged_strings_never_pass_for_another_size() -> None:
    """Random damage either raises ValueError or still decodes to the right number of pixels."""
    encoded = rle.encode(np.hypot(*np.mgrid[-20:20, -30:30]) < 15)
    text = encoded["counts"]
    for _ in range(2000):
        place = int(RNG.integers(len(text)))
        kind = RNG.integers(3)
        if kind == 0:
            damaged = text[:place] + chr(int(RNG.integers(1, 128))) + text[place + 1 :]
        elif kind == 1:
            damaged = text[:place]
        else:
            damaged = text[:place] + text[int(RNG.integers(len(text))) :]
        try:
            decoded = rle.decode({"size": encoded["size"], "counts": damaged})
        except ValueError:
            continue
        assert decoded.shape == (40, 60)


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2)), np.zeros(4, bool), np.zeros((0, 4), bool), np.zeros((1, 2, 2), bool)]
)
def test_encode_refuses_what_is_no_mask(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"mask|RLE"):
        rle.encode(mask)


@pytest.mark.parametrize("hw", [(1, 1), (1, 40), (40, 1), (7, 9), (300, 200), (2000, 3)], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_runs_encode_as_pycocotools_does(hw: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(0).random(hw) < share
    runs = Runs.of_mask(mask)
    assert rle.from_runs(runs) == rle.encode(mask)
    assert runs.area == mask.sum()
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max(), rows.max()) if mask.any() else (0, 0, 0, 0)
    assert runs.box_xyxy_px == box


def test_runs_of_a_mask_larger_than_any_bitmap() -> None:
    hw = (40_000, 53_000)
    runs = Runs(np.array([5, 2**30]), np.array([2**29, 2_119_000_000]), hw, (0, 0, 1, 1))
    lengths = [5, 2**29 - 5, 2**29, 2_119_000_000 - 2**30, 1_000_000]
    encoded = rle.from_runs(runs)
    assert rle.runs(encoded).tolist() == lengths
    assert coco.frPyObjects({"size": list(hw), "counts": lengths}, *hw)["counts"].decode() == encoded["counts"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.97, 1.0])
def test_a_mask_placed_in_a_larger_frame(share: float) -> None:
    mask = np.random.default_rng(1).random((6, 8)) < share
    frame = np.zeros((11, 20), bool)
    frame[3:9, 5:13] = mask
    assert rle.from_runs(Runs.of_mask(mask).placed(5, 3, (11, 20))) == rle.encode(frame)
    assert Runs.of_mask(mask).placed(5, 3, (11, 20)).box_xyxy_px == Runs.of_mask(frame).box_xyxy_px


def test_numbers_that_pycocotools_misreads_are_refused() -> None:
    counts = "".join(_number(number, groups=7) for number in (100, 500, 300))
    assert rle.runs({"size": [10, 100], "counts": counts + _number(-400, groups=6)}).tolist() == [100, 500, 300, 100]
    with pytest.raises(ValueError, match="misread"):
        rle.runs({"size": [10, 100], "counts": counts + _number(-400, groups=7)})


def _number(number: int, groups: int) -> str:
    return "".join(chr(48 + (number >> 5 * place & 31) + 32 * (place < groups - 1)) for place in range(groups))

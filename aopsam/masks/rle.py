"""COCO's compressed run-length encoding of masks: write it, and read it without trusting it.

pycocotools' C code does not check its input: a malformed `counts` makes it read past its buffers, and a `size` of
billions makes it allocate them. Everything here parses the string itself first, in numpy, and works on the runs;
a bitmap is only made on demand and within a limit.

Format (pycocotools, `maskApi.c`): pixels in column order; lengths of alternating runs of 0s and 1s, the first of 0s;
from the fourth run on, the difference to the length two runs before; each number in groups of five bits, least
significant first, one character of code 48 to 111 a group, bit 5 set where another group follows, bit 4 of the last
group the sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from aopsam.masks import kernels
from aopsam.masks.runs import Runs

MOST_RLE_PIXELS = 2**31 - 1
"""Pixels of the largest mask that the format's readers can address (COCO's run lengths and areas are 32-bit)."""

_MAX_GROUPS = 7
"""Groups of five bits in one number: 35 bits hold every difference of two 32-bit run lengths."""


class RLE(TypedDict):
    """A mask as COCO stores it: `size` [height, width] in pixels, `counts` as text."""

    size: list[int]
    counts: str


def encode(mask: npt.NDArray[np.bool_]) -> RLE:
    """Encode a mask.

    Args:
        mask: (H, W) bool.

    Raises:
        ValueError: the array is not two-dimensional bool, has no pixels, or has more than `MOST_RLE_PIXELS`.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is a (H, W) array of bool, not {mask.shape} of {mask.dtype}")
    height, width = mask.shape
    _check_size([height, width])
    rle = coco.encode(np.asfortranarray(mask).view(np.uint8))
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def from_runs(mask: Runs) -> RLE:
    """Encode a mask given by its runs, as pycocotools would; no bitmap is made.

    Raises:
        ValueError: the mask has no pixels, or more than `MOST_RLE_PIXELS`.
    """
    height, width = _check_size(list(mask.hw))
    ends = np.concatenate([np.stack([mask.starts, mask.stops], axis=1).ravel(), [height * width]])
    lengths = np.diff(ends, prepend=0)
    if len(mask.starts) and lengths[-1] == 0:  # the last run reaches the last pixel
        lengths = lengths[:-1]
    return {"size": [height, width], "counts": _write_counts(lengths)}


def runs(rle: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """Return the lengths of the alternating runs of 0s and 1s in column order, 0s first: (R,) int64, none negative.

    This is the whole check of an RLE from elsewhere: what it returns adds up to height x width.

    Args:
        rle: `size` [height, width] and `counts` (str or ASCII bytes) of one mask.

    Raises:
        ValueError: the size is not two positive whole numbers or exceeds `MOST_RLE_PIXELS`, `counts` is no string of
            the format, a run is negative, or the runs do not add up to the size.
    """
    height, width = _check_size(rle.get("size"))
    lengths = _parse_counts(rle.get("counts"))
    # The runs of 1s (odd) each add to the one before; among the runs of 0s the first stands alone.
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    if (lengths < 0).any():
        raise ValueError(f"RLE run {int(np.argmax(lengths < 0))} has the negative length {int(lengths.min())}")
    total = int(lengths.sum())
    if total != height * width:
        raise ValueError(f"RLE runs add up to {total} pixels, its size [{height}, {width}] has {height * width}")
    return lengths


def decode(rle: Mapping[str, Any], max_pixels: int = 2**28) -> npt.NDArray[np.bool_]:
    """Decode a mask that may come from anywhere.

    Args:
        rle: `size` [height, width] and `counts` of one mask.
        max_pixels: refuse to allocate more pixels than this (one byte each).

    Returns:
        (H, W) bool.

    Raises:
        ValueError: the RLE is malformed (see `runs`) or larger than `max_pixels`.
    """
    lengths = runs(rle)
    height, width = rle["size"]
    if height * width > max_pixels:
        raise ValueError(f"RLE size [{height}, {width}] is above the limit of {max_pixels} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def area(rle: Mapping[str, Any]) -> int:
    """Count the pixels of a mask.

    Raises:
        ValueError: the RLE is malformed (see `runs`).
    """
    return int(runs(rle)[1::2].sum())


def bbox_xywh(rle: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return the tight box as COCO counts it: left, top, number of columns, number of rows; 0s for an empty mask.

    Raises:
        ValueError: the RLE is malformed (see `runs`).
    """
    return bbox_of_runs_xywh(runs(rle), height=rle["size"][0])


def bbox_of_runs_xywh(lengths: npt.NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """Return `bbox_xywh` from the runs that `runs` returned for a mask of `height` rows."""
    ends = np.cumsum(lengths)
    is_one = (np.arange(len(lengths)) % 2 == 1) & (lengths > 0)
    if not is_one.any():
        return 0, 0, 0, 0
    first, last = (ends - lengths)[is_one], ends[is_one] - 1
    left, right = int(first[0]) // height, int(last[-1]) // height
    # A run that goes on into the next column touches the bottom of one and the top of the other.
    wraps = first // height != last // height
    top = 0 if wraps.any() else int((first % height).min())
    bottom = height - 1 if wraps.any() else int((last % height).max())
    return left, top, right - left + 1, bottom - top + 1


def sam_bbox_xywh(bbox_xywh_px: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Convert a tight box to segment-anything's: width and height are last index minus first, one less than COCO's.

    segment-anything's `batched_mask_to_box` gives the indices of the first and last column and row, so that a mask of
    one pixel has width and height 0. Our tables keep its records, and so its convention.
    """
    x, y, width, height = bbox_xywh_px
    return x, y, max(width - 1, 0), max(height - 1, 0)


def _check_size(size: Any) -> tuple[int, int]:
    """Return `size` as (height, width), or raise a ValueError."""
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"RLE size must be [height, width], not {_shown(size)}")
    for side in size:
        if isinstance(side, bool) or not isinstance(side, int | np.integer) or side < 1:
            raise ValueError(f"RLE size must be two positive whole numbers, not {_shown(size)}")
    height, width = int(size[0]), int(size[1])
    if height * width > MOST_RLE_PIXELS:
        raise ValueError(f"RLE size [{height}, {width}] has more than {MOST_RLE_PIXELS} pixels, the format's limit")
    return height, width


def _write_counts(lengths: npt.NDArray[np.int64]) -> str:
    """Write the `counts` string of run lengths: what `_parse_counts` reads, differences included."""
    if (compiled := kernels()) is not None:
        written = np.empty(_MAX_GROUPS * len(lengths), np.uint8)
        return written[: compiled.write_counts(lengths, written)].tobytes().decode("ascii")
    numbers = lengths.copy()
    numbers[3:] -= lengths[1:-2]
    shifted = numbers[:, None] >> (5 * np.arange(_MAX_GROUPS))
    # The next group is needed unless all that is left repeats this one's sign bit.
    more = (shifted >> 5) != -((shifted >> 4) & 1)
    written = np.concatenate([np.ones_like(more[:, :1]), np.logical_and.accumulate(more, axis=1)[:, :-1]], axis=1)
    characters = (shifted & 0x1F) + np.where(more, 0x20, 0) + 48
    return characters[written].astype(np.uint8).tobytes().decode("ascii")


def _parse_counts(counts: Any) -> npt.NDArray[np.int64]:
    """Read the numbers of a `counts` string as written (differences not yet added up): (R,) int64."""
    if isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError("RLE counts hold a character that is not ASCII") from None
    if not isinstance(counts, bytes):
        raise ValueError(f"RLE counts must be the compressed string, not {type(counts).__name__}")
    if not counts:
        raise ValueError("RLE counts are empty")
    groups = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    bad = (groups < 0) | (groups > 63)
    if bad.any():
        place = int(np.argmax(bad))
        raise ValueError(f"RLE counts hold the byte {counts[place]} at {place}; allowed are 48 to 111")
    is_last = (groups & 0x20) == 0
    if not is_last[-1]:
        raise ValueError("RLE counts end inside a number")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    n_groups = ends - starts + 1
    if n_groups.max() > _MAX_GROUPS:
        raise ValueError(f"RLE counts hold a number of {int(n_groups.max())} characters; {_MAX_GROUPS} are enough")
    place = np.arange(len(groups)) - np.repeat(starts, n_groups)
    numbers = np.add.reduceat((groups & 0x1F) << (5 * place), starts)
    is_negative = (groups[ends] & 0x10) != 0
    if (is_negative & (n_groups == _MAX_GROUPS)).any():  # C shifts a 32-bit -1 by 35 here: any number may come of it
        raise ValueError(f"RLE counts hold a negative number of {_MAX_GROUPS} characters, which COCO's tools misread")
    return numbers - np.where(is_negative, np.int64(1) << (5 * n_groups), 0)


def _shown(value: Any) -> str:
    """Shorten an untrusted value for a message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."

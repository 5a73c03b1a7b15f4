"""Draw masks over their photo."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from aopsam.masks import rle
from aopsam.masks.runs import Runs

RGB = tuple[float, float, float]
"""A colour, 0 to 255 each."""

Segmentation = Mapping[str, Any] | npt.NDArray[np.bool_]
"""A mask: an RLE, or (h, w) bool."""

FILL = 0.42
"""Share of a mask's colour in the pixels that it covers."""


def overlay(
    rgb: npt.NDArray[np.uint8], records: Sequence[Mapping[str, Any]], colours: Sequence[RGB] | None = None
) -> npt.NDArray[np.uint8]:
    """Draw masks over a photo: filled, outlined, large ones below, and their prompts as dots.

    A pixel takes the colour of the smallest mask that has it, so that the photo stays visible below many.

    The photo may be smaller or larger than the one the masks were made from (a thumbnail): masks and prompts are
    scaled to it, each of its pixels taking the mask's value at its centre.

    Args:
        rgb: (H, W, 3) uint8.
        records: segment-anything's records; `segmentation` as an RLE or a (h, w) bool array, `point_coords` [[x, y]]
            or `box` [x0, y0, x1, y1] in pixels of the segmentation, either may be missing.
        colours: one a record; by default those of `colours_by_size` at the size that is drawn.

    Returns:
        (H, W, 3) uint8, new.

    Raises:
        ValueError: the photo is not (H, W, 3) uint8, or an RLE is malformed.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"a photo is a (H, W, 3) array of uint8, not {rgb.shape} of {rgb.dtype}")
    height, width = rgb.shape[:2]
    masks = [_cut_out(record["segmentation"], height, width) for record in records]
    areas = [int(mask.sum()) for _, mask in masks]
    paints = np.array(colours or colours_by_size(areas), np.float32).reshape(-1, 3)
    # Column by column, as the masks are.
    filled_by, outlined_by = np.full((2, width, height), -1, np.int32).transpose(0, 2, 1)
    for place in sorted(range(len(masks)), key=lambda place: -areas[place]):
        left, mask = masks[place]
        columns = slice(left, left + mask.shape[1])
        filled_by[:, columns][mask] = place
        outlined_by[:, columns][_outline(mask)] = place
    filled_by, outlined_by = np.ascontiguousarray(filled_by), np.ascontiguousarray(outlined_by)
    drawn = rgb.astype(np.float32)
    filled, outlined = filled_by >= 0, outlined_by >= 0
    drawn[filled] += FILL * (paints[filled_by[filled]] - drawn[filled])
    drawn[outlined] = paints[outlined_by[outlined]]
    for record in records:
        _draw_prompt(drawn, record)
    return drawn.round().astype(np.uint8)


def _cut_out(segmentation: Segmentation, height: int, width: int) -> tuple[int, npt.NDArray[np.bool_]]:
    """Resample a mask to (height, width), each pixel taking the value at its centre; an RLE without making its bitmap.

    Returns:
        The first column of a part that holds the whole mask and, as far as there are some, a column more at either
        side; and that part, (height, columns) bool.

    Raises:
        ValueError: an RLE is malformed.
    """
    if isinstance(segmentation, np.ndarray):
        rows, columns = _sampled(*_size(segmentation), height, width)
        return 0, segmentation[np.ix_(rows, columns)]
    runs = resampled_runs(segmentation, height, width)
    narrow = runs.hw[1]
    if not len(runs.starts):
        return 0, np.zeros((height, 1), np.bool_)
    left, right = max(int(runs.starts[0]) // height - 1, 0), min(int(runs.stops[-1] - 1) // height + 2, narrow)
    changes = np.zeros(height * (right - left) + 1, np.int8)
    changes[runs.starts - height * left] = 1
    changes[runs.stops - height * left] -= 1
    part = np.cumsum(changes[:-1], dtype=np.int8).astype(np.bool_).reshape(right - left, height).T
    if narrow == width:
        return left, part
    columns = _sampled(height, narrow, height, width)[1]
    first, end = np.searchsorted(columns, [left, right])
    return int(first), part[:, columns[first:end] - left]


def resampled_runs(segmentation: Mapping[str, Any], height: int, width: int) -> Runs:
    """Resample an RLE by its runs alone: `height` rows, `width` columns or its own if it has fewer, values at centres.

    Raises:
        ValueError: the RLE is malformed.
    """
    lengths = rle.runs(segmentation)
    width = min(width, segmentation["size"][1])  # twice the same column would not be in the order of the runs
    # Pixels are sampled in the order of the runs: a run keeps those that lie before its end.
    ends = np.searchsorted(_places(*segmentation["size"], height, width), np.cumsum(lengths))
    stops = ends[1::2]
    starts = ends[0::2][: len(stops)]
    some = starts < stops
    return Runs.of_flat(starts[some], stops[some], (height, width))


@lru_cache(maxsize=2)
def _places(mask_height: int, mask_width: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """Return the flat places, in column order, of the pixels of a mask that a smaller or larger one takes."""
    rows, columns = _sampled(mask_height, mask_width, height, width)
    return (columns[:, None] * mask_height + rows[None, :]).ravel()


def _sampled(
    mask_height: int, mask_width: int, height: int, width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rows = ((np.arange(height) + 0.5) * mask_height / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask_width / width).astype(np.int64)
    return rows, columns


def _size(segmentation: Segmentation) -> tuple[int, int]:
    """Return (height, width) of a bitmap or of an RLE that has been checked."""
    if isinstance(segmentation, np.ndarray):
        return segmentation.shape[0], segmentation.shape[1]
    return segmentation["size"][0], segmentation["size"][1]


def colours_by_size(areas: Sequence[int]) -> list[RGB]:
    """Return a colour for each of N masks: neighbours in size get far hues (golden angle)."""
    large_first = sorted(range(len(areas)), key=lambda place: -areas[place])
    ranks = {place: rank for rank, place in enumerate(large_first)}
    return [_colour(ranks[place]) for place in range(len(areas))]


def _colour(rank: int) -> RGB:
    hue = (0.58 + rank * 0.618034) % 1.0
    saturation, value = ((0.85, 1.0), (0.6, 1.0), (0.9, 0.8))[rank % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return 255 * red, 255 * green, 255 * blue


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Find the mask's own pixels that have a neighbour, above, below, left or right, outside it."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _draw_prompt(drawn: npt.NDArray[np.float32], record: Mapping[str, Any]) -> None:
    """Draw a white dot in a dark ring at each prompt point, or at the centre of a box."""
    points = [(float(x), float(y)) for x, y in record.get("point_coords") or []]
    box = record.get("box")
    if not points and box is not None:
        points = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)]
    height, width = drawn.shape[:2]
    mask_height, mask_width = _size(record["segmentation"])
    radius = max(1.2, max(height, width) / 400)
    for x, y in points:
        centre_x, centre_y = x * width / mask_width, y * height / mask_height
        left, top = max(int(centre_x - radius - 2), 0), max(int(centre_y - radius - 2), 0)
        patch = drawn[top : int(centre_y + radius + 3), left : int(centre_x + radius + 3)]
        rows, columns = np.mgrid[: patch.shape[0], : patch.shape[1]]
        distance = np.hypot(rows + top + 0.5 - centre_y, columns + left + 0.5 - centre_x)
        patch[distance <= radius + 1] = 20
        patch[distance <= radius] = 255

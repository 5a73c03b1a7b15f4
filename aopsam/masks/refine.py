"""Adaptive Mask Refinement: choose two further points for a mask from its shape.

The module of the paper on EfficientSAM (section XI): from the connected components κ and the compactness Q of a mask
follows a strategy, from the strategy two points; the decoder runs again with them
(`aopsam.everything.refinement`), and the mask with the higher predicted IoU stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported on first use: command lines are judged before

from aopsam.masks.runs import Runs

Bitmap = npt.NDArray[np.bool_]

Rule = Literal["formula", "prose"]
"""The paper contradicts itself on fragmented masks (κ > 1): its formula sends them to the boundary, its text to the
centre."""
Boundary = Literal["negative", "positive"]
"""Label of points just outside a mask."""
Points = Literal["added", "alone"]
"""Whether the new points join the first prompt."""

LEAST_COMPACTNESS = 0.6
DEEP = 0.7
"""Share of the greatest depth from which a place counts as central."""
WORKING_SIDE = 256
"""Longest side, pixels, at which a mask is measured: its box is shrunk to it."""


@dataclass(frozen=True)
class AddedPoints:
    """Two points for another run of the decoder.

    Attributes:
        points_px: (2, 2) XY in pixels of the photo.
        inside: whether they lie in the mask (centre) or just outside it (boundary).
    """

    points_px: npt.NDArray[np.float64]
    inside: bool


def added_points(mask: Runs, rule: Rule) -> AddedPoints | None:
    """Return the two further points for one mask; None where there is no place for them.

    Args:
        mask: one mask, in the frame of the photo.
        rule: how the strategy is chosen.
    """
    x0, y0, x1, y1 = mask.box_xyxy_px
    left, top = max(x0 - 1, 0), max(y0 - 1, 0)  # a rim of one pixel, where the boundary may lie
    shown, scale = _shrunk(mask.within(left, top, min(x1 + 2, mask.hw[1]), min(y1 + 2, mask.hw[0])))
    inside = wants_centre(shown, rule)
    places = centre_points(shown) if inside else boundary_points(shown)
    return None if places is None else AddedPoints((places + 0.5) * scale + [left, top], inside)


def wants_centre(mask: Bitmap, rule: Rule) -> bool:
    """Decide whether a mask gets points at its centre rather than along its boundary.

    Formula: boundary where κ > 1 or Q < 0.6, else centre. Prose: centre where κ > 1, else boundary where Q < 0.6.

    Args:
        mask: (H, W).
        rule: the paper's formula or its prose.
    """
    fragments = scipy.ndimage.label(mask)[1]
    if fragments > 1:
        return rule == "prose"
    return compactness(mask) >= LEAST_COMPACTNESS


def compactness(mask: Bitmap) -> float:
    """Compute Q = 4π · area / perimeter²: 1 for a disc, less the more ragged; 1 where there is no perimeter."""
    around = perimeter(mask)
    return float(4 * np.pi * mask.sum() / around**2) if around else 1.0


def perimeter(mask: Bitmap) -> float:
    """Measure the outlines of a mask, holes included, through the centres of its outermost pixels.

    A border pixel counts 1, √2 or the mean of both by how its neighbours on the border lie (Benkrid, Crookes 2000).
    """
    border = mask & ~scipy.ndimage.binary_erosion(mask)
    kernel = np.array([[10, 2, 10], [2, 1, 2], [10, 2, 10]])
    kinds = np.bincount(scipy.ndimage.convolve(border.astype(np.int64), kernel, mode="constant").ravel(), minlength=50)
    straight, diagonal, corner = (kinds[list(of)].sum() for of in ((5, 7, 15, 17, 25, 27), (21, 33), (13, 23)))
    return float(straight + np.sqrt(2) * diagonal + (1 + np.sqrt(2)) / 2 * corner)


def centre_points(mask: Bitmap) -> npt.NDArray[np.int64] | None:
    """Return the deepest place, and the place farthest from it among those of at least 70 % of its depth.

    Depth is the distance to the nearest pixel outside, beyond the frame included.

    Args:
        mask: (H, W).

    Returns:
        (2, 2) XY; None for an empty mask.
    """
    if not mask.any():
        return None
    depth = scipy.ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.nonzero(depth >= DEEP * depth.max())
    first = int(depth[y, x].argmax())
    second = int(((x - x[first]) ** 2 + (y - y[first]) ** 2).argmax())
    return np.array([[x[first], y[first]], [x[second], y[second]]])


def boundary_points(mask: Bitmap) -> npt.NDArray[np.int64] | None:
    """Return two places just outside, evenly spaced over all such places in reading order: the first and the last.

    Those places are a dilation by 3 × 3 less the mask (paper, XI-C); it numbers them with `np.where` and picks with
    `np.linspace`, which for two points gives the ends, at opposite sides of the mask.

    Args:
        mask: (H, W).

    Returns:
        (2, 2) XY; None where the mask is empty or fills its frame.
    """
    y, x = np.nonzero(scipy.ndimage.binary_dilation(mask, np.ones((3, 3), np.bool_)) & ~mask)
    if not len(x):
        return None
    picked = np.linspace(0, len(x) - 1, 2).round().astype(np.int64)
    return np.stack([x[picked], y[picked]], axis=1)


def _shrunk(mask: Runs) -> tuple[Bitmap, npt.NDArray[np.float64]]:
    """Sample a mask at a size of at most `WORKING_SIDE`; return the samples and the mask's pixels (XY) in one."""
    step = max(1.0, max(mask.hw) / WORKING_SIDE)
    height, width = (max(1, round(side / step)) for side in mask.hw)
    scale = np.array([mask.hw[1] / width, mask.hw[0] / height])
    columns, rows = (((np.arange(n) + 0.5) * s).astype(np.int64) for n, s in zip((width, height), scale, strict=True))
    pixels = columns[:, None] * mask.hw[0] + rows
    return (np.searchsorted(mask.starts, pixels, "right") > np.searchsorted(mask.stops, pixels, "right")).T, scale

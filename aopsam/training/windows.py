"""Cut windows out of annotated photos, with prompts and mask targets: the batch of one training step.

A photo is scaled to about the model's working size, a window is cut out of it and put at a random cell of the frame,
and prompts are drawn from the annotations whose interior point lies in the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from aopsam.masks import rle
from aopsam.training.annotated import Annotated
from aopsam.training.decode import CORNER_A, CORNER_B, PAD, POINT, STRIDE, Prompts

MIN_AREA_PX = 60.0
"""Smallest area of a mask that is prompted for, in frame pixels: about four pixels of the stride-4 target."""

CUTS = 200
"""Random windows in a row without a mask to prompt for, after which one is put around a mask."""


def least_share(frame_px: int, scale: tuple[float, float]) -> float:
    """Return the share of its photo's padded square that a mask must cover so that some window prompts for it.

    Compare with `StoredPhotos.largest`.

    Args:
        frame_px: side of the model's padded square.
        scale: smallest and largest size of the photo relative to the frame.
    """
    return MIN_AREA_PX / (frame_px * scale[1]) ** 2


@dataclass(frozen=True)
class Batch:
    """Windows, prompts and mask targets of one step.

    Attributes:
        rgb: (W, 3, S, S) uint8.
        inside: (W, 2) int64, width and height in pixels of the photo inside each window; the rest is padding.
        cells: (W, 2) int64, each window's top left cell in the frame, (x, y).
        prompts: P prompts.
        targets: (P, S / 4, S / 4) float32 in [0, 1], share of each stride-4 square that the mask covers.
        is_box: (P,) bool.
        edges: (W, S / 4, S / 4) float32 in [0, 1], a teacher's probability of an edge; -1 outside photos and in those
            without an edge map.
    """

    rgb: torch.Tensor
    inside: torch.Tensor
    cells: torch.Tensor
    prompts: Prompts
    targets: torch.Tensor
    is_box: torch.Tensor
    edges: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        prompts = self.prompts
        return Batch(
            self.rgb.to(device),
            self.inside.to(device),
            self.cells.to(device),
            Prompts(prompts.window.to(device), prompts.points_px.to(device), prompts.labels.to(device)),
            self.targets.to(device),
            self.is_box.to(device),
            self.edges.to(device),
        )


def make_batch(
    photos: Sequence[Annotated],
    rng: np.random.Generator,
    *,
    windows: int,
    size_px: int,
    frame_px: int,
    prompts: int,
    scale: tuple[float, float],
    box_share: float,
    stretch: bool = False,
) -> Batch:
    """Cut `windows` windows of `size_px` out of random photos.

    Args:
        photos: photos to cut from, each equally likely; those without annotations give windows without prompts.
        rng: the only source of random numbers.
        windows: W.
        size_px: side of a window in frame pixels, a multiple of 16; equal to `frame_px` for whole frames.
        frame_px: side of the model's padded square.
        prompts: most prompts of a window; a window with few masks gets at most three prompts per mask.
        scale: smallest and largest size of the photo relative to the frame (log-uniform).
        box_share: share of the prompts that are boxes.
        stretch: photos fill the frame, each side by its own factor, as a `StretchedSam` reads them, and none is smaller
            than the frame: of `scale`, what is below 1 is 1.

    Raises:
        ValueError: no photo has a mask to prompt for.
    """
    cut: list[Window] = []
    rgbs: list[np.ndarray] = []
    asked: list[_Asked] = []
    while len(cut) < windows:
        window, chosen = find_window(
            photos, rng, size_px, frame_px, scale, prompts, bare=len(asked) > 0, stretch=stretch
        )
        asked += [_ask(window, index, len(cut), rng, box_share) for index in chosen.tolist()]
        rgbs.append(jittered(window, rng))
        cut.append(window)
    return Batch(
        torch.from_numpy(np.stack(rgbs)).permute(0, 3, 1, 2),
        torch.tensor([window.inside for window in cut]),
        torch.tensor([window.cell for window in cut]),
        Prompts(
            torch.tensor([one.window for one in asked]),
            torch.from_numpy(np.stack([one.points_px for one in asked])).float(),
            torch.tensor([one.labels for one in asked]),
        ),
        torch.from_numpy(np.stack([one.target for one in asked])).float() / 255,
        torch.tensor([one.is_box for one in asked]),
        torch.from_numpy(np.stack([window.edges() for window in cut])),
    )


class _Asked(NamedTuple):
    """One prompt of a batch and its target."""

    window: int
    points_px: np.ndarray
    labels: list[int]
    target: np.ndarray
    is_box: bool


def _ask(window: Window, index: int, number: int, rng: np.random.Generator, box_share: float) -> _Asked:
    """Draw a prompt for mask `index` of window `number`."""
    mask = window.mask(index)
    is_box = bool(rng.random() < box_share)
    xy, label = _box(window, mask, rng) if is_box else _point(window, mask, index, rng)
    return _Asked(number, xy, label, window.target(mask), is_box)


@dataclass(frozen=True)
class Window:
    """Place of a window in the (flipped, scaled) photo and in the frame.

    Attributes:
        photo: photo that it is cut out of.
        flip: whether the photo is mirrored left to right.
        scale: frame pixels to a pixel of the photo, along x and y; they differ where photos are stretched.
        corner: x and y of the top left pixel in the scaled photo.
        size_px: side in frame pixels.
        cell: x and y of its top left cell in the frame.
        inside: width and height in frame pixels of what shows the photo; the rest is padding.
    """

    photo: Annotated
    flip: bool
    scale: tuple[float, float]
    corner: tuple[int, int]
    size_px: int
    cell: tuple[int, int]
    inside: tuple[int, int]

    @classmethod
    def cut(
        cls,
        photo: Annotated,
        rng: np.random.Generator,
        size_px: int,
        frame_px: int,
        scale: tuple[float, float],
        stretch: bool = False,
    ) -> Window:
        """Cut a random window of `size_px` out of a photo, put at a random cell of the frame."""
        height, width = photo.rgb.shape[:2]
        drawn = float(np.exp(rng.uniform(*np.log(scale))))
        if stretch:
            factors = tuple(frame_px / side * max(drawn, 1.0) for side in (width, height))
        else:
            factors = (frame_px / max(height, width) * drawn,) * 2
        extent = [int(side * factor + 0.5) for side, factor in zip((width, height), factors, strict=True)]
        corner = tuple(int(rng.integers(max(side - size_px, 0) + 1)) for side in extent)
        free = (frame_px - size_px) // STRIDE
        cell = tuple(int(rng.integers(free + 1)) for _ in range(2))
        inside = tuple(min(side - start, size_px) for side, start in zip(extent, corner, strict=True))
        return cls(photo, bool(rng.random() < 0.5), factors, corner, size_px, cell, inside)  # type: ignore[arg-type]

    def around(
        self, rng: np.random.Generator, frame_px: int, scale: tuple[float, float], stretch: bool = False
    ) -> Window | None:
        """Return a window of the same photo around one of its masks; None where none is large enough at any scale."""
        height, width = self.photo.rgb.shape[:2]
        longer = (height * width) ** 0.5 if stretch else max(height, width)
        large = np.flatnonzero(self.photo.areas_px >= least_share(frame_px, scale) * longer**2)
        if not len(large):
            return None
        index = int(rng.choice(large))
        least = (MIN_AREA_PX / self.photo.areas_px[index]) ** 0.5 * longer / frame_px
        # Not exactly the least, at which rounding would decide.
        narrowed = min(max(scale[0], least * (1 + 1e-6)), scale[1]), scale[1]
        window = Window.cut(self.photo, rng, self.size_px, frame_px, narrowed, stretch)
        extent = [int(side * factor + 0.5) for side, factor in zip((width, height), window.scale, strict=True)]
        xy = window.interior_px()[index] * np.array(window.scale) - self.size_px / 2
        corner = [int(min(max(at, 0), max(side - self.size_px, 0))) for at, side in zip(xy, extent, strict=True)]
        inside = [min(side - start, self.size_px) for side, start in zip(extent, corner, strict=True)]
        return replace(window, corner=(corner[0], corner[1]), inside=(inside[0], inside[1]))

    def region(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the rectangle XYXY of the unscaled photo under `width` x `height` pixels of the window."""
        x, y = self.corner
        across, down = self.scale
        return x / across, y / down, (x + width) / across, (y + height) / down

    def rgb(self) -> np.ndarray:
        """Return the window's pixels, (S, S, 3) uint8, zero outside the photo."""
        pixels = self.photo.rgb[:, ::-1] if self.flip else self.photo.rgb
        x0, y0, x1, y1 = self.region(*self.inside)
        box = x0, y0, min(x1, pixels.shape[1]), min(y1, pixels.shape[0])
        resized = Image.fromarray(np.ascontiguousarray(pixels)).resize(self.inside, Image.Resampling.BILINEAR, box)
        out = np.zeros((self.size_px, self.size_px, 3), np.uint8)
        out[: self.inside[1], : self.inside[0]] = np.asarray(resized)
        return out

    def mask(self, index: int) -> np.ndarray:
        """Return a mask, (H', W') uint8 0 or 255 in unscaled photo pixels, zero-padded to cover the whole window."""
        mask = rle.decode(self.photo.rles[index]) * np.uint8(255)
        mask = mask[:, ::-1] if self.flip else mask
        _, _, x1, y1 = self.region(self.size_px, self.size_px)
        canvas = np.zeros((max(mask.shape[0], int(y1) + 1), max(mask.shape[1], int(x1) + 1)), np.uint8)
        canvas[: mask.shape[0], : mask.shape[1]] = mask
        return canvas

    def target(self, mask: np.ndarray) -> np.ndarray:
        """Return the target of a mask, (S / 4, S / 4) uint8: covered share times 255."""
        side = self.size_px // 4
        region = self.region(self.size_px, self.size_px)
        return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.HAMMING, region))

    def edges(self) -> np.ndarray:
        """Return the photo's edges, (S / 4, S / 4) float32 in [0, 1]; -1 outside the photo, or where it has none."""
        side = self.size_px // 4
        out = np.full((side, side), -1, np.float32)
        edges = self.photo.edges
        if edges is None:
            return out
        pixels = Image.fromarray(np.ascontiguousarray(edges[:, ::-1] if self.flip else edges))
        width, height = (-(-size // 4) for size in self.inside)
        shares = pixels.width / self.photo.rgb.shape[1], pixels.height / self.photo.rgb.shape[0]
        x0, y0, x1, y1 = self.region(*self.inside)
        box = x0 * shares[0], y0 * shares[1], min(x1 * shares[0], pixels.width), min(y1 * shares[1], pixels.height)
        out[:height, :width] = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR, box)) / 255
        return out

    def interior_px(self) -> np.ndarray:
        """Return the (M, 2) interior points of all annotations, in unscaled pixels of the (flipped) photo."""
        points = self.photo.points_px.copy()
        if self.flip:
            points[:, 0] = self.photo.rgb.shape[1] - 1 - points[:, 0]
        return points

    def to_frame(self, xy: np.ndarray) -> np.ndarray:
        """Convert unscaled photo pixels (..., 2) to frame pixels, scaled as by `ResizeLongestSide.apply_coords`."""
        return xy * np.array(self.scale) - self.corner + np.array(self.cell) * STRIDE


def find_window(
    photos: Sequence[Annotated],
    rng: np.random.Generator,
    size_px: int,
    frame_px: int,
    scale: tuple[float, float],
    most: int,
    *,
    bare: bool = False,
    stretch: bool = False,
) -> tuple[Window, np.ndarray]:
    """Cut a random window with masks to prompt for, and choose them; after `CUTS` without any, one around a mask.

    Args:
        photos: photos to cut from.
        rng: the only source of random numbers.
        size_px: side of a window in frame pixels.
        frame_px: side of the model's padded square.
        scale: smallest and largest size of the photo relative to the frame.
        most: most masks of a window.
        bare: whether a window of a photo without annotations will do, too.
        stretch: photos fill the frame, each side by its own factor.

    Returns:
        The window, and the indices of its masks, as `choose_masks` gives them.

    Raises:
        ValueError: no photo has a mask to prompt for.
    """
    for _ in range(CUTS):
        window = Window.cut(photos[int(rng.integers(len(photos)))], rng, size_px, frame_px, scale, stretch)
        chosen = choose_masks(window, rng, most)
        if len(chosen) or (bare and not len(window.photo.rles)):
            return window, chosen
    first = int(rng.integers(len(photos)))
    for number in range(len(photos)):
        drawn = Window.cut(photos[(first + number) % len(photos)], rng, size_px, frame_px, scale, stretch)
        around = drawn.around(rng, frame_px, scale, stretch)
        if around is not None and len(chosen := choose_masks(around, rng, most)):
            return around, chosen
    raise ValueError(
        f"no mask of {len(photos)} photos is large enough to prompt for: in a photo scaled to {frame_px} px its area "
        f"must be {MIN_AREA_PX / scale[1] ** 2:.0f} px, and its point not at the photo's edge"
    )


def choose_masks(window: Window, rng: np.random.Generator, most: int) -> np.ndarray:
    """Choose masks to prompt for, as indices: large enough, with the interior point in the window."""
    points = window.interior_px()
    x0, y0, x1, y1 = window.region(*window.inside)
    ok = (points >= (x0 + 1, y0 + 1)).all(1) & (points <= (x1 - 2, y1 - 2)).all(1)
    candidates = np.flatnonzero(ok & (window.photo.areas_px * (window.scale[0] * window.scale[1]) >= MIN_AREA_PX))
    if not len(candidates):
        return candidates
    repeated = np.concatenate([rng.permutation(candidates) for _ in range(3)])
    return repeated[:most]


def _visible(window: Window, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (ys, xs) of the mask's pixels in the window, in unscaled pixels."""
    x0, y0, x1, y1 = (int(v) for v in window.region(*window.inside))
    ys, xs = np.nonzero(mask[y0:y1, x0:x1])
    return ys + y0, xs + x0


def _point(window: Window, mask: np.ndarray, index: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Draw one point inside the mask: near its deepest point (60 %) or anywhere in its visible part."""
    deep = window.interior_px()[index]
    if rng.random() < 0.6:
        spread = 0.12 * window.photo.areas_px[index] ** 0.5
        xy = np.rint(deep + rng.normal(size=2) * spread)
        x0, y0, x1, y1 = window.region(*window.inside)
        if not (x0 <= xy[0] < x1 - 1 and y0 <= xy[1] < y1 - 1 and mask[int(xy[1]), int(xy[0])]):
            xy = deep
    else:
        ys, xs = _visible(window, mask)
        pick = rng.integers(len(ys))
        xy = np.array([xs[pick], ys[pick]], dtype=np.float64)
    first = window.to_frame(xy)
    return np.stack([first, np.zeros(2)]), [POINT, PAD]


def _box(window: Window, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Draw the box of the visible part, each side moved by up to a tenth of the box (noise as in SAM, appendix A)."""
    ys, xs = _visible(window, mask)
    box = np.array([[xs.min(), ys.min()], [xs.max() + 1, ys.max() + 1]], dtype=np.float64)
    side = box[1] - box[0]
    box += np.clip(rng.normal(size=(2, 2)) * 0.05, -0.1, 0.1) * side
    return window.to_frame(box), [CORNER_A, CORNER_B]


def jittered(window: Window, rng: np.random.Generator) -> np.ndarray:
    """Return a window's pixels with other colours, (S, S, 3) uint8, zero outside the photo."""
    rgb, (width, height) = window.rgb(), window.inside
    rgb[:height, :width] = jitter(rgb[:height, :width], rng)
    return rgb


def jitter(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation (a tenth become grey) and colour cast at random, and add noise."""
    grey = rgb.mean(axis=2, keepdims=True, dtype=np.float32)
    saturation = np.float32(0.0 if rng.random() < 0.1 else rng.uniform(0.6, 1.4))
    contrast, brightness = np.float32(rng.uniform(0.6, 1.4)), np.float32(rng.uniform(-30, 30))
    cast = rng.uniform(0.88, 1.12, size=3).astype(np.float32)
    x = rgb.astype(np.float32)
    x *= saturation * contrast * cast
    x += ((grey * (1 - saturation) - 110) * contrast + (110 + brightness)) * cast
    x += rng.standard_normal(rgb.shape[:2], dtype=np.float32)[..., None] * np.float32(rng.uniform(0, 6))
    np.clip(x, 0, 255, out=x)
    return x.astype(np.uint8)

"""Make random views of photos, each drawn at the student's input size and at the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from segment_anything.modeling import Sam
from torch.nn import functional as F

from aopsam.training.annotated import Annotated
from aopsam.training.decode import STRIDE
from aopsam.training.task import shuffled


class Frame(NamedTuple):
    """Sizes of the pictures.

    Attributes:
        student_px: side of the student's square.
        teacher_px: side of the teacher's square.
        share: those sides relative to the models' own squares, 1 for whole frames.
        fills: pictures are stretched to fill the squares, as a `StretchedSam` reads photos; `share` has no meaning.
    """

    student_px: int
    teacher_px: int
    share: float
    fills: bool = False

    @property
    def units(self) -> int:
        """Cells along a side of the coarser grid; the photo's part of a picture is a whole number of them."""
        return min(self.student_px, self.teacher_px) // STRIDE


@dataclass(frozen=True)
class Views:
    """A batch of B pictures.

    Attributes:
        student: (B, 3, S, S) uint8, the photo's part at the top left, zeros outside it.
        teacher: (B, 3, T, T) uint8, the same views.
        cells: (B, 2) int64, rows and columns of the student's embedding that show the photo; the rest is padding.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    cells: torch.Tensor

    def to(self, device: torch.device) -> Views:
        """Return the batch on a device."""
        return Views(self.student.to(device), self.teacher.to(device), self.cells.to(device))


def random_views(
    photos: Sequence[Annotated], frame: Frame, *, seed: int, index: int, count: int, zoom: tuple[float, float]
) -> Views:
    """Return batch number `index` of an endless shuffled stream; it depends only on the arguments.

    Args:
        photos: photos to draw from.
        frame: sizes.
        seed: seed of the order and of the views.
        index: number of the batch.
        count: B.
        zoom: smallest and largest size of the photo relative to a frame that it just fills (log-uniform; of pictures
            that fill their squares the area is uniform).
    """
    rng = np.random.default_rng([seed, index])
    chosen = shuffled(len(photos), seed, index * count, count)
    if frame.fills:
        rgbs = [photos[number].rgb for number in chosen]
        return stack([stretched(rgb, frame, random_crop(rgb, rng, zoom), bool(rng.random() < 0.5)) for rgb in rgbs])
    zooms = np.exp(rng.uniform(np.log(zoom[0]), np.log(zoom[1]), count))
    places, flips = rng.random((count, 2)), rng.random(count) < 0.5
    return stack(
        [view(photos[number].rgb, frame, float(zooms[i]), places[i], bool(flips[i])) for i, number in enumerate(chosen)]
    )


def view(
    rgb: np.ndarray, frame: Frame, zoom: float = 1.0, place: Sequence[float] | np.ndarray = (0, 0), flip: bool = False
) -> Views:
    """Make one picture: a part of the photo, scaled and padded to a square.

    Whole frames of zoom 1 equal SAM's pre-processing, except for less than a cell at the right or lower edge.

    Args:
        rgb: (H, W, 3) uint8.
        frame: sizes.
        zoom: size of the photo relative to a frame that it just fills.
        place: x and y in [0, 1] of the part, where not all of the photo fits.
        flip: mirror the photo left to right.
    """
    height, width = rgb.shape[:2]
    if frame.fills:
        part = width / max(zoom, 1.0), height / max(zoom, 1.0)
        x, y = (width - part[0]) * float(place[0]), (height - part[1]) * float(place[1])
        return stretched(rgb, frame, (x, y, x + part[0], y + part[1]), flip)
    pixels_a_unit = max(height, width) * frame.share / (frame.units * zoom)
    columns, rows = (max(1, min(int(side / pixels_a_unit + 1e-6), frame.units)) for side in (width, height))
    part = min(columns * pixels_a_unit, width), min(rows * pixels_a_unit, height)
    x, y = (width - part[0]) * float(place[0]), (height - part[1]) * float(place[1])
    box = x, y, min(x + part[0], width), min(y + part[1], height)
    student, teacher = _squares(rgb, frame, box, (rows / frame.units, columns / frame.units), flip)
    finer = frame.student_px // STRIDE // frame.units
    return Views(student, teacher, torch.tensor([[rows * finer, columns * finer]]))


def stretched(rgb: np.ndarray, frame: Frame, box: tuple[float, float, float, float], flip: bool = False) -> Views:
    """Make one picture: a part of the photo, stretched to fill the squares; there is no padding.

    Args:
        rgb: (H, W, 3) uint8.
        frame: sizes.
        box: XYXY of the part, in pixels.
        flip: mirror the part left to right.
    """
    student, teacher = _squares(rgb, frame, box, (1.0, 1.0), flip)
    return Views(student, teacher, torch.full((1, 2), frame.student_px // STRIDE))


def random_crop(
    rgb: np.ndarray, rng: np.random.Generator, zoom: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Draw a part of a photo as MAE does (torchvision's `RandomResizedCrop`), XYXY in pixels.

    Its share of the area is uniform, between 1 / zoom² of both zooms and at most 1, its aspect log-uniform between 3:4
    and 4:3. After ten parts that do not fit it is the whole photo.
    """
    height, width = rgb.shape[:2]
    least, most = (min(1.0, each**-2) for each in reversed(zoom))
    for _ in range(10):
        area = height * width * rng.uniform(least, most)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = float((area * ratio) ** 0.5), float((area / ratio) ** 0.5)
        if wide <= width and high <= height:
            x, y = float(rng.uniform(0, width - wide)), float(rng.uniform(0, height - high))
            return x, y, x + wide, y + high
    return 0.0, 0.0, float(width), float(height)


def _squares(
    rgb: np.ndarray,
    frame: Frame,
    box: tuple[float, float, float, float],
    filled: tuple[float, float],
    flip: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a part of a photo at the top left of the student's and the teacher's square, (1, 3, side, side) uint8.

    Args:
        rgb: (H, W, 3) uint8.
        frame: sizes.
        box: XYXY of the part, in pixels.
        filled: shares of the square's height and width that the part takes, zeros the rest.
        flip: mirror the part left to right.
    """
    photo = Image.fromarray(rgb)

    def square(side_px: int) -> torch.Tensor:
        rows, columns = (round(share * side_px) for share in filled)
        drawn = np.asarray(photo.resize((columns, rows), Image.Resampling.BILINEAR, box))
        out = np.zeros((side_px, side_px, 3), np.uint8)
        out[:rows, :columns] = drawn[:, ::-1] if flip else drawn
        return torch.from_numpy(out).permute(2, 0, 1)[None].contiguous()

    student = square(frame.student_px)
    return student, student if frame.teacher_px == frame.student_px else square(frame.teacher_px)


def stack(views: Sequence[Views]) -> Views:
    """Join batches into one."""
    student = torch.cat([one.student for one in views])
    same = all(one.teacher is one.student for one in views)
    teacher = student if same else torch.cat([one.teacher for one in views])
    return Views(student, teacher, torch.cat([one.cells for one in views]))


def shown(cells: torch.Tensor, side: int) -> torch.Tensor:
    """Return (B, 1, side, side) bool: cells of a square grid that show the photo, from (B, 2) rows and columns."""
    along = torch.arange(side, device=cells.device)
    return ((along < cells[:, :1])[:, :, None] & (along < cells[:, 1:])[:, None, :]).unsqueeze(1)


def normalised(sam: Sam, rgb: torch.Tensor, rows_columns_px: torch.Tensor) -> torch.Tensor:
    """Normalise pictures (B, 3, S, S) uint8 to float32 by SAM's mean and deviation, with zeros outside the photo.

    Args:
        sam: model with mean and deviation.
        rgb: pictures.
        rows_columns_px: (B, 2) rows and columns that show the photo, from the top left.
    """
    pixels = (rgb.float() - sam.pixel_mean.to(rgb.device)) / sam.pixel_std.to(rgb.device)
    pixels = pixels * shown(rows_columns_px, rgb.shape[-1])
    return pixels.contiguous(memory_format=torch.channels_last)


def resized(embedding: torch.Tensor, cells: torch.Tensor, side: int) -> torch.Tensor:
    """Resize the teacher's embedding to the student's grid: the photo's part of each picture.

    To a finer grid it is bilinear; a cell of a coarser one is the mean of what it covers.

    Args:
        embedding: (B, C, t, t).
        cells: (B, 2) rows and columns of the student's grid that show the photo.
        side: cells along a side of the student's grid.

    Returns:
        (B, C, side, side), zero outside the photo.
    """
    own = embedding.shape[-1]
    out = embedding.new_zeros((*embedding.shape[:2], side, side))
    for number, (rows, columns) in enumerate(cells.tolist()):
        part = embedding[number : number + 1, :, : rows * own // side, : columns * own // side]
        if own != side:
            if own > side:
                part = F.interpolate(part, size=(rows, columns), mode="area")
            else:
                part = F.interpolate(part, size=(rows, columns), mode="bilinear", align_corners=False)
        out[number, :, :rows, :columns] = part[0]
    return out

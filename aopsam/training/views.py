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
    """

    student_px: int
    teacher_px: int
    share: float

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
        zoom: smallest and largest size of the photo relative to a frame that it just fills (log-uniform).
    """
    rng = np.random.default_rng([seed, index])
    chosen = shuffled(len(photos), seed, index * count, count)
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
    pixels_a_unit = max(height, width) * frame.share / (frame.units * zoom)
    columns, rows = (max(1, min(int(side / pixels_a_unit + 1e-6), frame.units)) for side in (width, height))
    part = min(columns * pixels_a_unit, width), min(rows * pixels_a_unit, height)
    x, y = (width - part[0]) * float(place[0]), (height - part[1]) * float(place[1])
    photo = Image.fromarray(rgb)

    def square(side_px: int) -> torch.Tensor:
        size = columns * side_px // frame.units, rows * side_px // frame.units
        box = x, y, min(x + part[0], width), min(y + part[1], height)
        drawn = np.asarray(photo.resize(size, Image.Resampling.BILINEAR, box))
        out = np.zeros((side_px, side_px, 3), np.uint8)
        out[: size[1], : size[0]] = drawn[:, ::-1] if flip else drawn
        return torch.from_numpy(out).permute(2, 0, 1)[None].contiguous()

    student = square(frame.student_px)
    teacher = student if frame.teacher_px == frame.student_px else square(frame.teacher_px)
    finer = frame.student_px // STRIDE // frame.units
    return Views(student, teacher, torch.tensor([[rows * finer, columns * finer]]))


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
    """Resize the teacher's embedding to the student's grid: the photo's part of each picture, bilinear.

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
            part = F.interpolate(part, size=(rows, columns), mode="bilinear", align_corners=False)
        out[number, :, :rows, :columns] = part[0]
    return out

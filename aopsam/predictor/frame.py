"""Resize photos to the predictor's frame, a square that shows them as their SAM's own square does, and normalise it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

FRAME_SIZE = 256
"""Side of the frame and of the confidence map, pixels."""

MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)


def content_hw(image_hw: tuple[int, int], size: int = FRAME_SIZE, *, stretched: bool = False) -> tuple[int, int]:
    """Return the rows and columns of the frame that show a photo of `image_hw` (rows, columns), rounded as in SAM.

    The same formula as `segment_anything.utils.transforms.ResizeLongestSide.get_preprocess_shape`, but never below
    one pixel. Where `stretched` is set, the photo is for a `StretchedSam` and fills the frame.
    """
    if stretched:
        return size, size
    scale = size / max(image_hw)
    return max(1, int(image_hw[0] * scale + 0.5)), max(1, int(image_hw[1] * scale + 0.5))


def to_frame(rgb: np.ndarray, size: int = FRAME_SIZE, *, stretched: bool = False) -> np.ndarray:
    """Resize a photo to the frame, as SAM's pre-processing does at its own size.

    Args:
        rgb: (H, W, 3) uint8.
        size: side of the frame, pixels.
        stretched: whether the photo fills the frame, each side by its own factor, as a `StretchedSam` reads it.

    Returns:
        (size, size, 3) uint8; the photo in the upper left corner, zeros elsewhere.
    """
    rows, columns = content_hw((rgb.shape[0], rgb.shape[1]), size, stretched=stretched)
    frame = np.zeros((size, size, 3), np.uint8)
    frame[:rows, :columns] = np.asarray(Image.fromarray(rgb).resize((columns, rows), Image.Resampling.BILINEAR))
    return frame


def normalise(frames: torch.Tensor, contents_hw: torch.Tensor) -> torch.Tensor:
    """Normalise frames by SAM's mean and deviation, with the padding exactly 0.

    Args:
        frames: (B, S, S, 3) uint8 RGB.
        contents_hw: (B, 2) int, rows and columns that show the photo.

    Returns:
        (B, 3, S, S) float32.
    """
    size = frames.shape[1]
    mean = torch.tensor(MEAN_RGB, dtype=torch.float32, device=frames.device)
    std = torch.tensor(STD_RGB, dtype=torch.float32, device=frames.device)
    index = torch.arange(size, device=frames.device)
    inside_rows = index[None, :, None] < contents_hw[:, 0, None, None]
    inside_columns = index[None, None, :] < contents_hw[:, 1, None, None]
    inside = (inside_rows & inside_columns)[..., None]
    return torch.where(inside, (frames.float() - mean) / std, 0.0).permute(0, 3, 1, 2).contiguous()

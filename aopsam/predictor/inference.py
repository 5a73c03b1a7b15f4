"""Compute the prompt confidence map of a photo with a predictor."""

from __future__ import annotations

import numpy as np
import torch

from aopsam._as_loaded import as_loaded
from aopsam.predictor.frame import content_hw, normalise, to_frame
from aopsam.predictor.network import PromptPredictor


@torch.inference_mode()
def confidence_map(
    predictor: PromptPredictor, rgb: np.ndarray, embedding: torch.Tensor, *, stretched: bool = False
) -> np.ndarray:
    """Return the prompt confidence map of a photo: high where a point prompt belongs.

    Args:
        predictor: runs on its own device, in eval mode.
        rgb: (H, W, 3) uint8, original pixels.
        embedding: (1, C, h, w), SAM's embedding of the square of that photo, any float dtype.
        stretched: whether that square is a `StretchedSam`'s, which the photo fills.

    Returns:
        (h', w') float32 in [0, 1] for the photo's content only: long side 256, the padding cut off; 256 × 256 for a
        stretched photo. Cell (y, x) stands for the original pixels around ((x + ½)·W/w', (y + ½)·H/h').

    Raises:
        ValueError: the embedding has another number of channels than the predictor was built for.
    """
    if embedding.ndim != 4 or embedding.shape[0] != 1 or embedding.shape[1] != predictor.embedding_channels:
        expected = f"(1, {predictor.embedding_channels}, h, w)"
        raise ValueError(f"embedding has shape {tuple(embedding.shape)}, the predictor expects {expected}")
    weights = next(predictor.parameters())
    rows, columns = content_hw((rgb.shape[0], rgb.shape[1]), stretched=stretched)
    frame = torch.from_numpy(to_frame(rgb, stretched=stretched))[None]
    image = normalise(frame, torch.tensor([[rows, columns]]))
    with as_loaded(predictor):
        logits = predictor(image.to(weights), embedding.to(weights))
    return logits[0, 0, :rows, :columns].float().sigmoid().cpu().numpy()

"""Compute the prompt confidence map of a photo with a predictor."""

from __future__ import annotations

import numpy as np
import torch

from aopsam._as_loaded import as_loaded
from aopsam.predictor.frame import content_hw, normalise, to_frame
from aopsam.predictor.network import PromptPredictor


@torch.inference_mode()
def confidence_map(predictor: PromptPredictor, rgb: np.ndarray, embedding: torch.Tensor) -> np.ndarray:
    """Return the prompt confidence map of a photo: high where a point prompt belongs.

    Args:
        predictor: runs on its own device, in eval mode.
        rgb: (H, W, 3) uint8, original pixels.
        embedding: (1, C, h, w), SAM's embedding of the padded square of that photo, any float dtype.

    Returns:
        (h', w') float32 in [0, 1] for the photo's content only: long side 256, the padding cut off. Cell (y, x) stands
        for the original pixels around ((x + ½)·W/w', (y + ½)·H/h').

    Raises:
        ValueError: the embedding has another number of channels than the predictor was built for.
    """
    if embedding.ndim != 4 or embedding.shape[0] != 1 or embedding.shape[1] != predictor.embedding_channels:
        expected = f"(1, {predictor.embedding_channels}, h, w)"
        raise ValueError(f"embedding has shape {tuple(embedding.shape)}, the predictor expects {expected}")
    weights = next(predictor.parameters())
    rows, columns = content_hw((rgb.shape[0], rgb.shape[1]))
    image = normalise(torch.from_numpy(to_frame(rgb))[None], torch.tensor([[rows, columns]]))
    with as_loaded(predictor):
        logits = predictor(image.to(weights), embedding.to(weights))
    return logits[0, 0, :rows, :columns].float().sigmoid().cpu().numpy()

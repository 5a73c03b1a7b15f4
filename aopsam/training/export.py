"""Write the weights file of a trained SAM, in the format that the project ships."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from segment_anything.modeling import Sam


def export_weights(sam: Sam, path: Path, metadata: Mapping[str, str]) -> None:
    """Save a SAM's state in half precision as safetensors; integers (BatchNorm's step counts) stay integers.

    Args:
        sam: the averaged model.
        path: file to write; its folder must exist.
        metadata: thresholds that a loader needs (`pred_iou_thresh`, `stability_score_thresh`, `box_nms_thresh`) and
            notes for readers (recipe, seed, data); text to text.

    Raises:
        ValueError: weights that are not finite in half precision.
    """
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in sam.state_dict().items()
    }
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor.float()).all()]:
        raise ValueError(f"{path}: not finite in half precision: {', '.join(broken)}")
    save_file(tensors, path, dict(metadata))

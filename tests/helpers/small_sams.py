"""Small SAMs of random weights, and made-up photos for them: for tests of mechanics."""

from __future__ import annotations

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import nn

from aopsam.sam.decoders.efficient_sam import EfficientSam, efficient_sam_ti
from aopsam.sam.encoders.vit import ViTEncoder
from aopsam.sam.model import assemble
from aopsam.training.annotated import Annotated
from aopsam.training.student import begin_positions


class SmallEncoder(nn.Module):
    """A stride-16 encoder of one convolution at 128 px: quick, and blind; for tests of mechanics."""

    img_size = 128

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 256, 16, stride=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.patches(x)


def small_vit(seed: int) -> Sam:
    """A SAM at 64 px whose encoder is segment-anything's, of two blocks of 32 channels."""
    torch.manual_seed(seed)
    sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "window_size": 2, "global_attn_indexes": (1,)}
    return assemble(ViTEncoder(img_size=64, out_chans=256, use_rel_pos=True, **sizes))


def small_efficient_sam(seed: int, side_px: int = 64) -> EfficientSam:
    """EfficientSAM-Ti for small squares, of two blocks, begun as students are."""
    torch.manual_seed(seed)
    sam = efficient_sam_ti(side_px)
    sam.image_encoder.blocks = sam.image_encoder.blocks[:2]
    begin_positions(sam)
    return sam


def bare(rgb: np.ndarray) -> Annotated:
    return Annotated("bare", rgb, [], np.zeros((0, 2)), np.zeros(0))


def photos(count: int = 4) -> list[Annotated]:
    rng = np.random.default_rng(0)
    return [bare(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)) for _ in range(count)]


def small(seed: int) -> Sam:
    torch.manual_seed(seed)
    return assemble(SmallEncoder())

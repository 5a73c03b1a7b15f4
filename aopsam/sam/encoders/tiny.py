"""The image encoder of the bundled `tiny` SAM: convolutions, two attention blocks, region descriptors at stride 4.

Dense 3x3 convolutions are what a CPU does best, so the early stages are plain residual ones (batch normalisation
folds away at inference). Two global self-attention blocks at stride 16 cover the whole photo; a top-down path brings
their context back to stride 4. There every position gets a descriptor of its region, helped by averages that stop at
edges (`edge_aware.py`); the 16 descriptors under each stride-16 cell are packed into its channels, so that the mask
decoder can draw detail far below the embedding's own grid.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import nn
from torch.nn import functional as F

from aopsam.sam.encoders.edge_aware import HEADS, WIDTH, EdgeAware

EMBED_DIM = 256
DESCRIPTOR = 12
"""Numbers in the descriptor of a stride-4 position's region, of mean 0 and unit length, which the mask decoder's norms
leave unchanged. Those of a stride-16 cell's 16 positions fill 192 of its 256 channels, see `descriptors`."""
CONTEXT = EMBED_DIM - 16 * DESCRIPTOR
"""Channels without descriptors. Half of them come first and half from channel 128 on: where the sines and cosines of
a position's first frequencies lie, which the mask decoder adds to the embedding, so that these stay easy to read."""
DETAIL = 4
"""Further numbers of a stride-4 position, mixed with the cell's context into the other 64 channels."""


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Build a convolution without bias and its batch normalisation; 'same' padding."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Two 3x3 convolutions with a residual connection (He et al. 2015), ReLU after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels)
        self.second = conv_bn(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block: (B, C, H, W) -> (B, C, H, W)."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class AttentionBlock(nn.Module):
    """Pre-norm global self-attention over all cells, then an MLP (Dosovitskiy et al. 2021).

    No position is added: the convolutions before it already tell cells apart, and the mask decoder adds its own.
    """

    def __init__(self, channels: int, heads: int = 8, mlp_ratio: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels), nn.GELU(), nn.Linear(mlp_ratio * channels, channels)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the block: (B, N cells, C) -> (B, N, C)."""
        batch, cells, channels = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(batch, cells, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, cells, channels)
        tokens = tokens + self.proj(mixed)
        return tokens + self.mlp(self.norm2(tokens))


class TinyEncoder(nn.Module):
    """Image encoder of `tiny`: (B, 3, H, W) normalised RGB -> (B, 256, H / 16, W / 16).

    H and W are multiples of 16, 512 in a whole model.

    Args:
        widths: channels of the stages at stride 2, 4, 8 and 16; the default is the shipped one.
        img_size: side in pixels of the padded square that `Sam.preprocess` makes.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (32, 48, 96, 256), img_size: int = 512) -> None:
        super().__init__()
        self.img_size = img_size
        stem, fine, mid, deep = widths
        self.stem = nn.Sequential(conv_bn(3, stem, 3, 2), nn.ReLU())
        self.stage4 = nn.Sequential(conv_bn(stem, fine, 3, 2), nn.ReLU(), Residual(fine))
        self.stage8 = nn.Sequential(conv_bn(fine, mid, 3, 2), nn.ReLU(), Residual(mid), Residual(mid))
        self.stage16 = nn.Sequential(conv_bn(mid, deep, 3, 2), nn.ReLU(), Residual(deep), Residual(deep))
        self.blocks = nn.ModuleList(AttentionBlock(deep) for _ in range(2))
        self.lateral8 = conv_bn(deep, mid, 1)
        self.merge8 = nn.Sequential(conv_bn(mid, mid), nn.ReLU())
        self.lateral4 = conv_bn(mid, fine, 1)
        self.merge4 = nn.Sequential(conv_bn(fine, fine), nn.ReLU())
        self.regions = EdgeAware(fine)
        self.pack = nn.Conv2d(fine, DESCRIPTOR + DETAIL, 1)
        self.pack_regions = nn.Conv2d(HEADS * WIDTH, DESCRIPTOR + DETAIL, 1)
        self.neck = nn.Conv2d(deep + 16 * DETAIL, CONTEXT, 1, bias=False)
        self.norm = LayerNorm2d(CONTEXT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode photos: (B, 3, H, W) -> (B, 256, H / 16, W / 16)."""
        at4 = self.stage4(self.stem(x))
        at8 = self.stage8(at4)
        at16 = self.stage16(at8)
        height, width = at16.shape[-2:]
        tokens = at16.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        at16 = tokens.transpose(1, 2).unflatten(2, (height, width))
        at8 = self.merge8(F.relu(at8 + _twice(self.lateral8(at16))))
        at4 = self.merge4(F.relu(at4 + _twice(self.lateral4(at8))))
        fine = self.pack(at4) + self.pack_regions(self.regions(at4, x))
        descriptor = fine[:, :DESCRIPTOR]
        descriptor = F.normalize(descriptor - descriptor.mean(1, keepdim=True), dim=1)
        detail = F.pixel_unshuffle(fine[:, DESCRIPTOR:], 4)
        context = self.norm(self.neck(torch.cat([at16, detail], dim=1)))
        first, second = F.pixel_unshuffle(descriptor, 4).chunk(2, dim=1)
        return torch.cat([context[:, : CONTEXT // 2], first, context[:, CONTEXT // 2 :], second], dim=1)


def descriptors(embedding: torch.Tensor) -> torch.Tensor:
    """Return the (B, DESCRIPTOR, 4h, 4w) descriptors in an embedding (B, 256, h, w)."""
    first, second = embedding.chunk(2, dim=1)
    return F.pixel_shuffle(torch.cat([first[:, CONTEXT // 2 :], second[:, CONTEXT // 2 :]], dim=1), 4)


def descriptor_channel(number: int, position: int) -> int:
    """Return the embedding's channel for a descriptor's number (0 to 11) at one of the cell's 4 x 4 positions."""
    channel = 16 * number + position
    return CONTEXT // 2 * (1 + channel // (8 * DESCRIPTOR)) + channel


def _twice(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")

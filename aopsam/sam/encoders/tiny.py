"""The image encoder of the bundled `tiny` SAM: NanoDet's trunk, two attention blocks, region descriptors at stride 4.

Dense 3x3 convolutions are what a CPU does best; the trunk (`nanodet.py`) is made of them, and has learnt objects from
COCO's boxes. Two global self-attention blocks at stride 16 cover the whole photo; a top-down path brings their context
back to stride 4. There a small head, taught by the edge detector HED, finds edges, and every position gets a descriptor
of its region, helped by averages that stop at those edges (`edge_aware.py`); the 16 descriptors under each stride-16
cell are packed into its channels, so that the mask decoder can draw detail far below the embedding's own grid.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import nn
from torch.nn import functional as F

from aopsam.sam.encoders.edge_aware import HEADS, WIDTH, EdgeAware
from aopsam.sam.encoders.nanodet import CHANNELS, LEAK, STEM, Trunk

EMBED_DIM = 256
DESCRIPTOR = 12
"""Numbers in the descriptor of a stride-4 position's region, of mean 0 and unit length, which the mask decoder's norms
leave unchanged. Those of a stride-16 cell's 16 positions fill 192 of its 256 channels, see `descriptors`."""
CONTEXT = EMBED_DIM - 16 * DESCRIPTOR
"""Channels without descriptors. Half of them come first and half from channel 128 on: where the sines and cosines of
a position's first frequencies lie, which the mask decoder adds to the embedding, so that these stay easy to read."""
DETAIL = 4
"""Further numbers of a stride-4 position, mixed with the cell's context into the other 64 channels."""
FINE, MID, DEEP = 64, 128, 256
"""Channels of the top-down path at strides 4, 8 and 16."""
FEATURES = FINE + HEADS * WIDTH
"""Channels of `TinyEncoder.with_features`."""
EDGE_WIDTH = 32
"""Channels of the edge head."""


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Build a convolution without bias and its batch normalisation; 'same' padding."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


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
        if self.training and tokens.device.type == "cpu":  # where the fused backward pass takes three times as long
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            mixed = scores.softmax(-1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        mixed = mixed.transpose(1, 2).reshape(batch, cells, channels)
        tokens = tokens + self.proj(mixed)
        return tokens + self.mlp(self.norm2(tokens))


class TinyEncoder(nn.Module):
    """Image encoder of `tiny`: (B, 3, H, W) normalised RGB -> (B, 256, H / 16, W / 16).

    H and W are multiples of 16, 512 in a whole model.

    Args:
        img_size: side in pixels of the padded square that `Sam.preprocess` makes.
    """

    def __init__(self, img_size: int = 512) -> None:
        super().__init__()
        self.img_size = img_size
        self.trunk = Trunk()
        at4, at8, at16, at32 = CHANNELS
        self.skip4 = conv_bn(at4, FINE, 1)
        self.fine4 = conv_bn(STEM, FINE, 3, 2)
        self.skip8 = conv_bn(at8, MID, 1)
        self.skip16 = conv_bn(at16, DEEP, 1)
        self.lateral16 = conv_bn(at32, DEEP, 1)
        self.blocks = nn.ModuleList(AttentionBlock(DEEP) for _ in range(2))
        self.lateral8 = conv_bn(DEEP, MID, 1)
        self.merge8 = nn.Sequential(conv_bn(MID, MID), nn.ReLU())
        self.lateral4 = conv_bn(MID, FINE, 1)
        self.merge4 = nn.Sequential(conv_bn(FINE, FINE), nn.ReLU())
        self.edge_fine = conv_bn(STEM, EDGE_WIDTH, 3, 2)
        self.edge_coarse = conv_bn(FINE, EDGE_WIDTH)
        self.edge = nn.Conv2d(EDGE_WIDTH, 1, 3, 1, 1)
        self.regions = EdgeAware(FINE)
        self.pack = nn.Conv2d(FINE, DESCRIPTOR + DETAIL, 1)
        self.pack_regions = nn.Conv2d(HEADS * WIDTH, DESCRIPTOR + DETAIL, 1)
        self.neck = nn.Conv2d(DEEP + 16 * DETAIL, CONTEXT, 1, bias=False)
        self.norm = LayerNorm2d(CONTEXT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode photos: (B, 3, H, W) -> (B, 256, H / 16, W / 16)."""
        return self._encode(x)[0]

    def embed(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embedding of photos (B, 3, H, W), and the (B, 1, H / 4, W / 4) logits of an edge."""
        embedding, edges, *_ = self._encode(x)
        return embedding, edges

    def with_features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the embedding of photos (B, 3, H, W), and what two heads read: (B, FEATURES, H / 4, W / 4), the
        top-down path and the averages up to edges, for the mask head, and (B, MID, H / 8, W / 8), the trunk's map, for
        the thing head."""
        embedding, _, features, at8 = self._encode(x)
        return embedding, features, at8

    def _encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        stem, at4, at16, trunk8 = self._context(x)
        edges = self.edge(F.leaky_relu(self.edge_fine(stem) + self.edge_coarse(at4), LEAK))
        regions = self.regions(at4, x, edges.float().sigmoid())
        fine = self.pack(at4) + self.pack_regions(regions)
        descriptor = fine[:, :DESCRIPTOR]
        descriptor = F.normalize(descriptor - descriptor.mean(1, keepdim=True), dim=1)
        detail = F.pixel_unshuffle(fine[:, DESCRIPTOR:], 4)
        context = self.norm(self.neck(torch.cat([at16, detail], dim=1)))
        first, second = F.pixel_unshuffle(descriptor, 4).chunk(2, dim=1)
        embedding = torch.cat([context[:, : CONTEXT // 2], first, context[:, CONTEXT // 2 :], second], dim=1)
        return embedding, edges, torch.cat([at4, regions], dim=1), trunk8

    def _context(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the trunk's stem at stride 2, the top-down path at strides 4 and 16, and the trunk's map at stride
        8."""
        stem, (at4, trunk8, at16, at32) = self.trunk(x)
        height, width = at16.shape[-2:]
        at16 = F.relu(self.skip16(at16) + _twice(self.lateral16(at32))[..., :height, :width])
        tokens = at16.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        at16 = tokens.transpose(1, 2).unflatten(2, (height, width))
        at8 = self.merge8(F.relu(self.skip8(trunk8) + _twice(self.lateral8(at16))))
        at4 = self.merge4(F.relu(self.skip4(at4) + self.fine4(stem) + _twice(self.lateral4(at8))))
        return stem, at4, at16, trunk8


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

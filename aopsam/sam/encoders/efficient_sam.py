"""EfficientSAM's image encoders: plain ViTs, pretrained to rebuild SAM's features (Xiong et al. 2023, section 3).

The names of the modules are those of the official `efficient_sam_vitt.pt` and `efficient_sam_vits.pt`. Every block
attends globally; positions come from the 14 x 14 table of ImageNet pretraining, enlarged.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import nn
from torch.nn import functional as F

_PATCH_PX = 16
_TABLE_CELLS = 224 // _PATCH_PX
_DEPTH = 12


class _PatchEmbed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, _PATCH_PX, _PATCH_PX)


class _Attention(nn.Module):
    """Self-attention over all cells, (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed: torch.Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return mixed


class _Mlp(nn.Module):
    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, ratio * channels)
        self.fc2 = nn.Linear(ratio * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        transformed: torch.Tensor = self.fc2(F.gelu(self.fc1(x)))
        return transformed


class _Block(nn.Module):
    """Pre-norm transformer block (Dosovitskiy et al. 2021)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = _Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = _Mlp(channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class EfficientSamEncoder(nn.Module):
    """EfficientSAM's image encoder: (B, 3, S, S) normalised RGB -> (B, 256, S/16, S/16).

    Args:
        channels: width of the ViT; 192 in EfficientSAM-Ti, 384 in EfficientSAM-S.
        heads: heads of its attention; 3 and 6.
        img_size: S, side in pixels of the square that the model reads, a multiple of 16. EfficientSAM: 1024.
    """

    def __init__(self, channels: int, heads: int, img_size: int = 1024) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_embed = _PatchEmbed(channels)
        # The first position is the class token's: part of the official file, never used.
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _TABLE_CELLS**2, channels))
        self.blocks = nn.ModuleList(_Block(channels, heads) for _ in range(_DEPTH))
        self.neck = nn.Sequential(
            nn.Conv2d(channels, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode photos: (B, 3, S, S) -> (B, 256, S/16, S/16); S may be any multiple of 16."""
        embedding: torch.Tensor = self.neck(self.features(x))
        return embedding

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what the neck reads: (B, 3, S, S) -> (B, channels, S/16, S/16)."""
        return self.tokens(x).transpose(1, 2).unflatten(2, (x.shape[-2] // _PATCH_PX, x.shape[-1] // _PATCH_PX))

    def tokens(self, x: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Run the blocks over all cells of pictures, or over the visible ones as if the others were not there.

        Args:
            x: (B, 3, S, S) normalised RGB.
            visible: (B, S/16, S/16) bool, as many in each picture.

        Returns:
            (B, cells, channels), row by row.
        """
        x = self.patch_embed.proj(x)
        table = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (_TABLE_CELLS, _TABLE_CELLS))
        x = x + F.interpolate(table, x.shape[-2:], mode="bicubic", align_corners=False)
        tokens = x.flatten(2).transpose(1, 2)
        if visible is not None:
            tokens = tokens[visible.flatten(1)].unflatten(0, (len(tokens), -1))
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

"""SAM's own image encoders: segment-anything's ViT with windowed attention (Kirillov et al. 2023, appendix A).

The modules, and so the keys of the weights, are segment-anything's; only the order of the work differs. Its attention
writes every score of every head to memory four times over (12 x 4096 x 4096 of them in a global block); here a fused
kernel makes them where it needs them, and is handed the relative positions, a few heads at a time, as its mask.
"""

from __future__ import annotations

from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, Block, get_rel_pos
from torch import nn
from torch.nn import functional as F

_SCORES_AT_ONCE = 4096 * 4096
"""Numbers in a mask of relative positions: those of one head of a global block, of all heads of a photo's windows."""
_TOKENS_AT_ONCE = 1024
"""Tokens that go through an MLP at a time, so that its hidden layer stays in the cache of a CPU."""


class ViTEncoder(ImageEncoderViT):
    """segment-anything's `ImageEncoderViT`, the same function of the same weights up to rounding.

    It takes squares of any multiple of 16 pixels: positions are then enlarged or reduced to their grid, absolute ones
    here, relative ones of global blocks by `get_rel_pos`. Windows stay 14 x 14 cells: at 224 px one is the picture.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode photos: (B, 3, S, S) normalised RGB -> (B, out_chans, S / 16, S / 16)."""
        embedding: torch.Tensor = self.neck(self.features(x))
        return embedding

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute what the neck reads: (B, 3, S, S) -> (B, channels, S / 16, S / 16)."""
        x = self.patch_embed(x)
        if self.pos_embed is not None:
            places = self.pos_embed
            if places.shape[1:3] != x.shape[1:3]:
                table = places.permute(0, 3, 1, 2)
                table = F.interpolate(table, x.shape[1:3], mode="bicubic", align_corners=False)
                places = table.permute(0, 2, 3, 1)
            x = x + places
        batch, height, width, channels = x.shape
        tokens = x.reshape(batch, height * width, channels)
        for block in self.blocks:
            tokens = _block(block, tokens, (height, width))
        return tokens.transpose(1, 2).unflatten(2, (height, width))


def _block(block: Block, tokens: torch.Tensor, hw: tuple[int, int]) -> torch.Tensor:
    """Run `Block.forward` on tokens (B, h * w, C), with nothing but attention computed for the padding of windows."""
    attention = block.attn
    normed = block.norm1(tokens)
    if block.window_size == 0:
        mixed = _attend(attention, attention.qkv(normed), hw)
    else:
        into, out_of = _windows(hw, block.window_size, tokens.device)
        # segment-anything pads windows with zeros behind the norm, and padding takes part as keys: one token of zeros,
        # the last, stands for all of it.
        qkv = attention.qkv(F.pad(normed, (0, 0, 0, 1))).index_select(1, into)
        cells = block.window_size**2
        mixed = _attend(attention, qkv.view(-1, cells, qkv.shape[2]), (block.window_size, block.window_size))
        mixed = mixed.reshape(tokens.shape[0], -1, tokens.shape[2]).index_select(1, out_of)
    tokens = tokens + attention.proj(mixed)
    return tokens + torch.cat([block.mlp(part) for part in block.norm2(tokens).split(_TOKENS_AT_ONCE, dim=1)], dim=1)


def _attend(attention: Attention, qkv: torch.Tensor, hw: tuple[int, int]) -> torch.Tensor:
    """Attend over all of h * w tokens: (B, h * w, 3 * C) -> (B, h * w, C), heads side by side, not yet projected."""
    batch, count, _ = qkv.shape
    q, k, v = qkv.view(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    if not attention.use_rel_pos:
        plain = F.scaled_dot_product_attention(q, k, v, scale=attention.scale)
        return plain.transpose(1, 2).reshape(batch, count, -1)
    height, width = hw
    down = get_rel_pos(height, height, attention.rel_pos_h)
    across = get_rel_pos(width, width, attention.rel_pos_w)
    heads = min(attention.num_heads, max(1, _SCORES_AT_ONCE // count**2))
    items = min(batch, max(1, _SCORES_AT_ONCE // (heads * count**2)))
    # New memory for every mask costs more than the sums in it; autograd has to keep each.
    buffer = None if torch.is_grad_enabled() else q.new_empty(items * heads * count**2)
    mixed = []
    for some in zip(*(x.split(items) for x in (q, k, v)), strict=True):
        parts = []
        for q_, k_, v_ in zip(*(x.split(heads, dim=1) for x in some), strict=True):
            bias = _bias(q_, down, across, buffer)
            parts.append(F.scaled_dot_product_attention(q_, k_, v_, attn_mask=bias, scale=attention.scale))
        mixed.append(torch.cat([part.transpose(1, 2) for part in parts], dim=2))
    return torch.cat(mixed).view(batch, count, -1)


def _bias(q: torch.Tensor, down: torch.Tensor, across: torch.Tensor, buffer: torch.Tensor | None) -> torch.Tensor:
    """Compute SAM's decomposed relative positions, which are added to each query's scores.

    Args:
        q: (B, heads, h * w, c).
        down: (h, h, c), for the rows of a query and a key.
        across: (w, w, c), for their columns.
        buffer: at least B * heads * (h * w)**2 numbers that the result may be written to.

    Returns:
        (B, heads, h * w, h * w).
    """
    grid = q.unflatten(2, (len(down), len(across)))
    rows = torch.einsum("bnhwc,hkc->bnhwk", grid, down).contiguous().unsqueeze(-1)
    columns = torch.einsum("bnhwc,wkc->bnhwk", grid, across).contiguous().unsqueeze(-2)
    shape = torch.broadcast_shapes(rows.shape, columns.shape)
    out = None if buffer is None else buffer[: shape.numel()].view(shape)
    return torch.add(rows, columns, out=out).view(*q.shape[:3], -1)


def _windows(hw: tuple[int, int], size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the token of each cell of the windows, h * w where it is padding, and the cell of each token.

    Returns:
        (windows * size**2,) and (h * w,) int64, both in row-major order.
    """
    height, width = hw
    tokens = torch.arange(height * width, device=device).view(height, width)
    padded = F.pad(tokens, (0, -width % size, 0, -height % size), value=height * width)
    into = padded.unflatten(1, (-1, size)).unflatten(0, (-1, size)).transpose(1, 2).flatten()
    return into, into.argsort()[: height * width]


def _vit(embed_dim: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> ViTEncoder:
    """Build (B, 3, 1024, 1024) -> (B, 256, 64, 64) as `segment_anything.build_sam` configures it."""
    return ViTEncoder(
        img_size=1024,
        patch_size=16,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=4,
        out_chans=256,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=global_blocks,
    )


def vit_b() -> ViTEncoder:
    """Build ViT-B: 12 blocks of 768 channels, 90 M parameters."""
    return _vit(embed_dim=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))


def vit_l() -> ViTEncoder:
    """Build ViT-L: 24 blocks of 1024 channels, 308 M parameters."""
    return _vit(embed_dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))


def vit_h() -> ViTEncoder:
    """Build ViT-H: 32 blocks of 1280 channels, 637 M parameters."""
    return _vit(embed_dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))

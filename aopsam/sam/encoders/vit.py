"""SAM's own image encoders: segment-anything's ViT with windowed attention (Kirillov et al. 2023, appendix A)."""

from __future__ import annotations

from functools import partial

from segment_anything.modeling import ImageEncoderViT
from torch import nn


def _vit(embed_dim: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> ImageEncoderViT:
    """(B, 3, 1024, 1024) -> (B, 256, 64, 64), as `segment_anything.build_sam` configures it."""
    return ImageEncoderViT(
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


def vit_b() -> ImageEncoderViT:
    """ViT-B: 12 blocks of 768 channels, 90 M parameters."""
    return _vit(embed_dim=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))


def vit_l() -> ImageEncoderViT:
    """ViT-L: 24 blocks of 1024 channels, 308 M parameters."""
    return _vit(embed_dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))


def vit_h() -> ImageEncoderViT:
    """ViT-H: 32 blocks of 1280 channels, 637 M parameters."""
    return _vit(embed_dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))

"""Mask decoders of `transformers` as segment-anything's: other names and signatures around the very same layers.

No weight is copied or converted. In this form `fast_decoder.PromptedDecoder` runs them.
"""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import nn

from aopsam.sam.decoders.sam2 import Sam2MaskDecoder


class _Attention(Attention):
    def __init__(self, theirs: Any) -> None:
        nn.Module.__init__(self)
        self.num_heads = theirs.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj = theirs.q_proj, theirs.k_proj, theirs.v_proj
        self.out_proj = theirs.out_proj if hasattr(theirs, "out_proj") else theirs.o_proj


class _Block(TwoWayAttentionBlock):
    def __init__(self, theirs: Any) -> None:
        nn.Module.__init__(self)
        self.self_attn = _Attention(theirs.self_attn)
        self.cross_attn_token_to_image = _Attention(theirs.cross_attn_token_to_image)
        self.cross_attn_image_to_token = _Attention(theirs.cross_attn_image_to_token)
        self.mlp = theirs.mlp
        self.norm1, self.norm2 = theirs.layer_norm1, theirs.layer_norm2
        self.norm3, self.norm4 = theirs.layer_norm3, theirs.layer_norm4
        self.skip_first_layer_pe = theirs.skip_first_layer_pe


class _Transformer(TwoWayTransformer):
    def __init__(self, theirs: Any) -> None:
        nn.Module.__init__(self)
        self.layers = nn.ModuleList(_Block(layer) for layer in theirs.layers)
        self.final_attn_token_to_image = _Attention(theirs.final_attn_token_to_image)
        self.norm_final_attn = theirs.layer_norm_final_attn


class SharedMaskDecoder(MaskDecoder):
    """SAM's mask decoder of `transformers`."""

    def __init__(self, theirs: Any) -> None:
        nn.Module.__init__(self)
        _share(self, theirs)


class SharedSam2MaskDecoder(Sam2MaskDecoder):
    """SAM 2's mask decoder of `transformers`, and those of EdgeTAM and SAM 3's tracker, which have its layers."""

    def __init__(self, theirs: Any) -> None:
        nn.Module.__init__(self)
        _share(self, theirs)
        self.conv_s0, self.conv_s1 = theirs.conv_s0, theirs.conv_s1
        self.obj_score_token = theirs.obj_score_token
        self._chooses = bool(theirs.dynamic_multimask_via_stability)
        self._delta = float(theirs.dynamic_multimask_stability_delta)
        self._least = float(theirs.dynamic_multimask_stability_thresh)

    def is_stable(self, logits: torch.Tensor) -> torch.Tensor:
        """Return which single masks can be kept, by the configuration's own bars: (B, h, w) logits -> (B,) bool."""
        inner, outer = (torch.sum(logits.flatten(1) > bar, dim=1).float() for bar in (self._delta, -self._delta))
        stable = torch.where(outer > 0, inner / outer, 1.0) >= self._least
        return stable if self._chooses else torch.ones_like(stable)


def _share(ours: MaskDecoder, theirs: Any) -> None:
    ours.iou_token, ours.mask_tokens = theirs.iou_token, theirs.mask_tokens
    ours.num_mask_tokens = len(theirs.mask_tokens.weight)
    ours.num_multimask_outputs = ours.num_mask_tokens - 1
    ours.transformer = _Transformer(theirs.transformer)
    ours.output_upscaling = nn.Sequential(
        theirs.upscale_conv1, theirs.upscale_layer_norm, theirs.activation, theirs.upscale_conv2, theirs.activation
    )
    ours.output_hypernetworks_mlps = theirs.output_hypernetworks_mlps
    ours.iou_prediction_head = theirs.iou_prediction_head

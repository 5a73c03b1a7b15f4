"""SAM 2 for single images (Ravi et al. 2024): its prompt encoder, its mask decoder, and the model around them.

SAM 2's modules for videos (memory attention and encoder, object pointers) are left out. The names of the modules are
those of the official weights, but for a leading `sam_`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn, TypeVar

import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.mask_decoder import MLP
from torch import nn

from aopsam.sam.encoders.hiera import HieraEncoder, hiera_b_plus, hiera_l, hiera_s, hiera_t
from aopsam.sam.model import EMBED_DIM, SamPromptEncoder, StretchedSam

T = TypeVar("T")

_VIDEO = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "mask_downsample.",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
)
"""Prefixes of the published weights that only videos need."""


def image_weights(published: Mapping[str, T]) -> dict[str, T]:
    """Select the weights of `Sam2` from a published file, under the names of its modules."""
    return {name.removeprefix("sam_"): value for name, value in published.items() if not name.startswith(_VIDEO)}


class Sam2PromptEncoder(SamPromptEncoder):
    """segment-anything's prompt encoder; SAM 2 gives boxes as two points, and so with the padding token too."""

    def forward(
        self,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode prompts as `SamPromptEncoder` does, with a padding token after boxes."""
        sparse, dense = super().forward(points, boxes, masks)
        if boxes is None:
            return sparse, dense
        padding = self.not_a_point_embed.weight.expand(len(sparse), 1, -1)
        return torch.cat([sparse, padding], dim=1), dense


class Sam2MaskDecoder(MaskDecoder):
    """segment-anything's mask decoder with SAM 2's layers in it; `fast_decoder.PromptedDecoder` runs it."""

    def __init__(self) -> None:
        hidden = 2048
        transformer = TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, mlp_dim=hidden, num_heads=8)
        for layer in transformer.layers:
            layer.mlp = MLP(EMBED_DIM, hidden, EMBED_DIM, num_layers=2)
        super().__init__(num_multimask_outputs=3, transformer=transformer, transformer_dim=EMBED_DIM)
        self.iou_prediction_head = MLP(EMBED_DIM, 256, self.num_mask_tokens, num_layers=3, sigmoid_output=True)
        self.conv_s0 = nn.Conv2d(EMBED_DIM, EMBED_DIM // 8, 1)
        self.conv_s1 = nn.Conv2d(EMBED_DIM, EMBED_DIM // 4, 1)
        self.obj_score_token = nn.Embedding(1, EMBED_DIM)
        # Object score, for videos: part of the official file, never called.
        self.pred_obj_score_head = MLP(EMBED_DIM, EMBED_DIM, 1, num_layers=3)

    def is_stable(self, logits: torch.Tensor) -> torch.Tensor:
        """Return which single masks can be kept: (B, h, w) low-resolution logits -> (B,) bool.

        The area above 0.05 is at least 0.98 of that above -0.05 (`dynamic_multimask_via_stability` of the reference).
        """
        inner, outer = (torch.sum(logits.flatten(1) > bar, dim=1).float() for bar in (0.05, -0.05))
        return torch.where(outer > 0, inner / outer, 1.0) >= 0.98

    def forward(self, *arguments: object, **options: object) -> NoReturn:
        """Raise a TypeError: the decoder needs the photo's finer features."""
        raise _several_levels()


class Sam2(StretchedSam):
    """SAM 2 on single images: reads photos stretched to 1024 x 1024, averaged where they are larger."""

    antialias = True

    def __init__(self, image_encoder: HieraEncoder) -> None:
        grid = (image_encoder.img_size // 16, image_encoder.img_size // 16)
        super().__init__(image_encoder, Sam2PromptEncoder(grid, image_encoder.img_size), Sam2MaskDecoder())
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, EMBED_DIM))

    def preprocess(self, x: torch.Tensor) -> NoReturn:
        """Raise a TypeError: `SamPredictor`, which calls this first, can hold one embedding."""
        raise _several_levels()

    def levels(
        self, coarse: torch.Tensor, middle: torch.Tensor, fine: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the decoder's inputs from the encoder's outputs: the embedding plus `no_mem_embed`, (1, 256, h, w),
        and finer features (1, 64, 2h, 2w) and (1, 32, 4h, 4w)."""
        decoder = self.mask_decoder
        return coarse + self.no_mem_embed.view(1, -1, 1, 1), decoder.conv_s1(middle), decoder.conv_s0(fine)


def _several_levels() -> TypeError:
    return TypeError(
        "SAM 2 decodes from several levels of features, where SamPredictor has one: use aopsam.AutoMaskGenerator"
    )


def _build(encoder: Callable[[int], HieraEncoder], img_size: int = 1024) -> Sam2:
    return Sam2(encoder(img_size)).eval()


SAM2_MODELS = {
    "hiera_t": partial(_build, hiera_t),
    "hiera_s": partial(_build, hiera_s),
    "hiera_b+": partial(_build, hiera_b_plus),
    "hiera_l": partial(_build, hiera_l),
}
"""Builders of models with random weights, by the official name of the encoder; `img_size` is the square's side, px."""

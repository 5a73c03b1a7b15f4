"""Assemble a `segment_anything.modeling.Sam` around any image encoder."""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from torch import nn

EMBED_DIM = 256
"""Channels of every SAM image embedding (Kirillov et al. 2023, appendix A)."""


class PositionEmbedding(PositionEmbeddingRandom):
    """SAM's random Fourier features, computed in float32 and returned in the buffer's dtype.

    segment-anything multiplies float32 coordinates with the buffer, which fails once the model is `.half()`.
    """

    def _pe_encoding(self, coords: torch.Tensor) -> torch.Tensor:
        matrix = self.positional_encoding_gaussian_matrix
        angles = (2 * coords.float() - 1) @ matrix.float() * (2 * torch.pi)
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1).to(matrix.dtype)


class SamPromptEncoder(PromptEncoder):
    """segment-anything's prompt encoder, usable in half precision.

    Args:
        grid: rows and columns of the embedding.
        image_px: side of the square that prompts are given in.
        trained_px: side of the square in which prompts were given during training; `image_px` by default.
    """

    def __init__(self, grid: tuple[int, int], image_px: int, trained_px: int | None = None) -> None:
        side = trained_px or image_px
        super().__init__(
            embed_dim=EMBED_DIM, image_embedding_size=grid, input_image_size=(side, side), mask_in_chans=16
        )
        self.pe_layer = PositionEmbedding(EMBED_DIM // 2)
        self._enlarge = side / image_px

    def forward(
        self,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode prompts as segment-anything does, then cast the tokens to the weights' dtype.

        segment-anything concatenates the tokens to an empty float32 tensor.
        """
        if masks is not None:
            masks = masks.to(self.no_mask_embed.weight.dtype)
        if points is not None:
            points = (points[0] * self._enlarge, points[1])
        if boxes is not None:
            boxes = boxes * self._enlarge
        sparse, dense = super().forward(points, boxes, masks)
        return sparse.to(dense.dtype), dense


class StretchedSam(Sam):
    """A SAM that reads photos stretched to its square, each side by its own factor, where SAM pads the shorter one.

    Its masks are enlarged to the photo in one step, as its authors do.

    Attributes:
        antialias: whether a photo larger than the square is averaged on the way.
    """

    antialias: bool


def assemble(image_encoder: nn.Module, stride: int = 16, prompt_px: int | None = None) -> Sam:
    """Join an encoder with segment-anything's prompt encoder and mask decoder (random weights, eval mode).

    Args:
        image_encoder: has `img_size` (S, pixels of the padded square it reads) and maps (B, 3, S, S) to
            (B, 256, S / stride, S / stride).
        stride: pixels of the padded square per cell of the embedding.
        prompt_px: side of the square in which prompts were given during training, where it is not S.
    """
    size = int(image_encoder.img_size)  # type: ignore[arg-type]
    grid = (size // stride, size // stride)
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, mlp_dim=2048, num_heads=8),
        transformer_dim=EMBED_DIM,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    return Sam(image_encoder, SamPromptEncoder(grid, size, prompt_px), decoder).eval()

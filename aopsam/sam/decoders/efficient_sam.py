"""EfficientSAM's prompt encoder and mask decoder (Xiong et al. 2023), where they differ from segment-anything's.

Prompts fill six slots, empty ones included; there is no embedding of "no mask"; MLPs are shorter and use GELU; the
tokens' attention to each other keeps a residual and the prompts' positions; masks are normalised over the whole photo.
The names of the modules are those of the official weights.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import nn

from aopsam.sam.encoders.efficient_sam import EfficientSamEncoder
from aopsam.sam.model import EMBED_DIM, PositionEmbedding, StretchedSam

_SLOTS = 6
"""Point slots of every prompt, most of them empty: `decoder_max_num_input_points` of the reference."""


class EfficientSam(StretchedSam):
    """EfficientSAM: reads photos stretched to 1024 x 1024 by plain bilinear interpolation."""

    antialias = False


class _PromptEncoder(nn.Module):
    """Prompt encoder of points and boxes, called like segment-anything's; it takes no mask prompts."""

    def __init__(self, grid: tuple[int, int], image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_embedding_size, self.input_image_size = grid, image_size
        self.pe_layer = PositionEmbedding(EMBED_DIM // 2)
        self.invalid_points = nn.Embedding(1, EMBED_DIM)
        self.point_embeddings = nn.Embedding(1, EMBED_DIM)
        self.bbox_top_left_embeddings = nn.Embedding(1, EMBED_DIM)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, EMBED_DIM)

    def get_dense_pe(self) -> torch.Tensor:
        """Return the positional encoding of the embedding's cells, (1, 256, h, w)."""
        return self.pe_layer(self.image_embedding_size)[None]

    def forward(
        self,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        boxes: torch.Tensor | None,
        masks: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode prompts as tokens (B, 6, 256), and as zeros (B, 256, h, w) to add to the embedding.

        Args:
            points: (B, n, 2) XY in pixels of the model's square, and (B, n) labels, 1 for a point of the object. No
                weights exist for points of the background: those of label 0 have a position alone, as in the reference.
            boxes: (B, 4) XYXY in those pixels.
            masks: must be None.

        Raises:
            ValueError: a mask prompt.
        """
        if masks is not None:
            raise ValueError("EfficientSAM takes points and boxes, no mask as a prompt")
        device = self.invalid_points.weight.device
        coords, labels = points if points is not None else (torch.zeros(1, 0, 2), torch.zeros(1, 0))
        coords, labels = coords.to(device, torch.float32), labels.to(device)
        if boxes is not None:
            if points is None:
                coords, labels = coords.expand(len(boxes), -1, -1), labels.expand(len(boxes), -1)
            corners = torch.tensor([[2, 3]], device=device, dtype=labels.dtype).expand(len(boxes), -1)
            coords = torch.cat([coords, boxes.to(device, torch.float32).reshape(-1, 2, 2)], dim=1)
            labels = torch.cat([labels, corners], dim=1)
        empty = max(0, _SLOTS - coords.shape[1])
        coords = nn.functional.pad(coords[:, :_SLOTS], (0, 0, 0, empty), value=-1.0)
        labels = nn.functional.pad(labels[:, :_SLOTS], (0, empty), value=-1)
        tokens = self.pe_layer.forward_with_coords(coords + 0.5, self.input_image_size)
        for label, embedding in (
            (-1, self.invalid_points),
            (1, self.point_embeddings),
            (2, self.bbox_top_left_embeddings),
            (3, self.bbox_bottom_right_embeddings),
        ):
            tokens = tokens + embedding.weight * (labels == label)[..., None]
        dense = tokens.new_zeros(1, EMBED_DIM, 1, 1)
        return tokens, dense.expand(len(tokens), -1, *self.image_embedding_size)


class _Mlp(nn.Module):
    """Linear layers with GELU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, hidden_layers: int) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * (hidden_layers - 1)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(width, hidden), nn.GELU()) for width in widths)
        self.fc = nn.Linear(hidden, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        last: torch.Tensor = self.fc(x)
        return last


class _SelfAttention(Attention):
    """The tokens' attention to each other, so that segment-anything's block around it computes EfficientSAM's.

    EfficientSAM: queries + attention(queries), where from the second layer on the queries hold their positions and
    keep them. segment-anything's block calls this with q = k = queries plus positions and v = queries, and adds v to
    what it returns; in the first layer there are no positions (q = v) and it adds nothing.
    """

    def __init__(self, channels: int, heads: int, first: bool) -> None:
        super().__init__(channels, heads)
        self._first = first

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = super().forward(q, k, k)
        return attended + (q if self._first else q - v)


class _MaskDecoder(MaskDecoder):
    """segment-anything's mask decoder with EfficientSAM's layers in it."""

    def __init__(self) -> None:
        heads, hidden = 8, 2048
        transformer = TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, mlp_dim=hidden, num_heads=heads)
        for index, layer in enumerate(transformer.layers):
            layer.self_attn = _SelfAttention(EMBED_DIM, heads, first=index == 0)
            layer.mlp = _Mlp(EMBED_DIM, hidden, EMBED_DIM, hidden_layers=1)
        super().__init__(num_multimask_outputs=3, transformer=transformer, transformer_dim=EMBED_DIM)
        del self.output_upscaling
        half, quarter = EMBED_DIM // 4, EMBED_DIM // 8
        self.final_output_upscaling_layers = nn.ModuleList(
            [
                nn.Sequential(nn.ConvTranspose2d(EMBED_DIM, half, 2, 2), nn.GroupNorm(1, half), nn.GELU()),
                nn.Sequential(nn.ConvTranspose2d(half, quarter, 2, 2), nn.Identity(), nn.GELU()),
            ]
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            _Mlp(EMBED_DIM, EMBED_DIM, quarter, hidden_layers=2) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = _Mlp(EMBED_DIM, 256, self.num_mask_tokens, hidden_layers=2)

    @property
    def output_upscaling(self) -> nn.Sequential:
        """The layers of the upscaling, in segment-anything's order."""
        first, second = self.final_output_upscaling_layers
        return nn.Sequential(first[0], first[1], first[2], second[0], second[2])  # type: ignore[index]


def _efficient_sam(channels: int, heads: int, img_size: int) -> EfficientSam:
    grid = (img_size // 16, img_size // 16)
    prompt_encoder = _PromptEncoder(grid, (img_size, img_size))
    return EfficientSam(EfficientSamEncoder(channels, heads, img_size), prompt_encoder, _MaskDecoder()).eval()


def efficient_sam_ti(img_size: int = 1024) -> EfficientSam:
    """Build EfficientSAM-Ti, 10 M parameters, random weights; `img_size` is the side of its square in pixels."""
    return _efficient_sam(192, 3, img_size)


def efficient_sam_s(img_size: int = 1024) -> EfficientSam:
    """Build EfficientSAM-S, 26 M parameters, random weights; `img_size` is the side of its square in pixels."""
    return _efficient_sam(384, 6, img_size)

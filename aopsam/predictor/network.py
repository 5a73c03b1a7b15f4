"""Prompt Predictor network: takes photo and SAM embedding, gives the prompt confidence map."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from aopsam.predictor.sampling import Sampling

_PRIOR = -3.0  # logit of a rare event: most of a target is near 0, and MSE through a sigmoid starts slowly elsewhere


def _conv(channels_in: int, channels_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(channels_in, channels_out, 3, stride, padding=dilation, dilation=dilation)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(layer, nn.ReLU(inplace=True))


class PromptPredictor(nn.Module):
    """Two small encoders (image, embedding), concatenated, and a decoder down to one channel.

    Chen et al. 2025 (AoP-SAM), "Prompt Predictor Architecture": three convolutions with ReLU over the image; the
    embedding brought to the image branch's size and to 32 channels; concatenation; convolutions down to one sigmoid
    channel. The paper gives no widths. Two choices of ours reduce the cost: the 1×1 convolution to 32 channels runs
    before the bilinear resize (the two commute), and the inner layers run at a quarter and half of the map's
    resolution, which a skip from the first image layer and a sub-pixel convolution (Shi et al. 2016) bring back to full
    size.

    Attributes:
        sam: name of the SAM whose embeddings the predictor was trained on.
        sam_sha256: hex digest of that SAM's weights.
        sampling: values for the sampling of its map.
        sha256: hex digest of the weights file; empty for weights that were not read from a file.
    """

    EMBEDDING_WIDTH = 32

    def __init__(self, embedding_channels: int = 256) -> None:
        super().__init__()
        self.sam = ""
        self.sam_sha256 = ""
        self.sha256 = ""
        self.sampling = Sampling()
        self.embedding_channels = embedding_channels
        self.image_to_half = _conv(3, 16, stride=2)
        self.image_to_quarter = nn.Sequential(_conv(16, 32, stride=2), _conv(32, 32))
        self.embedding = nn.Conv2d(embedding_channels, self.EMBEDDING_WIDTH, 1)
        self.at_quarter = nn.Sequential(
            _conv(32 + self.EMBEDDING_WIDTH, 40), _conv(40, 40, dilation=2), _conv(40, 32, dilation=4)
        )
        self.at_half = nn.Sequential(_conv(32 + 16, 16), _conv(16, 16))
        self.to_full = nn.Conv2d(16, 4, 3, padding=1)
        nn.init.normal_(self.to_full.weight, std=0.01)
        nn.init.constant_(self.to_full.bias, _PRIOR)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Compute the logits of the prompt confidence map.

        Args:
            image: (B, 3, S, S) float, normalised, S a multiple of 4 (256 in use).
            embedding: (B, C, h, w) float, SAM's embedding of the same padded square; any h and w.

        Returns:
            (B, 1, S, S) logits; `sigmoid` of them is the map.
        """
        half = self.image_to_half(image)
        quarter = self.image_to_quarter(half)
        context = F.interpolate(self.embedding(embedding), size=quarter.shape[-2:], mode="bilinear")
        joined = self.at_quarter(torch.cat([quarter, F.relu(context)], dim=1))
        joined = F.interpolate(joined, size=half.shape[-2:], mode="bilinear")
        return F.pixel_shuffle(self.to_full(self.at_half(torch.cat([joined, half], dim=1))), 2)

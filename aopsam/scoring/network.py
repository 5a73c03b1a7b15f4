"""The scorer: from the numbers of a mask (`features.py`) to the IoU that it should have with a true mask: with the best
of a photo, and with the one that its prompt asks for."""

from __future__ import annotations

import torch
from torch import nn

from aopsam._as_loaded import as_loaded
from aopsam.sam.decode import DecodedMasks
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts
from aopsam.scoring.features import FEATURES, mask_features

HIDDEN = 64
THING_EVIDENCE = 2.0
"""Added to the logit, times `is_thing`, where prompts lie anywhere: there most masks are of nothing that was annotated,
other than in training, and what speaks for an object weighs more (benchmarks/LOG.md)."""
FARTHEST = 5.0
"""Standard deviations from the mean of training beyond which a number says no more."""


class MaskScorer(nn.Module):
    """Two hidden layers on standardised numbers of a mask.

    Attributes:
        sam: name of the SAM whose masks it learnt from.
        sam_sha256: digest of that SAM's weights.
        sha256: digest of its own weights file, empty where it comes from none.
        score_thresh: least score of a mask that everything mode keeps.
        pred_iou_thresh: least predicted IoU of a mask that it scores: hardly one below reaches `score_thresh`.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(FEATURES)))
        self.register_buffer("deviation", torch.ones(len(FEATURES)))
        self.layers = nn.Sequential(
            *(nn.Linear(len(FEATURES), HIDDEN), nn.GELU()),
            *(nn.Linear(HIDDEN, HIDDEN), nn.GELU()),
            nn.Linear(HIDDEN, 2),
        )
        self.sam = self.sam_sha256 = self.sha256 = ""
        self.score_thresh = self.pred_iou_thresh = 0.0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(K, len(FEATURES)) -> (K, 2) logits of the expected IoU: with the best of all true masks, and with the one
        that was asked for."""
        standard = ((features - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)
        logits: torch.Tensor = self.layers(standard)
        return logits

    @torch.inference_mode()
    def score(
        self,
        photo: EncodedPhoto,
        prompts: Prompts,
        decoded: DecodedMasks,
        *,
        anywhere: bool = False,
        drawn: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the score (K,) float32 in [0, 1] of the K decoded masks of a photo, on the CPU.

        Where prompts lie anywhere, it is the IoU expected with the best of all objects, else with the one asked for.

        Args:
            photo: the encoded photo.
            prompts: the N prompts that were decoded.
            decoded: their masks.
            anywhere: whether the prompts lie anywhere, as in everything mode, or on objects that were asked for.
            drawn: (K, r, c) logits of those masks drawn once more, which are scored then.
        """
        features = mask_features(photo, prompts, decoded, drawn).to(self.mean.device)
        with as_loaded(self):
            logits = self(features)[:, 0 if anywhere else 1]
        evidence = THING_EVIDENCE * anywhere * features[:, FEATURES.index("is_thing")]
        return (logits + evidence).sigmoid().cpu()

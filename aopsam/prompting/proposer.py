"""Who reads the prompt confidence map off a photo: a predictor, on the embedding of the SAM that it was trained for."""

from __future__ import annotations

import numpy as np
from segment_anything.modeling import Sam

from aopsam.predictor.inference import confidence_map
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.weights import load_predictor
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.registry import load_sam


class Proposer:
    """A predictor, and the SAM whose embedding it reads where that is not the SAM that decodes.

    A predictor only understands the embedding it was trained on. For a SAM without a predictor of its own the bundled
    `tiny` with its predictor proposes; the chosen SAM decodes.
    """

    def __init__(self, model: Sam, predictor: PromptPredictor | None = None) -> None:
        """Take `predictor` for `model`; by default the bundled one, which belongs to the bundled `tiny`."""
        self.predictor = (load_predictor() if predictor is None else predictor).to(model.device)
        belongs = self.predictor.sam_sha256 == model.sha256
        if predictor is not None and not belongs:
            belongs = self.predictor.sam == model.name
        self.sam = None if belongs else load_sam(self.predictor.sam).to(model.device)

    def confidence(self, photo: EncodedPhoto) -> np.ndarray:
        """The prompt confidence map of a photo, (h', w') float32 in [0, 1], without padding."""
        source = photo if self.sam is None else encode(self.sam, photo.rgb)
        return confidence_map(self.predictor, photo.rgb, source.embedding)

"""From an encoded photo to its prompt confidence map: a predictor on the embedding of the SAM that it belongs to."""

from __future__ import annotations

import numpy as np
from segment_anything.modeling import Sam

from aopsam.predictor.inference import confidence_map
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.weights import load_predictor
from aopsam.prompting.embedding_source import EmbeddingSource
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.model import StretchedSam


class Proposer:
    """A predictor, and where its embeddings come from."""

    def __init__(self, model: Sam, predictor: PromptPredictor | None = None) -> None:
        """Take `predictor` for `model`; by default the bundled one, which belongs to the bundled `tiny`.

        Raises:
            ValueError: a predictor of weights that its SAM does not have.
            CheckpointError: the weights of its SAM, where that is another than `model`, cannot be had.
        """
        self.predictor = (load_predictor() if predictor is None else predictor).to(model.device)
        self.source = EmbeddingSource(model, self.predictor, "the predictor")

    def confidence(self, photo: EncodedPhoto) -> np.ndarray:
        """Return the prompt confidence map of a photo, (h', w') float32 in [0, 1], without padding."""
        encoded = self.source(photo)
        stretched = isinstance(encoded.model, StretchedSam)
        return confidence_map(self.predictor, photo.rgb, encoded.embedding, stretched=stretched)

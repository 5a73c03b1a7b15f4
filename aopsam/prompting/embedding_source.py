"""Embedding for a predictor or detector: of the SAM that decodes, or of the SAM that the network was trained on."""

from __future__ import annotations

from segment_anything.modeling import Sam

from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.registry import load_sam


class EmbeddingSource:
    """Encodes photos for a predictor or a detector, which only understands the embedding that it was trained on.

    Where the SAM that decodes is another, that one encodes the photo a second time, for the network alone. So the
    bundled `tiny`, with its predictor and its detector, proposes for any SAM without networks of its own.

    Attributes:
        sam: that other SAM; None where the decoding one is the network's own.
    """

    def __init__(self, model: Sam, name: str, own: bool) -> None:
        """Set up the source.

        Args:
            model: the SAM that decodes.
            name: of the SAM whose embeddings the network was trained on.
            own: whether that is `model`.

        Raises:
            ValueError: `name` is in no registry.
            CheckpointError: weights that cannot be had.
        """
        self.sam = None if own else load_sam(name).to(model.device)

    def __call__(self, photo: EncodedPhoto) -> EncodedPhoto:
        """Return the photo as the network's SAM encodes it."""
        return photo if self.sam is None else encode(self.sam, photo.rgb)

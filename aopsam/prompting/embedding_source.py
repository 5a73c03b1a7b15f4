"""Embedding for a predictor or detector: of the SAM that decodes, or of the SAM that the network was trained on."""

from __future__ import annotations

from segment_anything.modeling import Sam

from aopsam.detector.network import BoxDetector
from aopsam.predictor.network import PromptPredictor
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.registry import digest_of, known_digest, load_sam, name_of


class EmbeddingSource:
    """Encodes photos for a predictor or a detector, which only understands the embedding that it was trained on.

    Where the SAM that decodes is another, that one encodes the photo a second time, for the network alone. So the
    bundled `tiny`, with its predictor and its detector, proposes for any SAM without networks of its own.

    Attributes:
        sam: that other SAM; None where the decoding one is the network's own.
    """

    def __init__(self, model: Sam, network: PromptPredictor | BoxDetector, what: str) -> None:
        """Set up the source.

        Args:
            model: the SAM that decodes.
            network: belongs to weights, not to a name: those of `model`, or those that `load_sam` gives.
            what: the network in an error's words.

        Raises:
            ValueError: `network` is of a SAM in no registry, or of weights of that name that are neither.
            CheckpointError: weights that cannot be had.
        """
        self.sam: Sam | None = None
        if network.sam_sha256 == digest_of(model):
            return
        given = known_digest(network.sam)
        if given in ("", network.sam_sha256):
            self.sam = load_sam(network.sam).to(model.device)
            given = digest_of(self.sam)
        if given != network.sam_sha256:
            raise ValueError(
                f"{what} was trained on the embeddings of {network.sam} ({network.sam_sha256[:12]}), which are neither"
                f" those of the SAM, {name_of(model)} ({digest_of(model)[:12]}), nor of the {network.sam} that load_sam"
                f" gives ({given[:12]}); use it with the weights it was trained for, or train one for these"
            )

    def __call__(self, photo: EncodedPhoto) -> EncodedPhoto:
        """Return the photo as the network's SAM encodes it, which it may have done already."""
        return photo if self.sam is None or photo.model is self.sam else encode(self.sam, photo.rgb)

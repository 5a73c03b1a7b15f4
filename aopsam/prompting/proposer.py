"""From an encoded photo to its prompt confidence map, or to boxes of its objects: a predictor or a detector on the
embedding of the SAM that it belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from segment_anything.modeling import Sam

from aopsam.detector.inference import MAX_BOXES, NMS_THRESH, detect
from aopsam.detector.network import BoxDetector
from aopsam.detector.onnx import OnnxDetector
from aopsam.detector.weights import load_detector
from aopsam.predictor.inference import confidence_map
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.weights import load_predictor
from aopsam.prompting.embedding_source import EmbeddingSource
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.model import StretchedSam


class Proposer:
    """A predictor, and where its embeddings come from.

    Attributes:
        reads: the SAM whose embeddings the predictor reads.
    """

    def __init__(self, model: Sam, predictor: PromptPredictor | None = None) -> None:
        """Take `predictor` for `model`; by default the bundled one, which belongs to the bundled `tiny`.

        Raises:
            ValueError: a predictor of weights that its SAM does not have.
            CheckpointError: the weights of its SAM, where that is another than `model`, cannot be had.
        """
        self.predictor = (load_predictor() if predictor is None else predictor).to(model.device)
        self.source = EmbeddingSource(model, self.predictor, "the predictor")
        self.reads = self.source.sam or model

    def confidence(self, photo: EncodedPhoto) -> np.ndarray:
        """Return the prompt confidence map of a photo, (h', w') float32 in [0, 1], without padding."""
        encoded = self.source(photo)
        stretched = isinstance(encoded.model, StretchedSam)
        return confidence_map(self.predictor, photo.rgb, encoded.embedding, stretched=stretched)


class BoxProposer:
    """A detector, and where its embeddings come from, unless it reads the photo itself."""

    def __init__(self, model: Sam, detector: BoxDetector | Path | None = None) -> None:
        """Take a detector for `model`.

        Args:
            model: the SAM that encodes the photos.
            detector: or its file, `.safetensors` or `.onnx`; by default the bundled one.

        Raises:
            ValueError: a file that holds no detector, or a detector of weights that its SAM does not have.
            FileNotFoundError: no such file.
        """
        self.detector: BoxDetector | OnnxDetector
        if isinstance(detector, Path) and detector.suffix == ".onnx":
            self.detector = OnnxDetector(str(detector))
            return
        self.detector = (detector if isinstance(detector, BoxDetector) else load_detector(detector)).to(model.device)
        self.source = EmbeddingSource(model, self.detector, "the detector")

    def boxes(
        self, photo: EncodedPhoto, max_boxes: int = MAX_BOXES, nms_thresh: float = NMS_THRESH
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return `aopsam.detector.inference.detect` of a photo: boxes (K, 4) XYXY px by falling score, scores (K,)."""
        if isinstance(self.detector, OnnxDetector):
            return self.detector.detect(photo.rgb, max_boxes=max_boxes, nms_thresh=nms_thresh)
        return detect(self.detector, self.source(photo), max_boxes=max_boxes, nms_thresh=nms_thresh)

    def weights(self) -> dict[str, str]:
        """Name the detector's weights, as `Strategy.weights` does."""
        return {"sam": self.detector.sam, "sha256": self.detector.sha256}

"""`oas-box` and `oas-center`: object-aware sampling. A detector says where objects are (Zhang et al. 2023,
MobileSAMv2)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from segment_anything.modeling import Sam

from aopsam._options import Count, Share
from aopsam.detector.inference import MAX_BOXES, NMS_THRESH, detect
from aopsam.detector.network import BoxDetector
from aopsam.detector.onnx import OnnxDetector
from aopsam.detector.weights import load_detector
from aopsam.prompting.embedding_source import EmbeddingSource
from aopsam.prompting.fates import Fates
from aopsam.prompting.strategy import Context, Decoded, Strategy
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


class ObjectAware(Strategy):
    """The detector's boxes by falling score, in one round: as boxes with one mask each, or their centres with three."""

    name: ClassVar[str]
    centers: ClassVar[bool]
    """Whether the decoder is asked with the boxes' centres."""

    def __init__(
        self,
        model: Sam,
        *,
        detector: BoxDetector | Path | None = None,
        max_boxes: Count = MAX_BOXES,
        nms_thresh: Share = NMS_THRESH,
    ) -> None:
        """Set up the strategy.

        Args:
            model: the SAM that will decode.
            detector: on embeddings of any SAM, or its file (`.safetensors`), or an ONNX model's (`.onnx`, see
                `aopsam.detector.onnx`); by default the bundled one, which belongs to the bundled `tiny`.
            max_boxes: proposed on one photo at most.
            nms_thresh: box IoU above which the box with the lower score is not proposed.

        Raises:
            ValueError: a file that holds no detector, or a detector of weights that its SAM does not have.
            FileNotFoundError: no such file.
        """
        self.detector: BoxDetector | OnnxDetector
        self.find: Callable[[EncodedPhoto], tuple[np.ndarray, np.ndarray]]
        if isinstance(detector, Path) and detector.suffix == ".onnx":
            onnx = self.detector = OnnxDetector(str(detector))
            self.find = lambda photo: onnx.detect(photo.rgb, max_boxes=max_boxes, nms_thresh=nms_thresh)
            return
        boxes = self.detector = detector if isinstance(detector, BoxDetector) else load_detector(detector)
        boxes.to(model.device)
        source = EmbeddingSource(model, boxes, f"{self.name}: the detector")
        self.find = lambda photo: detect(boxes, source(photo), max_boxes=max_boxes, nms_thresh=nms_thresh)

    @classmethod
    def make(cls, context: Context, **options: Any) -> Self:
        """Build the strategy for a model."""
        return cls(context.model, **options)

    def weights(self) -> dict[str, dict[str, str]]:
        """Name the detector's weights."""
        return {"detector": {"sam": self.detector.sam, "sha256": self.detector.sha256}}

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        """Yield all of them in one round."""
        boxes, scores = self.find(photo)
        if self.centers:
            yield Prompts.from_points((boxes[:, :2] + boxes[:, 2:]) / 2, scores)
        else:
            yield Prompts.from_boxes(boxes, scores)


class ObjectBoxes(ObjectAware):
    """`oas-box`."""

    name, centers = "oas-box", False


class ObjectCenters(ObjectAware):
    """`oas-center`."""

    name, centers = "oas-center", True

"""`oas-box` and `oas-center`: object-aware sampling. A detector says where objects are (Zhang et al. 2023,
MobileSAMv2)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
from segment_anything.modeling import Sam

from aopsam.detector.inference import MAX_BOXES, NMS_THRESH, detect
from aopsam.detector.network import BoxDetector
from aopsam.detector.onnx import OnnxDetector
from aopsam.detector.weights import load_detector
from aopsam.prompting.embedding_source import EmbeddingSource
from aopsam.prompting.strategy import Decoded, Trace
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


class ObjectAware:
    """The detector's boxes by falling score, in one round: as boxes with one mask each, or their centres with three."""

    def __init__(
        self,
        model: Sam,
        *,
        centers: bool,
        detector: BoxDetector | Path | str | None = None,
        max_boxes: int = MAX_BOXES,
        nms_thresh: float = NMS_THRESH,
    ) -> None:
        """Set up the strategy.

        Args:
            model: the SAM that will decode.
            centers: prompt with the boxes' centres.
            detector: on embeddings of any SAM, or its file (`.safetensors`), or an ONNX model's (`.onnx`, see
                `aopsam.detector.onnx`); by default the bundled one, which belongs to the bundled `tiny`.
            max_boxes: proposed on one photo at most.
            nms_thresh: box IoU above which the box with the lower score is not proposed.

        Raises:
            ValueError: a number out of range, a file that holds no detector, or a detector of weights that its SAM does
                not have.
            FileNotFoundError: no such file.
        """
        name = "oas-center" if centers else "oas-box"
        if max_boxes < 1 or not 0 <= nms_thresh <= 1:
            raise ValueError(f"{name}: max_boxes={max_boxes} must be at least 1, nms_thresh={nms_thresh} in 0 to 1")
        self.centers = centers
        self.detector: BoxDetector | OnnxDetector
        self.find: Callable[[EncodedPhoto], tuple[np.ndarray, np.ndarray]]
        if not isinstance(detector, BoxDetector) and str(detector).endswith(".onnx"):
            onnx = self.detector = OnnxDetector(str(detector))
            self.find = lambda photo: onnx.detect(photo.rgb, max_boxes=max_boxes, nms_thresh=nms_thresh)
            return
        boxes = self.detector = detector if isinstance(detector, BoxDetector) else load_detector(detector)
        boxes.to(model.device)
        source = EmbeddingSource(model, boxes.sam, boxes.sam_sha256 == model.sha256)
        if source.sam is not None and source.sam.sha256 != boxes.sam_sha256:
            raise ValueError(
                f"{name}: the detector was trained on the embeddings of {boxes.sam} ({boxes.sam_sha256[:12]}), which"
                f" are neither those of the SAM, {model.name} ({model.sha256[:12]}), nor of the {boxes.sam} that"
                f" load_sam gives ({source.sam.sha256[:12]})"
            )
        self.find = lambda photo: detect(boxes, source(photo), max_boxes=max_boxes, nms_thresh=nms_thresh)

    def rounds(self, photo: EncodedPhoto, trace: Trace) -> Generator[Prompts, Decoded, None]:
        """All of them."""
        boxes, scores = self.find(photo)
        trace.proposed += len(boxes)
        if self.centers:
            yield Prompts.from_points((boxes[:, :2] + boxes[:, 2:]) / 2, scores)
        else:
            yield Prompts.from_boxes(boxes, scores)

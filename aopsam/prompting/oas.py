"""`oas-box` and `oas-center`: object-aware sampling. A detector says where objects are (Zhang et al. 2023,
MobileSAMv2)."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from segment_anything.modeling import Sam

from aopsam.detector.inference import MAX_BOXES, NMS_THRESH, detect
from aopsam.detector.network import BoxDetector
from aopsam.detector.weights import load_detector
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
            model: the SAM that will decode, whose embedding the detector reads.
            centers: prompt with the boxes' centres.
            detector: trained on that SAM's embeddings, or its file.
            max_boxes: proposed on one photo at most.
            nms_thresh: box IoU above which the box with the lower score is not proposed.

        Raises:
            ValueError: no detector, one of another SAM, or a number out of range.
            FileNotFoundError: no such file.
        """
        name = "oas-center" if centers else "oas-box"
        if detector is None:
            raise ValueError(
                f"{name} needs a detector for {model.name}: train one with pipelines/train_detector.py and give its"
                f" file, {name}(detector=FILE)"
            )
        if max_boxes < 1 or not 0 <= nms_thresh <= 1:
            raise ValueError(f"{name}: max_boxes={max_boxes} must be at least 1, nms_thresh={nms_thresh} in 0 to 1")
        self.detector = detector if isinstance(detector, BoxDetector) else load_detector(detector)
        if self.detector.sam_sha256 != model.sha256:
            theirs, ours = (
                f"{self.detector.sam} ({self.detector.sam_sha256[:12]})",
                f"{model.name} ({model.sha256[:12]})",
            )
            raise ValueError(f"{name}: the detector was trained on the embeddings of {theirs}, the SAM is {ours}")
        self.detector.to(model.device)
        self.centers, self.max_boxes, self.nms_thresh = centers, max_boxes, nms_thresh

    def rounds(self, photo: EncodedPhoto, trace: Trace) -> Generator[Prompts, Decoded, None]:
        """All of them."""
        boxes, scores = detect(self.detector, photo, max_boxes=self.max_boxes, nms_thresh=self.nms_thresh)
        trace.proposed += len(boxes)
        if self.centers:
            yield Prompts.from_points((boxes[:, :2] + boxes[:, 2:]) / 2, scores)
        else:
            yield Prompts.from_boxes(boxes, scores)

"""`oas-box` and `oas-center`: object-aware sampling. A detector says where objects are (Zhang et al. 2023,
MobileSAMv2)."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar, Self

from segment_anything.modeling import Sam

from aopsam._options import Count, Share
from aopsam.detector.inference import MAX_BOXES, NMS_THRESH
from aopsam.detector.network import BoxDetector
from aopsam.prompting.fates import Fates
from aopsam.prompting.proposer import BoxProposer
from aopsam.prompting.strategy import Context, Decoded, Strategy
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


class ObjectAware(Strategy):
    """The detector's boxes by falling score, in one round: as boxes with one mask each, or their centres with three."""

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
        self.proposer = BoxProposer(model, detector)
        self.max_boxes, self.nms_thresh = max_boxes, nms_thresh

    @classmethod
    def make(cls, context: Context, **options: Any) -> Self:
        """Build the strategy for a model."""
        return cls(context.model, **options)

    def weights(self) -> dict[str, dict[str, str]]:
        """Name the detector's weights."""
        return {"detector": self.proposer.weights()}

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        """Yield all of them in one round."""
        boxes, scores = self.proposer.boxes(photo, self.max_boxes, self.nms_thresh)
        if self.centers:
            yield Prompts.from_points((boxes[:, :2] + boxes[:, 2:]) / 2, scores)
        else:
            yield Prompts.from_boxes(boxes, scores)


class ObjectBoxes(ObjectAware):
    """`oas-box`."""

    centers = False


class ObjectCenters(ObjectAware):
    """`oas-center`."""

    centers = True

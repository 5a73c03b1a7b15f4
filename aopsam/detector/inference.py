"""Detect the boxes of a photo from its SAM embedding."""

from __future__ import annotations

import numpy as np
import torch

from aopsam._as_loaded import as_loaded
from aopsam._torchvision import torchvision
from aopsam.detector.network import BoxDetector, levels_of, priors
from aopsam.masks.nms import box_nms
from aopsam.sam.encode import EncodedPhoto

MAX_BOXES = 320
"""Most boxes of a photo (Zhang et al. 2023, MobileSAMv2, section 6.2: more do not help)."""
NMS_THRESH = 0.75
"""IoU above which non-maximum suppression drops the box with the lower score."""
BEFORE_NMS = 3000
"""Boxes of the highest scores that enter the suppression: enough to leave `MAX_BOXES` (800 were not)."""


@torch.inference_mode()
def detect_in_frame(
    detector: BoxDetector,
    embedding: torch.Tensor,
    content: tuple[float, float],
    *,
    max_boxes: int = MAX_BOXES,
    nms_thresh: float = NMS_THRESH,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the boxes of objects in an embedding, by falling score.

    Args:
        detector: runs in eval mode.
        embedding: (1, C, h, w) of the padded square, any float dtype.
        content: rows and columns of the embedding's cells that show the photo; need not be whole.
        max_boxes: largest K.
        nms_thresh: IoU above which the box with the lower score is dropped.

    Returns:
        (K, 4) XYXY in cells, clipped to the content, and (K,) scores in [0, 1].
    """
    with as_loaded(detector):
        logits, boxes = (part[0] for part in detector(embedding))
    rows, columns = embedding.shape[-2:]
    centre = priors(levels_of(rows, columns, detector.levels), logits.device)[:, :2]
    # At least one position lies inside, however narrow the photo.
    inside = (centre < centre.new_tensor([content[1], content[0]]).clamp_min(0.5)).all(dim=1)
    scores = logits.masked_fill(~inside, -torch.inf)
    best = scores.topk(min(BEFORE_NMS, int(inside.sum()))).indices
    scores, boxes = scores[best].sigmoid(), boxes[best]
    boxes = torch.minimum(boxes.clamp_min(0), boxes.new_tensor([content[1], content[0]]).repeat(2))
    wide = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    scores, boxes = scores[wide], boxes[wide]
    if boxes.is_cuda:
        kept = torchvision.ops.nms(boxes, scores, nms_thresh)[:max_boxes]
    else:  # ends with the boxes that are wanted
        kept = box_nms(boxes, scores, nms_thresh, max_boxes)
    return boxes[kept], scores[kept]


def detect(
    detector: BoxDetector, photo: EncodedPhoto, *, max_boxes: int = MAX_BOXES, nms_thresh: float = NMS_THRESH
) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes of the objects in a photo, by falling score.

    Args:
        detector: on the photo's device, trained on embeddings of the SAM that encoded it.
        photo: the encoded photo.
        max_boxes: largest K.
        nms_thresh: IoU above which the box with the lower score is dropped.

    Returns:
        (K, 4) float32 XYXY in original pixels, inside the photo, and (K,) float32 scores in [0, 1].

    Raises:
        ValueError: the embedding has another number of channels than the detector was built for.
    """
    embedding = photo.embedding
    if embedding.shape[1] != detector.embedding_channels:
        raise ValueError(
            f"embedding of {embedding.shape[1]} channels, the detector expects {detector.embedding_channels}"
        )
    cell = photo.model.image_encoder.img_size / embedding.shape[-1]
    content = photo.input_hw[0] / cell, photo.input_hw[1] / cell
    weights = next(detector.parameters())
    boxes, scores = detect_in_frame(
        detector, embedding.to(weights), content, max_boxes=max_boxes, nms_thresh=nms_thresh
    )
    scale = np.array([photo.hw[1] / content[1], photo.hw[0] / content[0]] * 2, np.float32)
    return boxes.float().cpu().numpy() * scale, scores.float().cpu().numpy()

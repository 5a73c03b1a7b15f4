"""Evaluate the prompts of a predictor: its masks on annotated photos, from the `AutoMaskGenerator` that users call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from segment_anything.modeling import Sam

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.metrics import iou_matrix, iou_per_ground_truth
from aopsam.predictor.inference import confidence_map
from aopsam.predictor.network import PromptPredictor
from aopsam.prompting.asf import adaptive_sampling
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.model import StretchedSam
from aopsam.training.annotated import Annotated

PICTURES = 4
"""Photos that are drawn with their maps."""


class PromptedPhotos:
    """Annotated photos, encoded once, on which predictors are evaluated."""

    def __init__(self, sam: Sam, photos: Sequence[Annotated]) -> None:
        """Encode the photos, each with at least one mask; an embedding of 32×32 cells takes 1 MiB."""
        self.sam = sam
        with torch.inference_mode():
            self._photos: list[tuple[EncodedPhoto, Annotated]] = [(encode(sam, photo.rgb), photo) for photo in photos]

    def per_photo(self, predictor: PromptPredictor, **options: object) -> list[dict[str, float]]:
        """Return each photo's `miou` (best IoU, mean over ground-truth masks), `prompts` decoded and `masks` kept.

        Args:
            predictor: predictor with its `sampling`; its `sam` and `sam_sha256` are set to this SAM's.
            options: options of the strategy `aop`.
        """
        predictor.sam, predictor.sam_sha256 = (
            self.sam.name,
            self.sam.sha256,
        )  # so that no other SAM makes the embeddings
        generator = AutoMaskGenerator(
            self.sam, prompts="aop", predictor=predictor, output_mode="coco_rle", strategy_options=options
        )
        rows = []
        for encoded, photo in self._photos:
            found = generator.label(photo.rgb, encoded)
            iou = iou_matrix([record["segmentation"] for record in found.records], photo.rles)
            miou = iou_per_ground_truth(iou)
            assert miou is not None
            rows.append({"miou": miou, "prompts": float(found.prompts_decoded), "masks": float(len(found.records))})
        return rows

    def judge(self, predictor: PromptPredictor) -> dict[str, float]:
        """Return the means of `per_photo` over photos, of points alone: things would hide what a predictor lacks."""
        rows = self.per_photo(predictor, things=0)
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def pictures(self, predictor: PromptPredictor) -> dict[str, np.ndarray]:
        """Draw the first photos in grey, their maps in red and the peaks in white: (H, W, 3) uint8 each, by name."""
        shown = {}
        for number, (encoded, photo) in enumerate(self._photos[:PICTURES]):
            confidence = confidence_map(
                predictor, photo.rgb, encoded.embedding, stretched=isinstance(self.sam, StretchedSam)
            )
            rows, columns = confidence.shape
            height, width = photo.rgb.shape[:2]
            at = np.ix_(np.arange(rows) * height // rows, np.arange(columns) * width // columns)
            grey = photo.rgb[at].mean(axis=2, keepdims=True).repeat(3, axis=2)
            heat = (confidence / max(float(confidence.max()), 1e-6))[..., None]
            picture = grey * (1 - heat) + np.array([255, 40, 0]) * heat
            sampling = predictor.sampling
            peaks, _ = adaptive_sampling(
                confidence,
                smoothing_sigma=sampling.smoothing_sigma,
                spacing=sampling.spacing,
                threshold=sampling.threshold,
            )
            picture[peaks[:, 1], peaks[:, 0]] = 255
            shown[f"map_{number}"] = picture.astype(np.uint8)
        return shown

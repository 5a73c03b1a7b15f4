"""The label actor: from manifest rows to label rows, everything between bytes and RLE in one process."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pyarrow as pa
import torch

from aopsam.generator import AutoMaskGenerator
from aopsam.photos.decode import PhotoError, open_photo
from aopsam.predictor.weights import load_predictor
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.oas import ObjectAware
from aopsam.sam.registry import load_sam
from schemas import labels
from schemas.labels import Reason, Status
from stages.config import LabelConfig
from stages.fetch import FetchError, fetch

_STATUS_OF: dict[Reason, Status] = {
    Reason.TOO_MANY_PIXELS: Status.REJECTED,
    Reason.HIDDEN_NAME: Status.REJECTED,
    Reason.NO_MASK: Status.EMPTY,
    Reason.NONE: Status.OK,
}
"""Reasons that are no failure."""


def make_generator(config: LabelConfig, device: str = "cpu") -> AutoMaskGenerator:
    """The generator that a configuration describes, with records in COCO RLE.

    Raises:
        ValueError: a model, strategy, option or file that does not exist or does not fit.
    """
    model = load_sam(config.sam, config.checkpoint).to(device)
    return AutoMaskGenerator(
        model,
        points_per_batch=config.points_per_batch,
        pred_iou_thresh=config.pred_iou_thresh,
        stability_score_thresh=config.stability_score_thresh,
        stability_score_offset=config.stability_score_offset,
        box_nms_thresh=config.box_nms_thresh,
        crop_n_layers=config.crop_n_layers,
        crop_nms_thresh=config.crop_nms_thresh,
        crop_overlap_ratio=config.crop_overlap_ratio,
        min_mask_region_area=config.min_mask_region_area,
        output_mode="coco_rle",
        prompts=config.prompts,
        predictor=None if config.predictor is None else load_predictor(config.predictor),
        strategy_options=config.strategy_options,
    )


def weights_of(generator: AutoMaskGenerator) -> dict[str, Any]:
    """Name and SHA-256 of the weights that a generator uses, by role."""
    weights: dict[str, Any] = {"sam": {"name": generator.model.name, "sha256": generator.model.sha256}}
    strategy = generator.strategies[0]
    if isinstance(strategy, AutoPrompts):
        predictor = strategy.proposer.predictor
        weights["predictor"] = {"sam": predictor.sam, "sha256": predictor.sha256}
    if isinstance(strategy, ObjectAware):
        weights["detector"] = {"sam": strategy.detector.sam, "sha256": strategy.detector.sha256}
    return weights


class LabelPhotos:
    """Labels the photos of a manifest table, one at a time; whatever happens to one, it becomes a row."""

    def __init__(self, config: LabelConfig, images: str, device: str = "cpu", threads: int = 1) -> None:
        """Load the model.

        Args:
            config: what to do to each photo.
            images: the run's --images, from which storage credentials are read again.
            device: torch device.
            threads: CPU threads of the model; explicit, since Ray gives a worker one.
        """
        torch.set_num_threads(threads)
        self.config = config
        self.images = images
        self.generator = make_generator(config, device)

    def __call__(self, manifest: pa.Table) -> pa.Table:
        """Rows of schemas/manifest.py in, as many rows of schemas/labels.py out, in the same order."""
        return pa.Table.from_pylist([self.label(row) for row in manifest.to_pylist()], schema=labels.SCHEMA)

    def label(self, source: dict[str, Any]) -> dict[str, Any]:
        """One manifest row to one label row; never raises for what a photo does."""
        row = blank_row(source)
        try:
            start = time.perf_counter()
            data = fetch(source, self.images)
            row["seconds_read"] = time.perf_counter() - start
            row["content_sha256"] = hashlib.sha256(data).hexdigest()
            start = time.perf_counter()
            rgb = open_photo(data, self.config.max_pixels).rgb
            row["seconds_photo"] = time.perf_counter() - start
            del data
            row["height"], row["width"] = rgb.shape[:2]
            labelled = self.generator.label(rgb)
        except FetchError as error:
            return with_reason(row, error.reason, str(error))
        except PhotoError as error:
            return with_reason(row, Reason(error.kind), str(error))
        except Exception as error:
            return with_reason(row, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        row["masks"] = labelled.records
        row["prompts_proposed"] = labelled.prompts_proposed
        row["prompts_decoded"] = labelled.prompts_decoded
        row |= {f"seconds_{stage}": seconds for stage, seconds in labelled.seconds.items()}
        return with_reason(row, Reason.NONE if labelled.records else Reason.NO_MASK, "")


def blank_row(source: dict[str, Any]) -> dict[str, Any]:
    """A label row for a manifest row, before anything was done to it."""
    return {
        "image_id": source["image_id"],
        "uri": source["uri"],
        "file_name": source["file_name"],
        "masks": [],
        "prompts_proposed": 0,
        "prompts_decoded": 0,
    }


def with_reason(row: dict[str, Any], reason: Reason, message: str) -> dict[str, Any]:
    """The row with its reason, the status that follows from it, and a message of one line."""
    status = _STATUS_OF.get(reason, Status.FAILED)
    return row | {"status": status.value, "reason": reason.value, "message": " ".join(message.split())}

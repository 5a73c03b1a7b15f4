"""Find and draw the photos on which the first strategy loses most, with the strategy that does best there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from aopsam.report.evaluation_page import SideBySide
from aopsam.report.overlay import overlay
from aopsam.sam.encode import encode
from stages.annotations.samples import ReadSamples, Source
from stages.config.strategy_spec import StrategySpec
from stages.evaluate.actor import RANDOM_MATCH, EvaluatePhotos, open_sample
from stages.evaluate.compare import GROUND_TRUTH_PROMPTS
from stages.evaluate.tables import short_names

LONG_SIDE = 480
"""Longer side of a picture, px."""


@dataclass(frozen=True)
class Loss:
    """A photo of one data and model, and the mIoU of two strategies there.

    Attributes:
        data: the --data it came from.
        image_id: id of the photo.
        sam: name of the model.
        first: the first strategy's mIoU.
        strategy: the first.
        rival: the strategy that does best of the others; None where there is no other.
        best: the rival's mIoU.
    """

    data: str
    image_id: str
    sam: str
    first: float
    strategy: StrategySpec
    rival: StrategySpec | None = None
    best: float = 0.0


def worst_losses(results: pa.Table, specs: Sequence[StrategySpec], count: int) -> list[Loss]:
    """Find the photos where the first strategy is furthest behind another one, the largest difference first.

    Where it is the only strategy, those of its lowest mIoU. Strategies that ask the ground truth, or draw points by
    another's number, are no rivals.

    Args:
        results: table of `stages.evaluate.actor.RESULTS`.
        specs: the run's strategies.
        count: the most photos to return.
    """
    is_shown = {spec.text: spec for spec in specs if spec.name not in (*GROUND_TRUTH_PROMPTS, RANDOM_MATCH)}
    if specs[0].text not in is_shown:
        return []
    found: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for row in results.filter(pc.equal(results.column("metric"), "miou")).to_pylist():
        if row["value"] is not None and row["prompts"] in is_shown:
            found[row["data"], row["image_id"], row["sam"]][row["prompts"]] = row["value"]
    losses = []
    for key, values in found.items():
        first = values.pop(specs[0].text)
        rival = max(values, key=lambda name: values[name], default=None)
        if rival is None:
            losses.append(Loss(*key, first, specs[0]))
        elif values[rival] > first:
            losses.append(Loss(*key, first, specs[0], is_shown[rival], values[rival]))
    return sorted(losses, key=lambda loss: (loss.first - loss.best, loss.image_id))[:count]


def show(losses: Sequence[Loss], sources: Sequence[Source], stage: EvaluatePhotos) -> list[SideBySide]:
    """Read photos again, label them again and draw ground truth and masks; a photo that is gone is left out.

    Args:
        losses: the photos to show, in order.
        sources: the run's photos.
        stage: stage with the models and strategies of the run.
    """
    names = short_names([source.name for source in sources])
    wanted = {(loss.data, loss.image_id) for loss in losses}
    samples: dict[tuple[str, str], dict[str, Any]] = {}
    for source in sources:
        left = {image_id for data, image_id in wanted if data == source.name}
        for table in ReadSamples(rows=1)(source.unit()) if left else ():
            sample = table.to_pylist()[0]
            if sample["image_id"] in left:
                samples[source.name, sample["image_id"]] = sample
                left.remove(sample["image_id"])
            if not left:
                break
    models = {model.name: model for model in stage.models}
    shown = []
    for loss in losses:
        if (loss.data, loss.image_id) not in samples:
            continue
        opened = open_sample(samples[loss.data, loss.image_id])
        photo, small = encode(models[loss.sam], opened.rgb), _shrunk(opened.rgb)
        truths = [{"segmentation": annotation["segmentation"]} for annotation in opened.annotations]
        pictures = [("photo", small), (f"ground truth: {len(truths)} masks", overlay(small, truths))]
        for spec, miou in ((loss.strategy, loss.first), (loss.rival, loss.best)):
            if spec is not None:
                labelled = stage.label(photo.model, spec, photo)
                about = f"{spec.text}: mIoU {100 * miou:.1f} %, {labelled.prompts_decoded} prompts"
                pictures.append((f"{about}, {len(labelled.records)} masks", overlay(small, labelled.records)))
        shown.append(SideBySide(f"{loss.image_id} · {names[loss.data]}, {loss.sam}", pictures))
    return shown


def _shrunk(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    image = Image.fromarray(rgb)
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)

"""Compare a strategy's masks of one photo with the photo's ground truth: values of metrics by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam._options import unknown
from aopsam.everything.ledger import Labelled
from aopsam.everything.options import GeneratorOptions
from aopsam.masks import rle
from aopsam.metrics import METRICS, PRECISIONS, SIZES, AveragePrecision, Comparison, Ranked, pearson, rank, spearman
from aopsam.metrics.average_recall import THRESHOLDS
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts
from stages.config.strategy_spec import StrategySpec
from stages.evaluate.ground_truth import (
    Annotation,
    answer,
    box_prompts,
    choose,
    point_prompts,
    two_point_prompts,
)

GROUND_TRUTH_PROMPTS = {"gt-point": point_prompts, "gt-points-2": two_point_prompts, "gt-box": box_prompts}
"""Strategies that ask the ground truth: one prompt a mask. The best of three masks counts, drawn once more where a mask
head belongs to the model; with one of `GROUND_TRUTH_OPTIONS` the mask that the model would choose by its predicted IoU,
refined or not, as the decoder made it."""
GROUND_TRUTH_OPTIONS = ("masks_per_prompt", "single_mask", "refine", "refine_boundary", "refine_points")
CHOSEN = ("miou_predicted", "miou_score")
"""Metrics of `GROUND_TRUTH_PROMPTS`: mIoU of the masks that predicted IoU, and the learned score, choose of three."""
STAGES = ("open", "encode", "prompt", "decode", "filter", "rle")


@dataclass
class Measured:
    """Metrics of one photo and strategy.

    Attributes:
        values: metric → value, None where it is undefined.
        ranked: average precision → ranked masks, from which that of a set of photos is computed.
    """

    values: dict[str, float | None]
    ranked: dict[str, Ranked] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return rows with `metric`, `value` and `ranked` of schemas/metrics.py."""
        values = [{"metric": name, "value": value} for name, value in self.values.items()]
        of_sets = []
        for name, ranked in self.ranked.items():
            own = AveragePrecision([ranked])()
            of_sets.append({"metric": name, "value": None if np.isnan(own) else own, "ranked": _packed(ranked)})
        return values + of_sets


def compare(labelled: Labelled, annotations: Sequence[Annotation], crowds: Sequence[Mapping[str, Any]]) -> Measured:
    """Measure every metric of a photo; masks rank by their score, without one by the mean of predicted IoU and
    stability, as SAM's authors do."""
    ranked = sorted(labelled.records, key=lambda record: -_score(record))
    scores = np.array([_score(record) for record in ranked], np.float64)
    comparison = _compared([record["segmentation"] for record in ranked], scores, annotations, crowds)
    values = {name: metric.of(comparison) for name, metric in METRICS.items()}
    values |= {f"{size}_truths": float(comparison.truths_of(size).sum()) for size in SIZES}
    values |= _counts(
        len(annotations), labelled.prompts_proposed, labelled.prompts_decoded, len(labelled.records), labelled.seconds
    )
    values["refinements"] = float(labelled.refinements)
    return Measured(values, {name: rank(comparison, size) for name, size in PRECISIONS.items()})


def check_ground_truth(spec: StrategySpec) -> None:
    """Check the options of a strategy of `GROUND_TRUTH_PROMPTS`.

    Raises:
        ValueError: one that it does not have, or three masks a prompt beside others.
    """
    for name in spec.options:
        if name not in GROUND_TRUTH_OPTIONS:
            raise ValueError(f"{spec.text}: unknown option {unknown(name, GROUND_TRUTH_OPTIONS)}")
    if spec.options.get("masks_per_prompt") == 3:
        raise ValueError(f"{spec.text}: without options there are three masks a prompt; write {spec.name}")


def ask_ground_truth(
    spec: StrategySpec,
    photo: EncodedPhoto,
    annotations: Sequence[Annotation],
    crowds: Sequence[Mapping[str, Any]] = (),
) -> Measured:
    """Measure the masks that a model gives for prompts of the ground truth.

    Args:
        spec: of `GROUND_TRUTH_PROMPTS`, its options checked.
        photo: the encoded photo.
        annotations: those that are asked for.
        crowds: RLEs; see `compare`.
    """
    prompts = GROUND_TRUTH_PROMPTS[spec.name](annotations)
    if spec.options:
        options = GeneratorOptions(**spec.generator_options | {"masks_per_prompt": 1})
        return _ask_for_one(prompts, options, photo, annotations, crowds)
    answers = answer(photo, prompts, annotations)
    count = len(prompts)
    quality = {
        "miou": float(answers.iou.max(axis=1).mean()) if count else None,
        "predicted_iou_pearson": pearson(answers.predicted_iou, answers.iou),
        "predicted_iou_spearman": spearman(answers.predicted_iou, answers.iou),
        "miou_predicted": answers.chosen_by(answers.predicted_iou),
    }
    if answers.score is not None:
        quality["score_pearson"] = pearson(answers.score, answers.iou)
        quality["miou_score"] = answers.chosen_by(answers.score)
    return Measured(quality | _counts(count, count, count, count, {"decode": answers.seconds}))


def _ask_for_one(
    prompts: Prompts,
    options: GeneratorOptions,
    photo: EncodedPhoto,
    annotations: Sequence[Annotation],
    crowds: Sequence[Mapping[str, Any]],
) -> Measured:
    """Measure the one mask of each prompt: its IoU with the mask it was asked for, and precision, by predicted IoU."""
    chosen, ledger = choose(photo, prompts, options)
    found = sorted((c.predicted_iou, i, rle.from_runs(c.runs)) for i, c in enumerate(chosen) if c is not None)[::-1]
    estimates = np.array([estimate for estimate, _, _ in found], np.float64)
    comparison = _compared([mask for _, _, mask in found], estimates, annotations, crowds)
    iou, predicted = np.zeros((len(prompts), 1)), np.zeros((len(prompts), 1))
    for row, (estimate, number, _) in enumerate(found):
        iou[number], predicted[number] = comparison.iou[row, number], estimate
    miou = float(iou.mean()) if len(iou) else None
    values = {"miou": miou, "miou_predicted": miou, "predicted_iou_pearson": pearson(predicted, iou)}
    values |= _counts(len(annotations), len(prompts), len(prompts), len(found), ledger.seconds)
    values |= {f"{size}_truths": float(comparison.truths_of(size).sum()) for size in SIZES}
    values["refinements"] = float(ledger.refinements)
    return Measured(values, {name: rank(comparison, size) for name, size in PRECISIONS.items()})


def _compared(
    masks: Sequence[Mapping[str, Any]],
    scores: NDArray[np.float64],
    annotations: Sequence[Annotation],
    crowds: Sequence[Mapping[str, Any]],
) -> Comparison:
    """Compare masks, best-ranked first, with annotations."""
    areas = [annotation.get("declared_area") or rle.area(annotation["segmentation"]) for annotation in annotations]
    truths = [annotation["segmentation"] for annotation in annotations]
    return Comparison(masks, truths, scores, np.array(areas, np.float64), crowds)


def unpacked(row: Mapping[str, Any], ground_truths: int) -> Ranked:
    """Restore the `Ranked` of a `ranked` value that `Measured.rows` packed."""
    bits = np.arange(len(THRESHOLDS))
    found, ignored = (
        (np.array(row[name], np.int64)[:, None] >> bits & 1).astype(bool) for name in ("found", "ignored")
    )
    return Ranked(np.array(row["scores"], np.float64), found, ignored, ground_truths)


def _packed(ranked: Ranked) -> dict[str, list[Any]]:
    def integers(flags: NDArray[np.bool_]) -> list[int]:
        return (flags @ (1 << np.arange(len(THRESHOLDS)))).tolist()

    return {
        "scores": ranked.scores.tolist(),
        "found": integers(ranked.found),
        "ignored": integers(ranked.ignored),
    }


def _score(record: Mapping[str, Any]) -> float:
    if record["score"] is not None:
        return float(record["score"])
    return float(record["predicted_iou"] + record["stability_score"]) / 2


def _counts(
    ground_truths: int, proposed: int, decoded: int, kept: int, seconds: dict[str, float]
) -> dict[str, float | None]:
    counts: dict[str, float | None] = {
        "ground_truths": float(ground_truths),
        "prompts_proposed": float(proposed),
        "prompts_decoded": float(decoded),
        "masks_kept": float(kept),
    }
    return counts | {f"seconds_{stage}": seconds.get(stage, 0.0) for stage in STAGES}

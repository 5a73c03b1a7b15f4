"""Annotated photos in, metrics out (schemas/metrics.py): several strategies on the same photos and models."""

from __future__ import annotations

import json
import posixpath
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from aopsam.generator import AutoMaskGenerator, Labelled
from aopsam.masks import rle
from aopsam.metrics import METRICS, average_recall, iou_matrix, pearson, spearman
from aopsam.photos.decode import PhotoError, open_photo
from aopsam.predictor.weights import load_predictor
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.oas import ObjectAware
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.registry import load_sam
from schemas.column import column
from schemas.metrics import SCHEMA
from stages.annotated import read_annotated
from stages.ground_truth import Annotation, answer, box_prompts, point_prompts, usable_annotations
from stages.strategy_spec import StrategySpec

if TYPE_CHECKING:  # importing it before aopsam would fail beside a torchvision without operators
    from segment_anything.modeling import Sam

GROUND_TRUTH_PROMPTS = {"gt-point": point_prompts, "gt-box": box_prompts}
"""Strategies that ask the ground truth: one prompt a mask, the best of three masks counts."""
RANDOM_MATCH = "random-match"
"""As many random points on each photo as the first `aop` of the run decoded there."""

SAMPLES = pa.schema(
    [
        column("data", pa.string(), "the --data it came from", nullable=False),
        column("image_id", pa.string(), "the member's path without suffix", nullable=False),
        column("jpeg", pa.large_binary(), "the photo as stored; null where there is a problem"),
        column("annotations", pa.string(), "JSON, records of SA-1B's layout; null where there is a problem"),
        column("problem", pa.string(), "why the photo cannot be measured"),
    ],
    metadata={"table": "samples"},
)
RESULTS = SCHEMA.append(column("message", pa.string(), "of a photo that could not be measured (metric `failed`)"))
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 10**10)}
"""COCO's: smallest and largest area in pixels of the photo, both included."""
STAGES = ("encode", "prompt", "decode", "filter", "rle")
_MAX_PIXELS = 200_000_000


@dataclass(frozen=True)
class Evaluation:
    """What to measure.

    Attributes:
        sams: names of the registry.
        strategies: in the order of the table; `random-match` needs an `aop` before it.
        checkpoint: weights of the SAM, where there is one; None for the registry's own.
        predictor: file of the predictor; None for the bundled one.
        seed: of random strategies.
        device: where the models run.
        threads: of one actor.
    """

    sams: tuple[str, ...]
    strategies: tuple[StrategySpec, ...]
    checkpoint: str | None = None
    predictor: str | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = 2

    def __post_init__(self) -> None:
        if self.checkpoint is not None and len(self.sams) != 1:
            raise ValueError("--checkpoint belongs to one model; name one with --sam")
        names = [spec.name for spec in self.strategies]
        if RANDOM_MATCH in names and "aop" not in names[: names.index(RANDOM_MATCH)]:
            raise ValueError(f"{RANDOM_MATCH} draws as many points as aop decodes: name aop before it in --prompts")


def read_samples(sources: pa.Table) -> Iterator[pa.Table]:
    """Photos with annotations, one a table, of the first `limit` photos of each source.

    Args:
        sources: columns `data` (its name), `shards` (list of fsspec URIs) and `limit` (int, null for all).

    Yields:
        Tables of `SAMPLES`; a broken pair or a tar cut short is a row with a `problem`.
    """
    for source in sources.to_pylist():
        for sample in islice(_samples(source["shards"]), source["limit"]):
            row = {"data": source["data"]} | sample
            yield pa.Table.from_pylist([row], schema=SAMPLES)


def _samples(shards: Sequence[str]) -> Iterator[dict[str, Any]]:
    for uri in shards:
        problems: list[str] = []
        for sample in read_annotated(uri, problems.append):
            yield {"image_id": sample.id, "jpeg": sample.jpeg, "annotations": json.dumps(sample.annotations)}
        yield from ({"image_id": posixpath.basename(uri), "problem": problem} for problem in problems)


class EvaluatePhotos:
    """Stage: tables of `SAMPLES` to tables of `RESULTS`; a photo that cannot be measured is one row `failed`."""

    def __init__(self, evaluation: Evaluation, expected_weights: dict[str, Any] | None = None) -> None:
        """Load the models.

        Args:
            evaluation: what to measure.
            expected_weights: what `weights` must return, where another process has reported them already.

        Raises:
            ValueError: an unknown model, strategy or option, or other weights than expected.
            OSError: weights that cannot be read.
        """
        torch.set_num_threads(evaluation.threads)
        self.evaluation = evaluation
        predictor = load_predictor(evaluation.predictor) if evaluation.predictor else None
        self.models = [load_sam(name, evaluation.checkpoint).to(evaluation.device) for name in evaluation.sams]
        self.generators: dict[tuple[str, str], AutoMaskGenerator] = {}
        for model in self.models:
            for spec in evaluation.strategies:
                if spec.name in GROUND_TRUTH_PROMPTS or spec.name == RANDOM_MATCH:
                    if spec.options:
                        raise ValueError(f"{spec.name} takes no options")
                    continue
                options = dict(spec.options)
                if spec.name.startswith("random-"):
                    options.setdefault("seed", evaluation.seed)
                self.generators[model.name, spec.text] = AutoMaskGenerator(
                    model, output_mode="coco_rle", prompts=spec.name, predictor=predictor, strategy_options=options
                )
        if expected_weights not in (None, self.weights()):
            raise ValueError(f"weights changed while the run started: {self.weights()}, not {expected_weights}")

    def weights(self) -> dict[str, Any]:
        """Which weights measure: name, SHA-256 and thresholds of each model, SHA-256 of predictors and detectors."""
        strategies = [strategy for generator in self.generators.values() for strategy in generator.strategies]
        predictors = [strategy.proposer.predictor for strategy in strategies if isinstance(strategy, AutoPrompts)]
        detectors = [strategy.detector for strategy in strategies if isinstance(strategy, ObjectAware)]
        return {
            "sam": [
                {"name": model.name, "sha256": model.sha256, "thresholds": asdict(model.thresholds)}
                for model in self.models
            ],
            "predictor": sorted({predictor.sha256 for predictor in predictors}),
            "detector": sorted({detector.sha256 for detector in detectors}),
        }

    def __call__(self, samples: pa.Table) -> pa.Table:
        """All metrics of the photos."""
        rows: list[dict[str, Any]] = []
        for sample in samples.to_pylist():
            where = {"image_id": sample["image_id"], "data": sample["data"]}
            try:
                rgb, annotations = _read(sample)
            except (PhotoError, ValueError) as error:
                message = f"{sample['image_id']}: {error}"
                rows.append(where | {"sam": "", "prompts": "", "metric": "failed", "value": 1.0, "message": message})
                continue
            for model in self.models:
                for prompts, metrics in self.measure(model, rgb, annotations):
                    key = where | {"sam": model.name, "prompts": prompts}
                    rows.extend(key | {"metric": name, "value": value} for name, value in metrics.items())
        return pa.Table.from_pylist(rows, schema=RESULTS)

    def measure(
        self, model: Sam, rgb: np.ndarray, annotations: Sequence[Annotation]
    ) -> Iterator[tuple[str, dict[str, float | None]]]:
        """(strategy, its metrics) on one photo; the photo is encoded once and that time charged to each strategy."""
        began = time.perf_counter()
        photo = encode(model, rgb)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        encoding = time.perf_counter() - began
        matched: int | None = None
        for spec in self.evaluation.strategies:
            if spec.name in GROUND_TRUTH_PROMPTS:
                metrics = _ask_ground_truth(spec.name, photo, annotations)
            else:
                labelled = self._label(model, spec, photo, matched)
                if spec.name == "aop" and matched is None:
                    matched = labelled.prompts_decoded
                metrics = _compare(labelled, annotations)
            metrics["seconds_encode"] = encoding
            metrics["seconds"] = sum(metrics[f"seconds_{stage}"] or 0.0 for stage in STAGES)
            yield spec.text, metrics

    def _label(self, model: Sam, spec: StrategySpec, photo: EncodedPhoto, matched: int | None) -> Labelled:
        if spec.name != RANDOM_MATCH:
            return self.generators[model.name, spec.text].label(photo.rgb, photo)
        if not matched:
            return Labelled()
        options = {"seed": self.evaluation.seed}
        return AutoMaskGenerator(
            model, output_mode="coco_rle", prompts=f"random-{matched}", strategy_options=options
        ).label(photo.rgb, photo)


def _compare(labelled: Labelled, annotations: Sequence[Annotation]) -> dict[str, float | None]:
    ranked = sorted(labelled.records, key=lambda r: -(r["predicted_iou"] + r["stability_score"]))
    truths = [a["segmentation"] for a in annotations]
    iou = iou_matrix([r["segmentation"] for r in ranked], truths)
    quality: dict[str, float | None] = {name: metric(iou) for name, metric in METRICS.items()}
    areas = np.array([rle.area(truth) for truth in truths])
    for size, (low, high) in SIZES.items():
        of_size = (areas >= low) & (areas <= high)
        quality |= {f"ar_{size}": average_recall(iou[:, of_size], 1000), f"{size}_truths": float(of_size.sum())}
    return quality | _counts(
        len(annotations), labelled.prompts_proposed, labelled.prompts_decoded, len(labelled.records), labelled.seconds
    )


def _ask_ground_truth(name: str, photo: EncodedPhoto, annotations: Sequence[Annotation]) -> dict[str, float | None]:
    prompts = GROUND_TRUTH_PROMPTS[name](annotations)
    answers = answer(photo, prompts, annotations)
    count = len(prompts)
    return {
        "miou": float(answers.iou.max(axis=1).mean()) if count else None,
        "predicted_iou_pearson": pearson(answers.predicted_iou, answers.iou),
        "predicted_iou_spearman": spearman(answers.predicted_iou, answers.iou),
    } | _counts(count, count, count, count, {"decode": answers.seconds})


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


def _read(sample: dict[str, Any]) -> tuple[np.ndarray, list[Annotation]]:
    if sample["problem"] is not None:
        raise ValueError(sample["problem"])
    rgb = open_photo(sample["jpeg"], _MAX_PIXELS).rgb
    return rgb, usable_annotations(json.loads(sample["annotations"]), (rgb.shape[0], rgb.shape[1]))

"""Annotated photos in, metrics out (schemas/metrics.py): several strategies on the same photos and models."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from aopsam._allocator import keep_freed_memory
from aopsam._options import options_of
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.ledger import Labelled
from aopsam.everything.options import WEIGHTS
from aopsam.photos.decode import open_photo
from aopsam.predictor.network import PromptPredictor
from aopsam.prompting import find_strategy
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.registry import load_sam
from schemas.column import column
from schemas.metrics import SCHEMA
from stages.config.strategy_spec import PREDICTOR, StrategySpec, options_here
from stages.evaluate.compare import (
    GROUND_TRUTH_PROMPTS,
    STAGES,
    Measured,
    ask_ground_truth,
    check_ground_truth,
    compare,
)
from stages.evaluate.ground_truth import Annotation, usable_annotations
from stages.evaluate.peak_memory import peak_memory
from stages.registry.reference import open_predictor
from stages.storage.fetched import local_file

if TYPE_CHECKING:  # importing it before aopsam would fail with a torchvision without operators
    from segment_anything.modeling import Sam

RANDOM_MATCH, MATCHED = "random-match", "aop"
"""Strategy that draws as many random points on each photo as the first `aop` of the run decoded there."""

RESULTS = SCHEMA.append(column("message", pa.string(), "of a photo that could not be measured (metric `failed`)"))
MEMORY_EVERY = 10
"""One photo of a source in this many is labelled once more, untimed, to measure peak memory."""


@dataclass(frozen=True)
class Evaluation:
    """Configuration of an evaluation: what to measure.

    Attributes:
        sams: names of models in the registry.
        strategies: in the order of the table; `random-match` needs an `aop` before it.
        checkpoint: file of the weights, where there is one SAM; None for the registry's own.
        predictor: file of the predictor, or version of a registry; None for the bundled one.
        seed: seed of random strategies.
        device: device that the models run on.
        threads: CPU threads of one actor.
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
        if RANDOM_MATCH in names and MATCHED not in names[: names.index(RANDOM_MATCH)]:
            raise ValueError(
                f"{RANDOM_MATCH} draws as many points as {MATCHED} decodes: name {MATCHED} before it in --prompts"
            )


def generator_of(
    model: Sam, spec: StrategySpec, predictor: PromptPredictor | None = None, seed: int = 0
) -> AutoMaskGenerator:
    """Build the generator of a strategy as it is written in `--prompts`; `seed` is for those that draw at random.

    The strategy's own option `predictor` wins over the argument.

    Raises:
        ValueError: an unknown strategy or option.
    """
    options = options_here(spec.name, spec.strategy_options)
    if own := options.pop(PREDICTOR, None):
        predictor = open_predictor(own)
    after = spec.generator_options
    after |= {name: local_file(after[name]) for name in WEIGHTS if name in after}
    if "seed" in options_of(find_strategy(spec.name)[0]):
        options.setdefault("seed", seed)
    return AutoMaskGenerator(
        model,
        output_mode="coco_rle",
        prompts=spec.name,
        predictor=predictor,
        strategy_options=options,
        **after,
    )


class EvaluatePhotos:
    """Work on a photo of `SAMPLES` (annotations/samples.py): rows of schemas/metrics.py."""

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
        keep_freed_memory()
        self.evaluation = evaluation
        predictor = open_predictor(evaluation.predictor)
        checkpoint = local_file(evaluation.checkpoint)
        self.models = [load_sam(name, checkpoint).to(evaluation.device) for name in evaluation.sams]
        self.generators: dict[tuple[str, str], AutoMaskGenerator] = {}
        for model in self.models:
            for spec in evaluation.strategies:
                if spec.name in GROUND_TRUTH_PROMPTS:
                    check_ground_truth(spec)
                    continue
                if spec.name == RANDOM_MATCH:
                    if spec.options:
                        raise ValueError(f"{spec.name} takes no options")
                    continue
                self.generators[model.name, spec.text] = generator_of(model, spec, predictor, evaluation.seed)
        if expected_weights not in (None, self.weights()):
            raise ValueError(f"weights changed while the run started: {self.weights()}, not {expected_weights}")

    def weights(self) -> dict[str, Any]:
        """Return the weights in use: name, SHA-256 and thresholds of each model; SHA-256 of the others by role."""
        digests: dict[str, set[str]] = defaultdict(set)
        for generator in self.generators.values():
            for role, weights in generator.strategies[0].weights().items():
                digests[role].add(weights["sha256"])
            for name in WEIGHTS:
                if (network := getattr(generator, name)) is not None:
                    digests[name].add(network.sha256)
        sams = [
            {"name": model.name, "sha256": model.sha256, "thresholds": asdict(model.thresholds)}
            for model in self.models
        ]
        return {"sam": sams} | {role: sorted(found) for role, found in digests.items()}

    def __call__(self, sample: Mapping[str, Any], report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Measure all metrics of a photo.

        Raises:
            PhotoError: the photo cannot be decoded.
            ValueError: its annotations cannot be used.
        """
        photo, where = open_sample(sample), {"image_id": sample["image_id"], "data": sample["source"]}
        for model in self.models:
            for prompts, measured in self.measure(model, photo):
                yield from (where | {"sam": model.name, "prompts": prompts} | row for row in measured.rows())

    def measure(self, model: Sam, opened: AnnotatedPhoto) -> Iterator[tuple[str, Measured]]:
        """Yield each strategy and its metrics on one photo, which is encoded once; each is charged that time."""
        began = time.perf_counter()
        photo = encode(model, opened.rgb)
        _ = photo.decoder, photo.resampling  # else the first strategy would pay for what all of them use
        if model.device.type in ("cuda", "mps"):
            getattr(torch, model.device.type).synchronize()
        encoding = time.perf_counter() - began
        matched: int | None = None
        for spec in self.evaluation.strategies:
            if spec.name in GROUND_TRUTH_PROMPTS:
                measured = ask_ground_truth(spec, photo, opened.annotations, opened.crowds)
            else:
                labelled = self.label(model, spec, photo, matched)
                measured = compare(labelled, opened.annotations, opened.crowds)
                if opened.memory:
                    again = partial(self.label, model, spec, photo, matched)
                    measured.values["peak_memory"] = peak_memory(again, model.device.type)
                if spec.name == MATCHED and matched is None:
                    matched = labelled.prompts_decoded
            values = measured.values
            values |= {"seconds_open": opened.seconds, "seconds_encode": encoding}
            values["seconds"] = sum(values[f"seconds_{stage}"] or 0.0 for stage in STAGES)
            yield spec.text, measured

    def label(self, model: Sam, spec: StrategySpec, photo: EncodedPhoto, matched: int | None = None) -> Labelled:
        """Label a photo with a strategy that does not ask the ground truth; `random-match` draws `matched` points."""
        if spec.name != RANDOM_MATCH:
            return self.generators[model.name, spec.text].label(photo.rgb, photo)
        if not matched:
            return Labelled()
        options = {"seed": self.evaluation.seed}
        return AutoMaskGenerator(
            model, output_mode="coco_rle", prompts=f"random-{matched}", strategy_options=options
        ).label(photo.rgb, photo)


@dataclass(frozen=True)
class AnnotatedPhoto:
    """A row of `SAMPLES`, opened and checked.

    Attributes:
        rgb: (H, W, 3) uint8.
        annotations: as `usable_annotations` returns them.
        crowds: RLEs of the photo's size.
        seconds: time to open the photo.
        memory: True to measure peak memory on it.
    """

    rgb: np.ndarray
    annotations: list[Annotation]
    crowds: list[Mapping[str, Any]]
    seconds: float = 0.0
    memory: bool = False


def open_sample(sample: Mapping[str, Any]) -> AnnotatedPhoto:
    """Open a row of `SAMPLES`.

    Raises:
        PhotoError: the photo cannot be decoded.
        ValueError: the row is a problem, or its annotations cannot be used.
    """
    if sample["problem"] is not None:
        raise ValueError(sample["problem"])
    began = time.perf_counter()
    rgb = open_photo(sample["jpeg"]).rgb
    seconds = time.perf_counter() - began
    hw = (rgb.shape[0], rgb.shape[1])
    crowds = [{"segmentation": crowd} for crowd in json.loads(sample["crowds"] or "[]")]
    return AnnotatedPhoto(
        rgb,
        usable_annotations(json.loads(sample["annotations"]), hw),
        [crowd["segmentation"] for crowd in usable_annotations(crowds, hw)],
        seconds,
        sample["place"] % MEMORY_EVERY == 0,
    )

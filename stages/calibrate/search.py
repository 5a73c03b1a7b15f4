"""Choose strategy, options and thresholds on a few labelled photos: sweeps of one option at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aopsam.metrics import Estimate, iou_matrix, iou_per_ground_truth, mean_interval, paired_difference
from aopsam.photos.decode import PhotoError
from aopsam.predictor.network import PromptPredictor
from aopsam.prompting import find_strategy
from aopsam.sam.encode import EncodedPhoto, encode
from stages.annotations.samples import ReadSamples, Source
from stages.annotations.shards import list_shards
from stages.config.strategy_spec import GENERATOR_OPTIONS, Option, StrategySpec
from stages.evaluate.actor import AnnotatedPhoto, generator_of, open_sample
from stages.storage.location import absolute, redact

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

OFFSETS: dict[str, Sequence[float]] = {
    "pred_iou_thresh": (-0.1, -0.05, 0.05, 0.1, 0.2),
    "stability_score_thresh": (-0.1, -0.05, 0.05, 0.1),
    "score_thresh": (-0.1, -0.05, 0.05, 0.1, 0.2),
    "box_nms_thresh": (-0.2, -0.1, 0.1, 0.2),
    "mask_nms_thresh": (-0.2, -0.1, 0.1, 0.2),
    "merge_thresh": (-0.2, -0.1, 0.1),
}
"""Threshold → offsets to try from the one in effect, where the user names no options."""


@dataclass(frozen=True, eq=False)
class Trial:
    """Results of one setting on N photos.

    Attributes:
        spec: the setting.
        miou: (N,) mean over a photo's ground-truth masks of the best IoU; NaN without ground truth.
        truths: (N,) numbers of ground-truth masks.
        prompts: mean prompts decoded on a photo.
        kept: mean masks kept on a photo.
        seconds: mean seconds a photo, without encoding it.
    """

    spec: StrategySpec
    miou: NDArray[np.float64]
    truths: NDArray[np.float64]
    prompts: float
    kept: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.spec.text}: mIoU {self.quality:.3f}, {self.prompts:.1f} prompts"

    @property
    def quality(self) -> float:
        """Mean best IoU over all ground-truth masks; NaN where there is none."""
        estimate = self.estimate(resamples=1)
        return float("nan") if estimate is None else estimate.mean

    def estimate(self, resamples: int = 2000) -> Estimate | None:
        """Return `quality` with its 95 % interval, by bootstrap over photos; None where it is undefined."""
        return mean_interval(self.miou, self.truths, resamples=resamples)

    def gain(self, other: Trial) -> Estimate | None:
        """Return how much higher `quality` is than another setting's on the same photos, paired."""
        return paired_difference(self.miou, other.miou, self.truths, other.truths)


Measure = Callable[[StrategySpec], Trial]


@dataclass(frozen=True)
class Rule:
    """Rule by which one of several trials is chosen.

    Attributes:
        within: mIoU that may be given up for a lower cost, 0 to 1: half of it for fewer prompts, half for fewer masks.
        at_most_prompts: limit of the mean prompts decoded on a photo; where given, the best mIoU within it is chosen.
    """

    within: float = 0.01
    at_most_prompts: float | None = None

    def by_prompts(self, trials: Sequence[Trial]) -> Trial:
        """Choose strategy and options: the fewest prompts at nearly the best mIoU, or the best mIoU within the limit.

        Raises:
            ValueError: every setting decodes more prompts than allowed.
        """
        if self.at_most_prompts is None:
            return _cheapest(trials, self.within / 2, lambda trial: trial.prompts)
        allowed = [trial for trial in trials if trial.prompts <= self.at_most_prompts]
        if not allowed:
            least = min(trials, key=lambda trial: trial.prompts)
            raise ValueError(
                f"no setting tried decodes at most {self.at_most_prompts:g} prompts; {least.spec.text} has the fewest,"
                f" {least.prompts:.1f}"
            )
        return max(allowed, key=lambda trial: trial.quality)

    def by_masks(self, trials: Sequence[Trial]) -> Trial:
        """Choose thresholds: the fewest masks at nearly the best mIoU, since dropping masks hardly raises mIoU."""
        limit = self.at_most_prompts
        allowed = [trial for trial in trials if limit is None or trial.prompts <= limit]
        return _cheapest(allowed, self.within / 2, lambda trial: trial.kept)


def _cheapest(trials: Sequence[Trial], within: float, cost: Callable[[Trial], float]) -> Trial:
    best = max(trial.quality for trial in trials)
    good = [trial for trial in trials if trial.quality >= best - within]
    return min(good, key=lambda trial: (cost(trial), -trial.quality))


def open_photos(data: str, limit: int) -> list[AnnotatedPhoto]:
    """Open the first photos of a source; print a line to stderr for each that cannot be used."""
    source = Source(redact(data), tuple(list_shards(absolute(data))), limit)
    photos = []
    for table in ReadSamples(rows=1)(source.unit()):
        for sample in table.to_pylist():
            try:
                photos.append(open_sample(sample))
            except (PhotoError, ValueError) as error:
                print(f"not used: {error}", file=sys.stderr)
    return photos


class MeasureSettings:
    """Measures settings of one model on the same photos, each encoded once."""

    def __init__(self, model: Sam, photos: Sequence[AnnotatedPhoto], predictor: PromptPredictor | None = None) -> None:
        """Encode the photos; their embeddings stay in memory (4 MiB each for SAM's own size)."""
        self.model, self.photos, self.predictor = model, list(photos), predictor
        self.encoded: list[EncodedPhoto] = [encode(model, photo.rgb) for photo in self.photos]

    def __call__(self, spec: StrategySpec) -> Trial:
        """Label all photos with a setting.

        Raises:
            ValueError: an unknown strategy or option.
        """
        generator = generator_of(self.model, spec, self.predictor)
        miou, prompts, kept, seconds = [], [], [], []
        for photo, encoded in zip(self.photos, self.encoded, strict=True):
            labelled = generator.label(photo.rgb, encoded)
            masks = [record["segmentation"] for record in labelled.records]
            found = iou_per_ground_truth(iou_matrix(masks, [truth["segmentation"] for truth in photo.annotations]))
            miou.append(np.nan if found is None else found)
            prompts.append(labelled.prompts_decoded)
            kept.append(len(masks))
            seconds.append(sum(labelled.seconds.values()))
        truths = [len(photo.annotations) for photo in self.photos]
        means = (float(np.mean(values)) for values in (prompts, kept, seconds))
        return Trial(spec, np.array(miou, np.float64), np.array(truths, np.float64), *means)


def measure_both(measure: MeasureSettings, first: StrategySpec, chosen: StrategySpec) -> tuple[Trial, Trial] | None:
    """Measure the setting begun with and the chosen one on photos held out; None where those have no masks."""
    if not any(photo.annotations for photo in measure.photos):
        return None
    return measure(first), measure(chosen)


def default_sweeps(model: Sam, predictor: PromptPredictor | None, spec: StrategySpec) -> dict[str, Sequence[Option]]:
    """Return options and values to try for a strategy: its own, and around the thresholds that masks are kept by."""
    found = dict(find_strategy(spec.name)[0].sweeps)
    options = generator_of(model, spec, predictor).options
    read = {"pred_iou_thresh", "stability_score_thresh", f"{options.duplicates}_thresh".replace("-", "_")}
    if options.rank_by == "score":
        read.add("score_thresh")
    for name in [name for name in OFFSETS if name in read]:
        values = [round(getattr(options, name) + offset, 3) for offset in OFFSETS[name]]
        found[name] = [value for value in values if 0 <= value <= 1]
    return found


def calibrate(
    measure: Measure,
    bases: Sequence[StrategySpec],
    sweeps: Callable[[StrategySpec], Mapping[str, Sequence[Option]]],
    rule: Rule,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> tuple[list[Trial], Trial]:
    """Try the strategies, then each option of the best one in turn, each time going on from the best so far.

    Options of a strategy come first and are chosen by prompts; those of the generator last, and by masks kept.

    Args:
        measure: measures one setting.
        bases: strategies to begin with.
        sweeps: returns the options and values to try for a strategy.
        rule: how the best trial is chosen.
        on_trial: called with each trial when it is done.

    Returns:
        All trials in order, and the chosen one.

    Raises:
        ValueError: an unknown strategy or option, or no setting fits the rule.
    """
    trials: list[Trial] = []

    def try_all(specs: Iterable[StrategySpec]) -> list[Trial]:
        known = {trial.spec.text for trial in trials}
        new = {spec.text: spec for spec in specs if spec.text not in known}
        for spec in new.values():
            trials.append(measure(spec))
            on_trial(trials[-1])
        return trials[len(trials) - len(new) :]

    try_all(bases)
    chosen = _as_far_as_it_goes(rule, trials)
    options = sweeps(chosen.spec)
    for key in [key for key in options if key not in GENERATOR_OPTIONS]:
        try_all(_varied(chosen.spec, key, options[key]))
        chosen = _as_far_as_it_goes(rule, trials)
    chosen = rule.by_prompts(trials)
    around = [chosen]
    for key in [key for key in options if key in GENERATOR_OPTIONS]:
        around += try_all(_varied(chosen.spec, key, options[key]))
        chosen = rule.by_masks(around)
    return trials, chosen


def _as_far_as_it_goes(rule: Rule, trials: Sequence[Trial]) -> Trial:
    """Return the trial that the rule chooses, or the one with fewest prompts while all are above its limit."""
    if rule.at_most_prompts is not None and all(trial.prompts > rule.at_most_prompts for trial in trials):
        return min(trials, key=lambda trial: trial.prompts)
    return rule.by_prompts(trials)


def _varied(spec: StrategySpec, key: str, values: Sequence[Option]) -> list[StrategySpec]:
    return [StrategySpec.of(spec.name, spec.options | {key: value}) for value in values]

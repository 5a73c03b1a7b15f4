"""Everything mode: one photo in, the masks of its objects out, as SAM's own generator returns them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from segment_anything.modeling import Sam

from aopsam._as_loaded import as_loaded
from aopsam._options import Count, Limits, checked
from aopsam.everything.candidates import Candidate, flat, whole
from aopsam.everything.ledger import Labelled, Ledger
from aopsam.everything.lock_step import Steps, in_lock_step
from aopsam.everything.options import GeneratorOptions
from aopsam.everything.parts import label_crops, label_tiles
from aopsam.everything.rounds import PhotoRun
from aopsam.mask_head.network import MaskHead
from aopsam.mask_head.weights import find_mask_head
from aopsam.masks import rle
from aopsam.masks.nesting import parents
from aopsam.masks.small_regions import clean
from aopsam.predictor.network import PromptPredictor
from aopsam.prompting import PRESETS, Strategy, make_strategy
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.fates import Fates, Trace
from aopsam.prompting.grid import MOST_PER_SIDE, Grid
from aopsam.sam.encode import EncodedPhoto, check_photo
from aopsam.sam.registry import name_of, thresholds_of
from aopsam.sam.things import ThingHead, find_thing_head
from aopsam.scoring.network import MaskScorer
from aopsam.scoring.weights import find_scorer

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]

_OF_THE_CALL = {
    "points_per_side": Annotated[int, Limits(1, MOST_PER_SIDE)] | None,
    "crop_n_points_downscale_factor": Count,
    "output_mode": OutputMode,
}
"""SAM's parameters that say where a grid lies or what a caller does with the masks."""


class AutoMaskGenerator:
    """Masks of every object in a photo. Parameters, names and order are those of `SamAutomaticMaskGenerator`."""

    def __init__(
        self,
        model: Sam,
        points_per_side: int | None = None,
        points_per_batch: int = GeneratorOptions.points_per_batch,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float = GeneratorOptions.stability_score_offset,
        box_nms_thresh: float | None = None,
        crop_n_layers: int = GeneratorOptions.crop_n_layers,
        crop_nms_thresh: float = GeneratorOptions.crop_nms_thresh,
        crop_overlap_ratio: float = GeneratorOptions.crop_overlap_ratio,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = GeneratorOptions.min_mask_region_area,
        output_mode: OutputMode = "binary_mask",
        *,
        prompts: str | None = None,
        predictor: PromptPredictor | None = None,
        strategy_options: dict[str, Any] | None = None,
        **ours: Any,
    ) -> None:
        """Set up the generator.

        Args:
            model: a SAM of `aopsam.load_sam` or `segment_anything.sam_model_registry`.
            points_per_side: the same as `prompts="grid-N"`.
            points_per_batch: as the next eight, of `GeneratorOptions`.
            pred_iou_thresh: of `GeneratorOptions`.
            stability_score_thresh: of `GeneratorOptions`.
            stability_score_offset: of `GeneratorOptions`.
            box_nms_thresh: of `GeneratorOptions`.
            crop_n_layers: of `GeneratorOptions`.
            crop_nms_thresh: of `GeneratorOptions`.
            crop_overlap_ratio: of `GeneratorOptions`.
            crop_n_points_downscale_factor: divides points per side from one layer of crops to the next.
            point_grids: points (N, 2) in [0, 1] for each layer, in place of a strategy.
            min_mask_region_area: of `GeneratorOptions`.
            output_mode: `binary_mask`, `uncompressed_rle` or `coco_rle`.
            prompts: a strategy of `aopsam.prompting.STRATEGIES`, or a preset of `PRESETS` there, whose options hold
                where none are given; `aop` where nothing is given.
            predictor: for `aop`; by default the one that belongs to the model, else the bundled `tiny` proposes.
            strategy_options: the strategy's own parameters.
            ours: `duplicates`, `refine`, `overlap`, `tile_size` and the other fields of `GeneratorOptions`.

        Raises:
            ValueError: more than one source of prompts, an unknown name, a number out of its range, or options that
                exclude each other.
        """
        of_the_call = (points_per_side, crop_n_points_downscale_factor, output_mode)
        checked(_OF_THE_CALL, dict(zip(_OF_THE_CALL, of_the_call, strict=True)))
        if sum(source is not None for source in (points_per_side, point_grids, prompts)) > 1:
            raise ValueError("give only one of points_per_side, point_grids and prompts")
        options = GeneratorOptions(
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            min_mask_region_area=min_mask_region_area,
            **ours,
        )
        self._as_sam = points_per_side is not None or point_grids is not None
        if self._as_sam and (predictor is not None or strategy_options):
            raise ValueError(
                "predictor and strategy_options go with prompts; points_per_side and point_grids read none"
            )
        if crop_n_points_downscale_factor != 1 and crop_n_layers and not self._as_sam:
            raise ValueError(
                f"crop_n_points_downscale_factor={crop_n_points_downscale_factor} divides points_per_side; give that"
            )
        if prompts in PRESETS:
            options = options.filled(PRESETS[prompts].after)
        if point_grids is not None and len(point_grids) != crop_n_layers + 1:
            raise ValueError(f"point_grids has {len(point_grids)} layers; crop_n_layers={crop_n_layers} needs one more")
        if point_grids is not None and isinstance(options.tile_size, int):
            raise ValueError(f"tile_size={options.tile_size} and point_grids exclude each other")
        self.model = model
        if self._as_sam and options.tile_size == "auto":
            options = replace(options, tile_size=None)
        self.scorer = _scorer(model, options, self._as_sam)
        self.options = options.resolved(thresholds_of(model), self.scorer)
        _check_thresholds(options, self.options, PRESETS[prompts].after if prompts in PRESETS else {})
        self.mask_head = _mask_head(model, options, self.scorer is not None)
        self.output_mode = output_mode
        self.strategies: list[Strategy]
        layers = range(crop_n_layers + 1)
        if point_grids is not None:
            self.strategies = [Grid(points) for points in point_grids]
        elif points_per_side is not None:
            sides = [int(points_per_side / crop_n_points_downscale_factor**layer) for layer in layers]
            if not sides[-1]:
                raise ValueError(
                    f"points_per_side={points_per_side} and crop_n_points_downscale_factor="
                    f"{crop_n_points_downscale_factor} leave no point on layer {sides.index(0)} of crops"
                )
            self.strategies = [Grid.per_side(side) for side in sides]
        else:
            strategy = make_strategy(
                "aop" if prompts is None else prompts, model, predictor, **(strategy_options or {})
            )
            self.strategies = [strategy for _ in layers]
        self.thing_head = _thing_head(model, options, self.scorer is not None, self.strategies[0])

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Return the masks of one photo.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            A record a mask, by falling score: `segmentation` (by output_mode), `area` px², `bbox` XYWH px,
            `predicted_iou`, `point_coords` [[x, y]] px, `stability_score`, `score` (learned, None without a scorer),
            `crop_box` XYWH px, `parent` (place in the list of the smallest mask that this one lies in, or None); and
            `box` XYXY px where the prompt was a box (`point_coords` is then empty).

        Raises:
            ValueError: it is no such photo.
        """
        return self.label(image).records

    def generate_batch(self, images: Sequence[np.ndarray], at_once: int = 1) -> list[list[dict[str, Any]]]:
        """Return `generate` of each photo; a photo's masks do not depend on the others.

        Args:
            images: (H, W, 3) uint8 RGB each.
            at_once: photos labelled together (`label_together`).

        Raises:
            ValueError: one is no such photo, or `at_once` is below 1.
        """
        checked({"at_once": Count}, {"at_once": at_once})
        found = []
        for start in range(0, len(images), at_once):
            for outcome in self.label_together(images[start : start + at_once]):
                if isinstance(outcome, Exception):
                    raise outcome
                found.append(outcome.records)
        return found

    def label(self, image: np.ndarray, encoded: EncodedPhoto | None = None, *, trace: bool = False) -> Labelled:
        """Return the records of `generate` with the counts and times of the photo.

        Args:
            image: (H, W, 3) uint8 RGB.
            encoded: the photo already encoded by this model, to compare strategies at the cost of one encoding; it is
                then taken whole, unless tile_size is a number.
            trace: also tell the fate of each prompt, and the confidence maps; masks are the same.

        Raises:
            ValueError: `image` is no such photo.
        """
        (outcome,) = self._in_lock_step([(image, encoded)], lambda spent: None, [trace])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def label_together(
        self,
        images: Sequence[np.ndarray],
        working: Callable[[float], None] = lambda spent: None,
        traced: Sequence[bool] | None = None,
    ) -> list[Labelled | Exception]:
        """Return `label` of each photo, or what it raised; all are in memory at once, encoded in one batch, and their
        small rounds are decoded together.

        In company, numbers differ from those of a photo alone by rounding, since other kernels multiply larger
        matrices. `benchmarks/batches.py` says whether masks are equal on a machine.

        Args:
            images: (H, W, 3) uint8 RGB each.
            working: called before each piece of work with the seconds that its photo has taken so far.
            traced: for each photo, whether to tell the fate of each prompt; none by default.
        """
        return self._in_lock_step([(image, None) for image in images], working, traced or [False] * len(images))

    @torch.inference_mode()
    def _in_lock_step(
        self,
        photos: Sequence[tuple[np.ndarray, EncodedPhoto | None]],
        working: Callable[[float], None],
        traced: Sequence[bool],
    ) -> list[Labelled | Exception]:
        ledgers = [
            Ledger(self.model.device, Fates(Trace() if asked else None))
            for _, asked in zip(photos, traced, strict=True)
        ]
        ways = [(ledger, self._label(*photo, ledger)) for photo, ledger in zip(photos, ledgers, strict=True)]
        with as_loaded(self.model):
            return in_lock_step(self.model, ways, self.options.points_per_batch, working)

    def _label(self, image: np.ndarray, encoded: EncodedPhoto | None, ledger: Ledger) -> Steps[Labelled]:
        check_photo(image)
        if encoded is not None and (encoded.hw != image.shape[:2] or encoded.model is not self.model):
            raise ValueError(
                f"encoded is a photo of {encoded.hw} by {name_of(encoded.model) or 'a SAM'}, not this one of"
                f" {image.shape[:2]} by the generator's own model"
            )
        networks = self.scorer, self.mask_head, self.thing_head
        run = PhotoRun(self.options, image, ledger, encoded, None, *networks)
        if encoded is None or self.options.tile_size != "auto":
            run.tile_px = self.options.tile_px(run.hw, int(self.model.image_encoder.img_size))
        parts = label_crops(run, self.strategies) if run.tile_px is None else label_tiles(run, self.strategies[0])
        candidates = yield from parts
        if self.options.min_mask_region_area > 0:
            candidates = self._without_small_regions(run, candidates)
        if not self._as_sam:  # which puts the masks of its smallest crops first
            candidates = sorted(candidates, key=lambda candidate: -candidate.quality)
        with run.ledger.stage("filter"):
            if self.options.overlap == "whole":
                candidates = whole(candidates, run.ledger.masks_dropped)
            if self.options.overlap == "flat":
                candidates = flat(candidates, run.ledger.masks_dropped)
                links: list[int | None] = [None] * len(candidates)
            else:
                links = parents([candidate.runs for candidate in candidates])
        with run.ledger.stage("rle"):
            records = [self._record(*found) for found in zip(candidates, links, strict=True)]
        return run.ledger.close(records)

    def _without_small_regions(self, run: PhotoRun, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Remove small holes and islands, then duplicates again, preferring masks that needed no change."""
        with run.ledger.stage("filter"):
            cleaned = [clean(candidate.runs, self.options.min_mask_region_area) for candidate in candidates]
            scores = [float(not changed) for _, changed in cleaned]
            masks = [replace(c, runs=runs) for c, (runs, _) in zip(candidates, cleaned, strict=True)]
        threshold = max(self.options.duplicates_thresh, self.options.crops_thresh)
        return run.without_duplicates(masks, threshold, scores)

    def _record(self, candidate: Candidate, parent: int | None) -> dict[str, Any]:
        compressed = rle.from_runs(candidate.runs)
        segmentation: Any = compressed
        if self.output_mode == "binary_mask":
            segmentation = rle.decode(compressed, rle.MOST_RLE_PIXELS)
        elif self.output_mode == "uncompressed_rle":
            segmentation = {"size": compressed["size"], "counts": rle.runs(compressed).tolist()}
        x0, y0, x1, y1 = candidate.runs.box_xyxy_px
        left, top, right, bottom = candidate.crop_xyxy_px
        coords = candidate.prompt.coords_px[0]
        record = {
            "segmentation": segmentation,
            "area": candidate.runs.area,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "predicted_iou": candidate.predicted_iou,
            "point_coords": [] if candidate.prompt.are_boxes else [coords[0].tolist()],
            "stability_score": candidate.stability,
            "score": candidate.mask_score,
            "crop_box": [left, top, right - left, bottom - top],
            "parent": parent,
        }
        if candidate.prompt.are_boxes:
            record["box"] = coords.reshape(-1).tolist()
        return record


def _scorer(model: Sam, options: GeneratorOptions, as_sam: bool) -> MaskScorer | None:
    """Return what scores masks; None where they rank by predicted IoU."""
    if options.rank_by == "predicted_iou" and options.scorer is not None:
        raise ValueError("rank_by=predicted_iou, yours or the preset's, asks no scorer; leave it out, or rank by score")
    if options.rank_by == "predicted_iou" or (options.rank_by is None and options.scorer is None and as_sam):
        return None
    scorer = find_scorer(model, options.scorer)
    if scorer is None and options.rank_by == "score":
        raise ValueError(
            f"rank_by=score: no scorer belongs to {name_of(model) or 'this SAM'}; train one with"
            " pipelines/train_scorer.py and give its file as scorer"
        )
    return scorer


def _check_thresholds(given: GeneratorOptions, used: GeneratorOptions, preset: Mapping[str, Any]) -> None:
    """Check that what was given is read.

    Args:
        given: as the caller gave them, and the preset if there is one.
        used: with what the model and its scorer add.
        preset: options of everything mode that a preset gave.

    Raises:
        ValueError: a threshold that nothing reads; the message says which one is.
    """
    if given.box_nms_thresh is not None and used.duplicates != "box-nms" and "box_nms_thresh" not in preset:
        read = {"mask-nms": "mask_nms_thresh", "merge": "merge_thresh"}.get(str(used.duplicates), "none")
        raise ValueError(
            f"box_nms_thresh={given.box_nms_thresh}: duplicates is {used.duplicates} here, which reads {read}; give"
            " duplicates=box-nms as well for SAM's way"
        )
    if given.score_thresh is not None and used.rank_by != "score":
        raise ValueError(f"score_thresh={given.score_thresh}: masks rank by predicted_iou here; give pred_iou_thresh")


def _mask_head(model: Sam, options: GeneratorOptions, scored: bool) -> MaskHead | None:
    """Return what draws kept masks once more; None where they stay as decoded."""
    if options.redraw is False and options.mask_head is not None:
        raise ValueError("redraw=False: no mask head is asked then; leave out mask_head, or redraw")
    if options.redraw is False or (options.redraw is None and options.mask_head is None and not scored):
        return None
    head = find_mask_head(model, options.mask_head)
    if head is None and options.redraw:
        raise ValueError(
            f"redraw: no mask head belongs to {name_of(model) or 'this SAM'}; train one with"
            " pipelines/train_mask_head.py and give its file as mask_head"
        )
    return head


def _thing_head(model: Sam, options: GeneratorOptions, scored: bool, strategy: Strategy) -> ThingHead | None:
    """Return what finds things in photos as the model encodes them; None where nothing reads them, or none is its."""
    decoded = isinstance(strategy, AutoPrompts) and strategy.things > 0 and strategy.proposer.reads is model
    if scored or decoded:
        return find_thing_head(model, options.thing_head)
    if options.thing_head is not None:
        raise ValueError("thing_head: no scorer reads its boxes here, and none is decoded; leave it out")
    return None


def _signature() -> inspect.Signature:
    """Spell out the options that `**ours` stands for, for notebooks and `help`."""
    written = list(inspect.signature(AutoMaskGenerator.__init__).parameters.values())[1:-1]
    names = {parameter.name for parameter in written}
    ours = [
        inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=entry.default, annotation=entry.type)
        for entry in fields(GeneratorOptions)
        if entry.name not in names
    ]
    return inspect.Signature([*written, *ours])


AutoMaskGenerator.__signature__ = _signature()  # type: ignore[attr-defined]

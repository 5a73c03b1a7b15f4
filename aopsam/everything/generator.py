"""Everything mode: one photo in, the masks of its objects out, as SAM's own generator returns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.amg import generate_crop_boxes

from aopsam.everything.candidates import BoxXYXY, Candidate, Crop, Filters, flat, scored_by_agreement, select, united
from aopsam.everything.ledger import Labelled, Stopwatch, Work
from aopsam.everything.refinement import Boundary, refine
from aopsam.masks import rle
from aopsam.masks.duplicates import DUPLICATES
from aopsam.masks.nesting import parents
from aopsam.masks.refine import RULES, Rule
from aopsam.masks.small_regions import clean
from aopsam.masks.tiles import join, tile_boxes
from aopsam.predictor.network import PromptPredictor
from aopsam.prompting import Decoded, Strategy, make_strategy
from aopsam.prompting.grid import Grid
from aopsam.sam.decode import decode_passing
from aopsam.sam.encode import EncodedPhoto, encode

LEAST_TILE_PX = 64

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]

Overlap = Literal["nested", "flat"]


class AutoMaskGenerator:
    """Masks of every object in a photo. Parameters, names and order are those of `SamAutomaticMaskGenerator`."""

    def __init__(
        self,
        model: Sam,
        points_per_side: int | None = None,
        points_per_batch: int = 64,
        pred_iou_thresh: float | None = None,
        stability_score_thresh: float | None = None,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float | None = None,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: OutputMode = "binary_mask",
        *,
        prompts: str | None = None,
        predictor: PromptPredictor | None = None,
        strategy_options: dict[str, Any] | None = None,
        duplicates: str = "box-nms",
        mask_nms_thresh: float = 0.7,
        merge_thresh: float = 0.7,
        refine: Rule | None = None,
        refine_boundary: Boundary = "negative",
        overlap: Overlap = "nested",
        tile_size: int | None = None,
        tile_overlap: float = 0.25,
        tile_join_thresh: float = 0.7,
        tile_whole: bool = True,
    ) -> None:
        """Set up the generator.

        Args:
            model: a SAM of `aopsam.load_sam`.
            points_per_side: the same as `prompts="grid-N"`.
            points_per_batch: prompts decoded at once; bounds memory.
            pred_iou_thresh: least IoU that the decoder predicts for a mask; by default the model's own.
            stability_score_thresh: least stability score; by default the model's own.
            stability_score_offset: how far the threshold moves for the stability score.
            box_nms_thresh: box IoU above which the mask with the lower predicted IoU goes; by default the model's own.
            crop_n_layers: layers of crops, 2^i × 2^i of them on layer i.
            crop_nms_thresh: box IoU above which a mask of a larger crop goes.
            crop_overlap_ratio: overlap of neighbouring crops.
            crop_n_points_downscale_factor: divides points per side from one layer of crops to the next.
            point_grids: points (N, 2) in [0, 1] for each layer, in place of a strategy.
            min_mask_region_area: holes and islands below it are removed, px²; 0 leaves masks alone.
            output_mode: `binary_mask`, `uncompressed_rle` or `coco_rle`.
            prompts: a strategy of `aopsam.prompting.STRATEGIES`; `aop` where nothing is given.
            predictor: for `aop`; by default the one that belongs to the model, else the bundled `tiny` proposes.
            strategy_options: the strategy's own parameters.
            duplicates: what becomes of masks that repeat each other: `box-nms` (SAM's), `mask-nms`, `merge` (Efficient
                SAM2's) or `none`.
            mask_nms_thresh: for `mask-nms`: IoU above which the mask with the lower predicted IoU goes.
            merge_thresh: for `merge`: share of the smaller of two masks above which they become one.
            refine: Adaptive Mask Refinement: ask again for each mask with two more points, chosen by the paper's
                `formula` or its `prose` (`aopsam.masks.refine`); None asks once.
            refine_boundary: label of the points that it puts just outside a mask.
            overlap: `nested` (masks may lie in each other; `parent` says in which) or `flat` (each pixel belongs to the
                smallest mask that has it; masks of which nothing is left go).
            tile_size: side of tiles, px, that are encoded and labelled one by one, and joined (`aopsam.masks.tiles`);
                None takes the photo whole.
            tile_overlap: least share of a tile that it has in common with the next.
            tile_join_thresh: IoU, within the overlap of two tiles, above which two pieces are one object.
            tile_whole: label the whole photo, too, for what is larger than a tile.

        Raises:
            ValueError: more than one source of prompts, an unknown name, a number out of its range, or options that
                exclude each other.
        """
        _check_share("mask_nms_thresh", mask_nms_thresh)
        _check_share("merge_thresh", merge_thresh)
        _check_share("tile_join_thresh", tile_join_thresh)
        _check_share("tile_overlap", tile_overlap, above=0, most=0.5)
        _check_choice("duplicates", duplicates, tuple(DUPLICATES))
        _check_choice("refine", refine, (None, *RULES))
        _check_choice("refine_boundary", refine_boundary, get_args(Boundary))
        _check_choice("overlap", overlap, get_args(Overlap))
        if tile_size is not None and tile_size < LEAST_TILE_PX:
            raise ValueError(f"tile_size={tile_size}; a tile is at least {LEAST_TILE_PX} px")
        if tile_size is not None and (crop_n_layers or point_grids is not None):
            raise ValueError(
                f"tile_size={tile_size} and {'crop_n_layers' if crop_n_layers else 'point_grids'} exclude each other"
            )
        if sum(source is not None for source in (points_per_side, point_grids, prompts)) > 1:
            raise ValueError("give only one of points_per_side, point_grids and prompts")
        _check_choice("output_mode", output_mode, get_args(OutputMode))
        if point_grids is not None and len(point_grids) != crop_n_layers + 1:
            raise ValueError(f"point_grids has {len(point_grids)} layers; crop_n_layers={crop_n_layers} needs one more")
        thresholds = model.thresholds
        self.model = model
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = thresholds.pred_iou_thresh if pred_iou_thresh is None else pred_iou_thresh
        self.stability_score_thresh = (
            thresholds.stability_score_thresh if stability_score_thresh is None else stability_score_thresh
        )
        self.stability_score_offset = stability_score_offset
        self.filters = Filters(self.pred_iou_thresh, self.stability_score_thresh, stability_score_offset)
        self.box_nms_thresh = thresholds.box_nms_thresh if box_nms_thresh is None else box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self.duplicates = duplicates
        by_way = {"mask-nms": mask_nms_thresh, "merge": merge_thresh}
        self.duplicates_thresh = by_way.get(duplicates, self.box_nms_thresh)
        self.across_thresh = crop_nms_thresh if duplicates.endswith("nms") else self.duplicates_thresh
        self.refine, self.refine_boundary = refine, refine_boundary
        self.overlap = overlap
        self.tile_size, self.tile_overlap = tile_size, tile_overlap
        self.tile_join_thresh, self.tile_whole = tile_join_thresh, tile_whole
        self.prompts = "point_grids" if point_grids is not None else prompts or "aop"
        layers = range(crop_n_layers + 1)
        self.strategies: list[Strategy]
        if point_grids is not None:
            self.strategies = [Grid(points) for points in point_grids]
        elif points_per_side is not None:
            self.prompts = f"grid-{points_per_side}"
            sides = [int(points_per_side / crop_n_points_downscale_factor**layer) for layer in layers]
            self.strategies = [Grid.per_side(side) for side in sides]
        else:
            strategy = make_strategy(self.prompts, model, predictor, **(strategy_options or {}))
            self.strategies = [strategy for _ in layers]

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Masks of one photo.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            A record a mask, by falling predicted IoU: `segmentation` (by output_mode), `area` px², `bbox` XYWH px,
            `predicted_iou`, `point_coords` [[x, y]] px, `stability_score`, `crop_box` XYWH px, `parent` (place in the
            list of the smallest mask that this one lies in, or None); and `box` XYXY px where the prompt was a box
            (`point_coords` is then empty).
        """
        return self.label(image).records

    def generate_batch(self, images: list[np.ndarray]) -> list[list[dict[str, Any]]]:
        """`generate` for each photo; a photo's masks never depend on the others."""
        return [self.generate(image) for image in images]

    @torch.inference_mode()
    def label(self, image: np.ndarray, encoded: EncodedPhoto | None = None) -> Labelled:
        """As `generate`, with the counts and times of the photo beside its records.

        Args:
            image: (H, W, 3) uint8 RGB.
            encoded: the photo already encoded by this model, to compare strategies at the cost of one encoding.
        """
        work = Work(image, encoded, Stopwatch(self.model.device))
        work.tiled = self.tile_size is not None and max(work.hw) > self.tile_size
        candidates = self._label_tiles(work) if work.tiled else self._label_crops(work)
        with work.watch.stage("filter"):
            if self.min_mask_region_area > 0:
                candidates = self._clean(candidates)
            if self.overlap == "nested":
                links = parents([candidate.runs for candidate in candidates])
            else:
                candidates = flat(candidates, work.masks_dropped)
                links = [None] * len(candidates)
        with work.watch.stage("rle"):
            records = [self._record(*found) for found in zip(candidates, links, strict=True)]
        return Labelled(
            records,
            prompts_proposed=work.trace.proposed,
            prompts_decoded=work.decoded,
            refinements=work.refinements,
            dropped=dict(work.trace.dropped),
            masks_dropped=dict(work.masks_dropped),
            seconds=dict(work.watch.seconds),
        )

    def _label_crops(self, work: Work) -> list[Candidate]:
        """SAM's layers of crops: what a crop's inner border cuts is left to the crops beside and above it."""
        boxes, layers = generate_crop_boxes(work.hw, self.crop_n_layers, self.crop_overlap_ratio)
        candidates: list[Candidate] = []
        for box, layer in zip(boxes, layers, strict=True):
            candidates += self._label_crop(work, (box[0], box[1], box[2], box[3]), self.strategies[layer], self.filters)
        if len(boxes) == 1:
            return candidates
        with work.watch.stage("filter"):  # masks of smaller crops see more detail
            return self._without_duplicates(
                candidates, [1 / _area(c.crop_xyxy_px) for c in candidates], self.across_thresh
            )

    def _label_tiles(self, work: Work) -> list[Candidate]:
        """Tiles one by one, pieces joined across their seams, and the whole photo for what is larger than a tile."""
        assert self.tile_size is not None
        height, width = work.hw
        found: list[Candidate] = []
        for box in tile_boxes(work.hw, self.tile_size, self.tile_overlap):
            found += self._label_crop(work, box, self.strategies[0], replace(self.filters, cut=True))
        with work.watch.stage("filter"):
            scores = [c.score for c in found]
            joined = join([c.runs for c in found], [c.crop_xyxy_px for c in found], scores, self.tile_join_thresh)
            work.masks_dropped["cut by a tile and not continued beyond"] += joined.cut
            candidates = [united([found[i] for i in group]) for group in joined.groups]
        whole = (
            self._label_crop(work, (0, 0, width, height), self.strategies[0], self.filters) if self.tile_whole else []
        )
        with work.watch.stage("filter"):  # masks of tiles see more detail
            candidates = self._without_duplicates(candidates, [c.score for c in candidates], self.duplicates_thresh)
            scores = [1.0] * len(candidates) + [0.0] * len(whole)
            return self._without_duplicates(candidates + whole, scores, self.duplicates_thresh)

    def _label_crop(self, work: Work, box: BoxXYXY, strategy: Strategy, filters: Filters) -> list[Candidate]:
        """Run a strategy's rounds on one crop; what is left without duplicates, refined if asked."""
        x0, y0, x1, y1 = box
        with work.watch.stage("encode"):
            whole = work.encoded is not None and box == (0, 0, work.hw[1], work.hw[0])
            photo = work.encoded if whole and work.encoded else encode(self.model, work.image[y0:y1, x0:x1])
        crop = Crop(photo, box, work.hw)
        rounds = strategy.rounds(photo, work.trace)
        candidates: list[Candidate] = []
        with work.watch.stage("prompt"):
            prompts = next(rounds, None)
        while prompts is not None:
            with work.watch.stage("decode"):
                decoded = decode_passing(
                    photo, prompts, min_iou=filters.min_iou, points_per_batch=self.points_per_batch
                )
            work.decoded += len(prompts)
            with work.watch.stage("filter"):
                found, stable = select(crop, prompts, decoded, filters)
            candidates += found
            with work.watch.stage("prompt"):
                try:
                    prompts = rounds.send(Decoded(prompts, decoded.predicted_iou, decoded.logits[stable]))
                except StopIteration:
                    prompts = None
        with work.watch.stage("filter"):
            if work.tiled:
                candidates = scored_by_agreement(candidates)
            candidates = self._without_duplicates(candidates, [c.score for c in candidates], self.duplicates_thresh)
        if self.refine is None:
            return candidates
        with work.watch.stage("decode"):
            settings = (self.refine, self.refine_boundary, self.points_per_batch)
            candidates, asked = refine(crop, candidates, filters, *settings)
        work.refinements += asked
        with work.watch.stage("filter"):  # refined masks may meet
            return self._without_duplicates(candidates, [c.score for c in candidates], self.duplicates_thresh)

    def _without_duplicates(
        self, candidates: Sequence[Candidate], scores: Sequence[float], threshold: float
    ) -> list[Candidate]:
        """What the chosen way leaves, by falling score."""
        kept = DUPLICATES[self.duplicates]([c.runs for c in candidates], np.array(scores, np.float32), threshold)
        return [replace(candidates[i], runs=runs) for i, runs in kept]

    def _clean(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Remove small holes and islands, then duplicates again, preferring masks that needed no change."""
        cleaned, scores = list[Candidate](), list[float]()
        for candidate in candidates:
            runs, changed = clean(candidate.runs, self.min_mask_region_area)
            cleaned.append(replace(candidate, runs=runs))
            scores.append(float(not changed))
        return self._without_duplicates(cleaned, scores, max(self.duplicates_thresh, self.across_thresh))

    def _record(self, candidate: Candidate, parent: int | None) -> dict[str, Any]:
        compressed = rle.from_runs(candidate.runs)
        segmentation: Any = compressed
        if self.output_mode == "binary_mask":
            segmentation = rle.decode(compressed)
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
            "crop_box": [left, top, right - left, bottom - top],
            "parent": parent,
        }
        if candidate.prompt.are_boxes:
            record["box"] = coords.reshape(-1).tolist()
        return record


def _area(box: BoxXYXY) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _check_share(name: str, value: float, above: float = -1, most: float = 1) -> None:
    if not (above < value <= most and value >= 0):
        raise ValueError(f"{name}={value!r}; expected a number {'from 0' if above < 0 else f'above {above}'} to {most}")


def _check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}; choose from {', '.join(map(str, choices))}")

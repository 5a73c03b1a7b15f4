"""Everything mode: one photo in, the masks of its objects out, as SAM's own generator returns them."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.amg import generate_crop_boxes, is_box_near_crop_edge
from torchvision.ops import nms

from aopsam.masks import rle
from aopsam.masks.full_size import trace_full_size
from aopsam.masks.runs import Runs
from aopsam.masks.small_regions import remove_small_regions
from aopsam.masks.trace import Traced, trace
from aopsam.predictor.network import PromptPredictor
from aopsam.prompting import Decoded, Strategy, Trace, make_strategy
from aopsam.prompting.grid import Grid
from aopsam.sam.decode import DecodedMasks, decode_passing, upscale
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]

FULL_SIZE_BUDGET = 32 * 2**20
"""Logits held at original size at once on a GPU, in pixels (128 MiB of float32): what bounds memory on large photos."""


@dataclass
class Candidate:
    """One mask that passed the thresholds, in pixels of the whole photo."""

    runs: Runs
    predicted_iou: float
    stability: float
    prompt: Prompts
    crop_xyxy_px: tuple[int, int, int, int]


@dataclass
class Labelled:
    """The masks of one photo and how they came about.

    Attributes:
        records: SAM's records (see `AutoMaskGenerator.generate`).
        prompts_proposed: prompts that the strategy came up with.
        prompts_decoded: prompts that reached the mask decoder.
        dropped: prompts proposed and not decoded, by reason.
        seconds: wall-clock time by stage: encode, prompt, decode, filter, rle.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    prompts_proposed: int = 0
    prompts_decoded: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class _Stopwatch:
    """Adds up wall-clock time by stage; on a GPU it waits for the stage's work."""

    def __init__(self, device: torch.device) -> None:
        self._wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            self.seconds[name] += time.perf_counter() - start


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

        Raises:
            ValueError: more than one source of prompts, or an unknown strategy, option or output mode.
        """
        if sum(source is not None for source in (points_per_side, point_grids, prompts)) > 1:
            raise ValueError("give only one of points_per_side, point_grids and prompts")
        if output_mode not in get_args(OutputMode):
            raise ValueError(f"output_mode={output_mode!r}; choose from {', '.join(get_args(OutputMode))}")
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
        self.box_nms_thresh = thresholds.box_nms_thresh if box_nms_thresh is None else box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
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
            `predicted_iou`, `point_coords` [[x, y]] px, `stability_score`, `crop_box` XYWH px; and `box` XYXY px where
            the prompt was a box (`point_coords` is then empty).
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
        watch = _Stopwatch(self.model.device)
        height, width = image.shape[:2]
        crops, layers = generate_crop_boxes((height, width), self.crop_n_layers, self.crop_overlap_ratio)
        trace, decoded_count, candidates = Trace(), 0, []
        for (x0, y0, x1, y1), layer in zip(crops, layers, strict=True):
            with watch.stage("encode"):
                whole = encoded is not None and (x0, y0, x1, y1) == (0, 0, width, height)
                photo = encoded if whole and encoded is not None else encode(self.model, image[y0:y1, x0:x1])
            found, count = self._label_crop(
                photo, (x0, y0, x1, y1), (height, width), self.strategies[layer], trace, watch
            )
            candidates += found
            decoded_count += count
        with watch.stage("filter"):
            if len(crops) > 1:  # masks of smaller crops see more detail
                areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (c.crop_xyxy_px for c in candidates)]
                candidates = _suppress(candidates, [1 / area for area in areas], self.crop_nms_thresh)
            if self.min_mask_region_area > 0:
                candidates = self._clean(candidates)
        with watch.stage("rle"):
            records = [self._record(candidate) for candidate in candidates]
        return Labelled(records, trace.proposed, decoded_count, dict(trace.dropped), dict(watch.seconds))

    def _label_crop(
        self,
        photo: EncodedPhoto,
        crop: tuple[int, int, int, int],
        full_hw: tuple[int, int],
        strategy: Strategy,
        trace: Trace,
        watch: _Stopwatch,
    ) -> tuple[list[Candidate], int]:
        """Run a strategy's rounds on one crop; candidates after box NMS, and how many prompts were decoded."""
        rounds = strategy.rounds(photo, trace)
        candidates: list[Candidate] = []
        decoded_count = 0
        with watch.stage("prompt"):
            prompts = next(rounds, None)
        while prompts is not None:
            with watch.stage("decode"):
                # As in segment-anything, 0 filters nothing, not even a negative estimate.
                min_iou = self.pred_iou_thresh if self.pred_iou_thresh > 0 else -math.inf
                decoded = decode_passing(photo, prompts, min_iou=min_iou, points_per_batch=self.points_per_batch)
            decoded_count += len(prompts)
            found, stable = self._select(photo, prompts, decoded, crop, full_hw, watch)
            candidates += found
            with watch.stage("prompt"):
                try:
                    prompts = rounds.send(Decoded(prompts, decoded.predicted_iou, decoded.logits[stable]))
                except StopIteration:
                    prompts = None
        with watch.stage("filter"):
            kept_candidates = _suppress(candidates, [c.predicted_iou for c in candidates], self.box_nms_thresh)
        return kept_candidates, decoded_count

    def _select(
        self,
        photo: EncodedPhoto,
        prompts: Prompts,
        decoded: DecodedMasks,
        crop: tuple[int, int, int, int],
        full_hw: tuple[int, int],
        watch: _Stopwatch,
    ) -> tuple[list[Candidate], torch.Tensor]:
        """Apply SAM's filters to what passed the predicted IoU; candidates, and (K,) bool: which masks are stable."""
        with watch.stage("filter"):
            traced = self._trace(photo, decoded.logits)
            stable = torch.tensor([found.runs is not None for found in traced], dtype=torch.bool)
            boxes = torch.tensor([found.runs.box_xyxy_px for found in traced if found.runs is not None]).view(-1, 4)
            inside = ~is_box_near_crop_edge(boxes, list(crop), [0, 0, full_hw[1], full_hw[0]])
            offset = np.array(crop[:2])
            rows = np.flatnonzero(stable.numpy())[inside.numpy()]
            index, scores = decoded.index.tolist(), decoded.predicted_iou.tolist()
            candidates: list[Candidate] = []
            for row in rows.tolist():
                runs = traced[row].runs
                assert runs is not None
                prompt, mask = index[row]
                asked = prompts[prompt : prompt + 1]
                candidates.append(
                    Candidate(
                        runs.placed(crop[0], crop[1], full_hw),
                        scores[prompt][mask],
                        traced[row].stability,
                        Prompts(asked.coords_px + offset, asked.labels, asked.confidence),
                        crop,
                    )
                )
        return candidates, stable.to(decoded.logits.device)

    def _trace(self, photo: EncodedPhoto, logits: torch.Tensor) -> list[Traced]:
        """Stability and runs of K masks; a GPU is quicker at making them at full size, a few at a time."""
        settings = {
            "threshold": self.model.mask_threshold,
            "offset": self.stability_score_offset,
            "least_stability": self.stability_score_thresh,
        }
        if not logits.is_cuda:
            return trace(logits, photo.resampling, **settings)
        step = max(1, FULL_SIZE_BUDGET // (photo.hw[0] * photo.hw[1]))
        return [found for some in logits.split(step) for found in trace_full_size(upscale(photo, some), **settings)]

    def _clean(self, candidates: list[Candidate]) -> list[Candidate]:
        """Remove small holes and islands, then NMS again, preferring masks that needed no change."""
        scores = []
        for candidate in candidates:
            mask = rle.decode(rle.from_runs(candidate.runs))
            mask, changed = remove_small_regions(mask, self.min_mask_region_area)
            scores.append(float(not changed))
            if changed:
                candidate.runs = Runs.of_mask(mask)
        return _suppress(candidates, scores, max(self.box_nms_thresh, self.crop_nms_thresh))

    def _record(self, candidate: Candidate) -> dict[str, Any]:
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
        }
        if candidate.prompt.are_boxes:
            record["box"] = coords.reshape(-1).tolist()
        return record


def _suppress(candidates: list[Candidate], scores: list[float], threshold: float) -> list[Candidate]:
    """Box NMS; what stays is ordered by falling score."""
    if not candidates:
        return []
    boxes = torch.tensor([c.runs.box_xyxy_px for c in candidates]).float()
    return [candidates[i] for i in nms(boxes, torch.tensor(scores), threshold).tolist()]

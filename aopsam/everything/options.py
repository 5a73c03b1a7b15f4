"""Options of everything mode, stated once: what happens to masks after prompting, whatever the strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aopsam._options import Count, Limits, OneOf, Share, check
from aopsam.masks.duplicates import DUPLICATES
from aopsam.masks.refine import Boundary, Points, Rule

if TYPE_CHECKING:  # command lines are judged before torch is imported
    from aopsam.everything.candidates import Filters
    from aopsam.sam.registry import Thresholds
    from aopsam.scoring.network import MaskScorer

LEAST_TILE_PX = 64
LARGE_PX = 4096
"""Longer side above which a photo is large: those of phones (12 megapixels, up to 4096 px) are not."""
TILE_TIMES = 4
"""Side of the tiles of a large photo, in sides of the square that the SAM reads (benchmarks/LOG.md)."""

WEIGHTS = ("scorer", "mask_head", "thing_head")
"""Options that name a file of weights; the generator's attribute of that name is the network."""

Overlap = Literal["nested", "whole", "flat"]
Rank = Literal["score", "predicted_iou"]
Single = Literal["best", "token"]


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Options of `aopsam.AutoMaskGenerator`; the first nine are SAM's own.

    Raises:
        ValueError: an unknown name, a number out of its range, or options that exclude each other.
    """

    points_per_batch: Count = 64
    """Prompts decoded at once; bounds memory."""
    pred_iou_thresh: Share | None = None
    """Least IoU that the decoder predicts for a mask, 0 for any; by default the model's own."""
    stability_score_thresh: Share | None = None
    """Least stability score of a mask as decoded, 0 for any; by default the model's own. What a mask head draws of it
    has another, which is in the record and filters nothing."""
    stability_score_offset: Annotated[float, Limits(0, 100)] = 1.0
    """Distance by which the threshold of the logits moves for the stability score."""
    box_nms_thresh: Share | None = None
    """For box-nms: IoU of boxes above which the worse mask goes; by default the model's own."""
    crop_n_layers: Annotated[int, Limits(0, 5)] = 0
    """Layers of crops, 2^i × 2^i of them on layer i."""
    crop_nms_thresh: Share = 0.7
    """IoU (of boxes under box-nms, of masks under mask-nms) above which a mask of a larger crop goes."""
    crop_overlap_ratio: Share = 512 / 1500
    """Overlap of neighbouring crops, as a share of the photo's shorter side."""
    min_mask_region_area: Annotated[int, Limits(0)] = 0
    """Holes and islands below it are removed, px²; 0 leaves masks alone."""
    masks_per_prompt: Literal[1, 3] | None = None
    """Masks a point: 3, levels of detail (SAM's own way, and the default), or 1 (MobileSAMv2's ×1). A box has one. All
    that follows, a strategy's filtering between rounds and refinement too, then sees one answer a prompt."""
    single_mask: Single = "best"
    """For masks_per_prompt 1: best, that of the three which passes and has the highest score, or predicted IoU where
    masks rank by it (as EfficientSAM's own everything mode); or token, the decoder's output for one mask
    (multimask_output=False)."""
    rank_by: Rank | None = None
    """Number that tells the better of two masks: score (the scorer's) or predicted_iou (SAM's own estimate). By default
    score, unless there is no scorer, or the prompts are SAM's own points_per_side or point_grids."""
    scorer: str | None = None
    """Weights of the scorer (pipelines/train_scorer.py); by default the bundled one, if it belongs to the model."""
    score_thresh: Share | None = None
    """Least score of a mask where masks rank by it; by default the scorer's own."""
    duplicates: Annotated[str, OneOf(DUPLICATES)] | None = None
    """Way with masks that repeat each other: mask-nms, box-nms (SAM's, and the default where masks rank by
    predicted_iou), merge (Efficient SAM2's) or none."""
    mask_nms_thresh: Share = 0.7
    """For mask-nms: IoU above which the worse mask goes."""
    merge_thresh: Share = 0.8
    """For merge: share of the smaller of two masks above which they become one (benchmarks/merging.py)."""
    refine: Rule | None = None
    """Adaptive Mask Refinement: ask again for each mask with two more points, chosen by the paper's formula or its
    prose (aopsam/masks/refine.py); by default every prompt is asked once."""
    refine_boundary: Boundary = "negative"
    """Label of the points that refinement puts just outside a mask."""
    refine_points: Points = "added"
    """added: refinement's two points join the first prompt; alone: they take its place. The paper does not say."""
    redraw: bool | None = None
    """Draw kept masks once more with a mask head, each in its own box; by default where masks rank by a score and the
    bundled mask head belongs to the model, or mask_head is given."""
    mask_head: str | None = None
    """Weights of the mask head (pipelines/train_mask_head.py); by default the bundled one, if it is the model's."""
    thing_head: str | None = None
    """Weights of the thing head (pipelines/train_thing_head.py), whose boxes the scorer reads and aop decodes; by
    default the bundled one, if it is the model's."""
    overlap: Overlap = "nested"
    """nested: masks may lie in each other, `parent` says in which; whole: those go that lie in a larger one of about
    their score or more; flat: each pixel belongs to the smallest mask that has it, and masks of which nothing is left
    go."""
    tile_size: Annotated[int, Limits(LEAST_TILE_PX)] | Literal["auto"] | None = "auto"
    """Side of tiles, px, that a larger photo is cut into; they are encoded and labelled one by one, and joined. auto: a
    photo with a side above 4096 px is cut into tiles of 4 times what the SAM reads, unless there are crops, SAM's own
    points_per_side or point_grids, or an embedding of the whole photo. None: every photo is taken whole."""
    tile_overlap: Annotated[float, Limits(0, 0.5, open=True)] = 0.25
    """Least share of a tile that it has in common with the next."""
    tile_join_thresh: Share = 0.7
    """IoU, within the overlap of two tiles, above which two pieces are one object."""
    tile_whole: bool = True
    """Label the whole photo, too, for what is larger than a tile."""

    def __post_init__(self) -> None:
        check(self)
        if isinstance(self.tile_size, int) and self.crop_n_layers:
            raise ValueError(f"tile_size={self.tile_size} and crop_n_layers exclude each other")

    def filled(self, values: Mapping[str, Any]) -> GeneratorOptions:
        """Return the options with those of `values` where none were given."""
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})

    def resolved(self, thresholds: Thresholds, scorer: MaskScorer | None) -> GeneratorOptions:
        """Return the options with those of a model, and of its scorer if masks rank by one, where none were given."""
        names = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh")
        defaults: dict[str, Any] = {name: getattr(thresholds, name) for name in names}
        defaults |= {"rank_by": "predicted_iou", "duplicates": "box-nms"}
        if scorer is not None:
            defaults |= {"rank_by": "score", "duplicates": "mask-nms", "score_thresh": scorer.score_thresh}
            defaults["pred_iou_thresh"] = scorer.pred_iou_thresh
        return self.filled(defaults | {"masks_per_prompt": 3})

    def tile_px(self, hw: tuple[int, int], reads_px: int) -> int | None:
        """Return the side of the tiles that a photo is cut into, px; None where it is taken whole.

        Args:
            hw: rows and columns of the photo.
            reads_px: side of the square that the SAM reads.
        """
        if self.tile_size == "auto":
            return TILE_TIMES * reads_px if max(hw) > LARGE_PX and not self.crop_n_layers else None
        return self.tile_size if self.tile_size is not None and max(hw) > self.tile_size else None

    @property
    def multimask(self) -> bool | None:
        """Tell whether the decoder is asked for three masks a prompt; None for three a point and one a box."""
        return False if self.masks_per_prompt == 1 and self.single_mask == "token" else None

    @property
    def filters(self) -> Filters:
        """Filters that a mask must pass; the thresholds must be given."""
        from aopsam.everything.candidates import Filters

        assert self.pred_iou_thresh is not None
        assert self.stability_score_thresh is not None
        return Filters(self.pred_iou_thresh, self.stability_score_thresh, self.stability_score_offset)

    @property
    def duplicates_thresh(self) -> float:
        """Threshold that goes with `duplicates`."""
        assert self.box_nms_thresh is not None
        assert self.duplicates is not None
        return {"mask-nms": self.mask_nms_thresh, "merge": self.merge_thresh}.get(self.duplicates, self.box_nms_thresh)

    @property
    def crops_thresh(self) -> float:
        """Threshold between masks of different crops."""
        assert self.duplicates is not None
        return self.crop_nms_thresh if self.duplicates.endswith("nms") else self.duplicates_thresh

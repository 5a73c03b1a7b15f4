"""Presets: methods as their papers have them, each a strategy, its options and those of everything mode under one name.

To add one: an entry of PRESETS. Where a paper is silent, what stands here is a reading, and its comment says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class Preset:
    """A paper's method. Options that a user gives win over its own.

    Attributes:
        paper: what the values are taken from.
        strategy: name of a strategy, as in `aopsam.prompting.make_strategy`.
        options: the strategy's.
        after: those of everything mode (`GeneratorOptions`), all of them such as are None where nothing is given.
        predictor: file of the predictor, if not the default one.
        detector: file of the detector, if not the default one.
    """

    paper: str
    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    predictor: Path | None = None
    detector: Path | None = None

    def strategy_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return options of the strategy: those given, and the preset's."""
        return dict(self.options) | dict(given)


PRESETS: dict[str, Preset] = {
    "aop-paper": Preset(
        paper="AoP-SAM (Chen et al. 2025): Eq. 1 to 3; sigma, threshold, spacing and k of Tables 3a to 3d (70.4 mIoU)",
        strategy="aop",
        options={
            "elimination": "scaled",
            "things": 0,
            "k": 1.3,  # the paper's, for any SAM; `aop(elimination=scaled)` takes the model's own
            "smoothing_sigma": 2.0,
            "spacing": 6,  # Table 3c; the text says 2
            "threshold": 0.2,
            "round_size": 16,  # a reading: the paper does not say how many prompts go between two filterings
        },
        # "Implementation Details": three masks a point; masks of low confidence or stability go, by the model's own
        # thresholds. Box NMS 0.7 and the order by predicted IoU are SAM's everything mode, which the paper builds on.
        after={"masks_per_prompt": 3, "rank_by": "predicted_iou", "duplicates": "box-nms", "box_nms_thresh": 0.7},
        predictor=WEIGHTS / "predictor-tiny-paper.safetensors",
    ),
    "efficient-sam2": Preset(
        paper="Efficient SAM2: Low Latency of Table 1, merging of section 3 (Post-Processing) and Table 3",
        strategy="attention-low-latency",
        # One mask a prompt is a reading: the text does not say, and with three the masks of whole photos take the
        # others in (benchmarks/LOG.md). The threshold, which it does not name either, is the default of merge_thresh:
        # 0.8, as code that seems to be its authors' configures it (SAM2EfficientAutomaticMaskGenerator, automask).
        after={"masks_per_prompt": 1, "rank_by": "predicted_iou", "duplicates": "merge"},
    ),
    "mobile-sam-v2": Preset(
        paper="MobileSAMv2 (Zhang et al. 2023): sections 4 and 5.1, Tables 2 and 3, 320 boxes (x 1)",
        strategy="oas-box",
        options={"max_boxes": 320},
        after={
            "masks_per_prompt": 1,
            "rank_by": "predicted_iou",
            "pred_iou_thresh": 0.0,  # section 4: no filter of masks, the detector's NMS of boxes does it
            "stability_score_thresh": 0.0,
            "duplicates": "none",
        },
        detector=WEIGHTS / "detector-tiny-masks.safetensors",  # trained with masks, then boxes alone (section 4)
    ),
    "efficient-sam-amr": Preset(
        paper="Adaptive Mask Refinement on EfficientSAM: section XI, the formula of XI-A",
        # The paper refines masks of two points in one true object (`gt-points-2(refine=formula)` of evaluate.py). A
        # reading for everything mode: EfficientSAM's own (segment_everything_example.ipynb of its repository), a grid
        # of 32 x 32 points, of three masks the one of the highest estimate, box NMS 0.7; then each is refined.
        strategy="grid-32",
        after={
            "masks_per_prompt": 1,
            "rank_by": "predicted_iou",
            "duplicates": "box-nms",
            "box_nms_thresh": 0.7,
            "refine": "formula",
        },
    ),
}
"""Name -> preset; a name stands wherever that of a strategy may."""

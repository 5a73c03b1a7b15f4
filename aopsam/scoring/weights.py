"""Write and read a scorer's weights; find the one that belongs to a SAM."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from segment_anything.modeling import Sam

from aopsam._half_weights import load_half, of_the_model, save_half
from aopsam.scoring.features import FEATURES
from aopsam.scoring.network import MaskScorer

BUNDLED = Path(__file__).parent.parent / "weights" / "scorer-tiny.safetensors"
"""Weights file of the scorer for the bundled `tiny` SAM."""


def save_scorer(scorer: MaskScorer, path: Path | str, notes: Mapping[str, str] | None = None) -> None:
    """Write a scorer's weights in half precision.

    Args:
        scorer: its `sam`, `sam_sha256` and thresholds go into the metadata.
        path: file to write, ending in `.safetensors`.
        notes: further metadata (recipe, seed, data).

    Raises:
        ValueError: weights that are not finite in half precision.
    """
    metadata = dict(notes or {}) | {
        "sam": scorer.sam,
        "sam_sha256": scorer.sam_sha256,
        "features": ",".join(FEATURES),
        "score_thresh": repr(scorer.score_thresh),
        "pred_iou_thresh": repr(scorer.pred_iou_thresh),
    }
    save_half(scorer, path, metadata)


def load_scorer(path: Path | str) -> MaskScorer:
    """Read a scorer written by `save_scorer`: eval mode, float32, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no safetensors file, or not one of a scorer that reads today's `FEATURES`.
    """
    needed = ("features", "score_thresh", "pred_iou_thresh")
    scorer, metadata = load_half(path, "scorer", _build, needed)
    scorer.score_thresh, scorer.pred_iou_thresh = float(metadata["score_thresh"]), float(metadata["pred_iou_thresh"])
    return scorer


def _build(metadata: Mapping[str, str], _: Mapping[str, torch.Tensor]) -> MaskScorer:
    if metadata["features"] != ",".join(FEATURES):
        raise ValueError("it reads other features; train one again with pipelines/train_scorer.py")
    return MaskScorer().float()


def find_scorer(model: Sam, path: str | None = None) -> MaskScorer | None:
    """Return the scorer that belongs to a model's very weights, on its device.

    Args:
        model: the SAM whose masks are to be scored.
        path: the scorer's file; by default the bundled one, if it belongs to the model, else there is none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file holds no scorer, or one of other weights.
    """
    scorer = _bundled() if path is None else load_scorer(path)
    return of_the_model(scorer, model, "scorer", path)


@cache
def _bundled() -> MaskScorer:
    return load_scorer(BUNDLED)

"""The configuration of a labelling run: everything that decides which masks come out, typed and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class LabelConfig:
    """What `label_corpus.py` was asked to do to each photo.

    A value of None for a threshold means the model's own; the strategy's options are those of its class.
    """

    sam: str = "tiny"
    checkpoint: str | None = None
    predictor: str | None = None
    encoder_precision: str = "float32"
    """Of the image encoder alone: float32, bfloat16, float16, or auto (aopsam/sam/encode.py)."""
    encoder_runtime: str = "torch"
    """What computes the image encoder: torch, or openvino on a CPU (an extra)."""
    prompts: str = "aop"
    strategy_options: dict[str, Any] = field(default_factory=dict)
    points_per_batch: int = 64
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    stability_score_offset: float = 1.0
    box_nms_thresh: float | None = None
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    min_mask_region_area: int = 0
    duplicates: str = "box-nms"
    """Of `aopsam.masks.duplicates`, as all below of `aopsam.AutoMaskGenerator`."""
    mask_nms_thresh: float = 0.7
    merge_thresh: float = 0.7
    refine: str | None = None
    refine_boundary: str = "negative"
    overlap: str = "nested"
    tile_size: int | None = None
    tile_overlap: float = 0.25
    tile_join_thresh: float = 0.7
    tile_whole: bool = True
    max_pixels: int = 200_000_000
    """Photos with more pixels are rejected from their header, before decoding."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> LabelConfig:
        """Build one from a parsed file.

        Raises:
            ValueError: an unknown key or a value of the wrong type; the message names source, key and what is right.
        """
        known = {entry.name: entry.type for entry in fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise ValueError(f"{source}: unknown key {key!r}; choose from {', '.join(known)}")
            if not _fits(value, str(known[key])):
                raise ValueError(f"{source}: {key} is {value!r}, expected {known[key]}")
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "None": (type(None),),
}


def _fits(value: Any, annotation: str) -> bool:
    if annotation.startswith("dict"):
        return isinstance(value, dict)
    if isinstance(value, bool):
        return annotation == "bool"
    return any(isinstance(value, _TYPES[part.strip()]) for part in annotation.split("|"))


def digest(configuration: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a configuration."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each value that differs: `prompts: 'aop' there, 'grid-32' now`."""
    keys = sorted(before.keys() | now.keys())
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in keys if before.get(key) != now.get(key)
    ]

"""Schema of the metrics table in long form: one row per image × strategy × metric."""

from __future__ import annotations

import pyarrow as pa

from schemas.column import column

VERSION = 2

RANKED = pa.struct(
    [
        pa.field("scores", pa.list_(pa.field("element", pa.float64())), nullable=False),
        pa.field("found", pa.list_(pa.field("element", pa.int16())), nullable=False),
        pa.field("ignored", pa.list_(pa.field("element", pa.int16())), nullable=False),
    ]
)
"""Predictions by falling score; bit n: whether one found a mask, or is ignored, at COCO's n-th IoU threshold."""

SCHEMA = pa.schema(
    [
        column("image_id", pa.string(), "name of the photo in its shard", nullable=False),
        column("data", pa.string(), "the --data it came from", nullable=False),
        column("sam", pa.string(), "name of the model", nullable=False),
        column("prompts", pa.string(), "strategy name", nullable=False),
        column("metric", pa.string(), "of aopsam.metrics.METRICS, or a count or time", nullable=False),
        column("value", pa.float64(), "null where the metric is undefined for the image"),
        column("ranked", RANKED, "of an average precision: what that of a set of images is computed from"),
    ],
    metadata={"table": "metrics", "version": str(VERSION)},
)

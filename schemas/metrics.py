"""Metrics in long form: one row an image × strategy × metric."""

from __future__ import annotations

import pyarrow as pa

from schemas.column import column

VERSION = 1

SCHEMA = pa.schema(
    [
        column("image_id", pa.string(), nullable=False),
        column("data", pa.string(), "the --data it came from", nullable=False),
        column("sam", pa.string(), nullable=False),
        column("prompts", pa.string(), "strategy name", nullable=False),
        column("metric", pa.string(), nullable=False),
        column("value", pa.float64(), "null where the metric is undefined for the image"),
    ],
    metadata={"table": "metrics", "version": str(VERSION)},
)

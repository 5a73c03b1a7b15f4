"""Schema of the changes table: what people made of the masks of labels; one row per mask before or after."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from schemas.column import column

VERSION = 1


class Change(StrEnum):
    """Fate of a mask in the hands of people."""

    KEPT = "kept"
    """Every pixel as it was."""
    RESHAPED = "reshaped"
    DELETED = "deleted"
    ADDED = "added"


SCHEMA = pa.schema(
    [
        column("image_id", pa.string(), "of the labels", nullable=False),
        column("file_name", pa.string(), "of the labels", nullable=False),
        column("change", pa.string(), "of schemas.changes.Change", nullable=False),
        column("mask", pa.int32(), "place in the labels' list of masks; null where added"),
        column("iou", pa.float32(), "of the mask before and after; null where deleted or added"),
        column("area_before", pa.int64(), "null where added", unit="px²"),
        column("area_after", pa.int64(), "null where deleted", unit="px²"),
    ],
    metadata={"table": "changes", "version": str(VERSION)},
)

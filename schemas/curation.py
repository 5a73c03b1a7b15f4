"""Schema of the curation table: photos of a corpus chosen for training, and why; one row per usable photo."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from schemas.column import column

VERSION = 1


class Reason(StrEnum):
    """Reason why a photo was chosen or not."""

    CHOSEN = "chosen"
    DUPLICATE = "duplicate"
    """Near-duplicate of a photo that has more pixels, or as many and more masks; `duplicate_of` names that photo."""
    NOT_NEEDED = "not_needed"
    """Near enough to a chosen photo; `distance` is the distance to the nearest one."""


SCHEMA = pa.schema(
    [
        column("image_id", pa.string(), "the member's path without suffix; unique", nullable=False),
        column("shard", pa.string(), "tar or instance file that it came from", nullable=False),
        column("chosen", pa.bool_(), "to be trained on", nullable=False),
        column("reason", pa.string(), "of schemas.curation.Reason", nullable=False),
        column("duplicate_of", pa.string(), "image_id of the photo that stayed in; null where none did"),
        column("stratum", pa.string(), "bins of masks, object scale and layout, from 1; null for duplicates"),
        column("order", pa.int64(), "in which it was chosen, from 0; null where not chosen"),
        column(
            "distance",
            pa.float32(),
            "√(2 - 2 cos) of pooled embeddings: of a chosen photo to the nearest chosen before it, null for the first;"
            " of one not needed to the nearest chosen; null for duplicates",
        ),
        column("masks", pa.int32(), "usable annotated masks", nullable=False),
        column("object_scale", pa.float32(), "median of √(mask's area / photo's area), 0 to 1", nullable=False),
        column(
            "layout",
            pa.float32(),
            "mean distance of the masks' middles from the photo's middle, 0 there, 1 in a corner",
            nullable=False,
        ),
    ],
    metadata={"table": "curation", "version": str(VERSION)},
)

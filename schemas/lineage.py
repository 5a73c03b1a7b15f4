"""Schema of a version's photos: what a predictor of a registry was made of; one row per photo and source."""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from schemas.column import column

VERSION = 1


class Use(StrEnum):
    """Fate of a photo in a retraining."""

    LEARNT = "learnt"
    DUPLICATE = "duplicate"
    """Near-duplicate of a photo that was learnt from."""
    UNUSABLE = "unusable"
    """Photo that cannot be opened, or ends its worker."""


SCHEMA = pa.schema(
    [
        column("content_sha256", pa.string(), "SHA-256 of the encoded photo", nullable=False),
        column("source", pa.string(), "the corpus, or the annotated source, without credentials", nullable=False),
        column("image_id", pa.string(), "name in its source", nullable=False),
        column("annotations_sha256", pa.string(), "SHA-256 of its annotations; null where the teacher labelled it"),
        column("use", pa.string(), "of schemas.lineage.Use", nullable=False),
    ],
    metadata={"table": "lineage", "version": str(VERSION)},
)

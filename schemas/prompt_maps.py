"""Schema of the prompt-maps table, training data of predictor and detector: one row per photo."""

from __future__ import annotations

import pyarrow as pa

from schemas.column import column
from schemas.labels import RLE

VERSION = 2
"""Version of the schema; 2 adds `boxes` and `masks`, which the detector is trained on."""

SCHEMA = pa.schema(
    [
        column("image_id", pa.string(), "name of the photo in its shard", nullable=False),
        column("sam", pa.string(), "name of the model whose embedding this is", nullable=False),
        column("sam_sha256", pa.string(), "of the model's weights", nullable=False),
        column(
            "image",
            pa.binary(),
            "uint8 (size, size, 3) RGB; long side = size, zeros right and below, or stretched as the model reads it",
            nullable=False,
        ),
        column(
            "content_hw",
            pa.list_(pa.int32()),
            "rows and columns of image and map that show the photo",
            unit="px",
            nullable=False,
        ),
        column("embedding", pa.binary(), "float16 (C, h, w)", nullable=False),
        column("embedding_shape", pa.list_(pa.int32()), "C, h, w", nullable=False),
        column("map", pa.binary(), "float16 (size, size), target in [0, 1]", nullable=False),
        column(
            "valid",
            pa.binary(),
            "uint8 (size, size), 1 where the annotation is complete enough to punish",
            nullable=False,
        ),
        column("source", pa.string(), "recorded, if the prompt of any mask was; else interior", nullable=False),
        column("weight", pa.float32(), "of the photo in the loss", nullable=False),
        column(
            "boxes",
            pa.list_(pa.list_(pa.float32(), 4)),
            "XYXY in the frame, the far edges past the last pixel; one for each distinct annotated mask",
            unit="px",
        ),
        column("masks", pa.list_(RLE), "the same masks in the frame, COCO compressed RLE, size [h, w]"),
    ],
    metadata={"table": "prompt_maps", "version": str(VERSION)},
)

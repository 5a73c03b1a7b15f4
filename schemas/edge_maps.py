"""Schema of the edge-maps table: what the edge detector HED finds in photos, to teach `tiny`; one row per photo."""

from __future__ import annotations

import pyarrow as pa

from schemas.column import column

VERSION = 1

SCHEMA = pa.schema(
    [
        column("content_sha256", pa.string(), "of the photo's encoded bytes; rows are found by it", nullable=False),
        column("name", pa.string(), "the photo's name in its shard or listing", nullable=False),
        column(
            "edges",
            pa.binary(),
            "PNG, 8 bits of grey: probability of an edge times 255, of the whole upright photo at a lower resolution",
            nullable=False,
        ),
        column("hed_sha256", pa.string(), "of HED's weights", nullable=False),
    ],
    metadata={"table": "edge_maps", "version": str(VERSION)},
)

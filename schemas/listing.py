"""Schema of the listing: one row for every file, tar member or Parquet row that a labelling run must account for."""

from __future__ import annotations

import pyarrow as pa

from schemas.column import column

VERSION = 1

SCHEMA = pa.schema(
    [
        column(
            "image_id", pa.string(), "hash of the path below the root, plus the member; 32 hex digits", nullable=False
        ),
        column(
            "uri",
            pa.string(),
            "where the bytes lie, without credentials; bytes that are not UTF-8 are percent-escaped",
            nullable=False,
        ),
        column("file_name", pa.string(), "path below the images' root, plus #member", nullable=False),
        column("path", pa.binary(), "path as the file system knows it, raw bytes", nullable=False),
        column("kind", pa.string(), "file | tar | parquet | hidden | special", nullable=False),
        column("offset", pa.int64(), "first byte of the tar member; row number in a Parquet file", unit="B"),
        column("length", pa.int64(), "bytes of the tar member", unit="B"),
        column("bytes", pa.int64(), "encoded size, where listing tells it", unit="B"),
    ],
    metadata={"table": "listing", "version": str(VERSION)},
)

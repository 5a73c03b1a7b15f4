"""Find the column of encoded images in a Parquet file, count its rows, and read them a row group at a time."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "content", "data")
"""Names under which a column of encoded images is found, first match first. It is binary, or a struct with a binary
field `bytes`, as Hugging Face's datasets have it."""


def image_column(schema: pa.Schema) -> str | None:
    """Return the path of the column of encoded images, `NAME` or `NAME.bytes`; None if the schema has none."""
    for name in IMAGE_COLUMNS:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if _is_binary(kind):
            return name
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type):
            return f"{name}.bytes"
    return None


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def count_images(file: BinaryIO) -> int | None:
    """Count the rows of a Parquet file; None if none of its columns holds images.

    Raises:
        pa.ArrowException: the file is damaged.
    """
    parquet = pq.ParquetFile(file)
    return parquet.metadata.num_rows if image_column(parquet.schema_arrow) is not None else None


def row_group_starts(file: BinaryIO) -> list[int]:
    """Return the number of the first row of each row group, and at the end the number of all rows.

    Raises:
        pa.ArrowException: the file is damaged.
    """
    metadata = pq.ParquetFile(file).metadata
    starts = [0]
    for group in range(metadata.num_row_groups):
        starts.append(starts[-1] + metadata.row_group(group).num_rows)
    return starts


def read_row_group(file: BinaryIO, group: int) -> pa.ChunkedArray:
    """Read the encoded images of one row group, binary.

    Raises:
        pa.ArrowException: the file is damaged.
        ValueError: none of its columns holds images.
    """
    parquet = pq.ParquetFile(file)
    column = image_column(parquet.schema_arrow)
    if column is None:
        raise ValueError("no column of images")
    images = parquet.read_row_group(group, columns=[column]).column(0)
    if column.endswith(".bytes"):
        images = pa.chunked_array([chunk.field("bytes") for chunk in images.chunks], type=None)
    return images

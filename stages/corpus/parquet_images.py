"""Find the column of encoded images in a Parquet file, count its rows, and read them a row group at a time."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes", "content", "data")
"""Names under which a column of encoded images is found, first match first. It is binary (a view or a dictionary, too),
or a struct with a binary field `bytes`, as Hugging Face's datasets have it."""


class ListsOfImages(Exception):
    """The column of images holds several a row; the message is one line that names it."""


def image_column(schema: pa.Schema) -> str | None:
    """Return the path of the column of encoded images, `NAME` or `NAME.bytes`; None if the schema has none.

    Raises:
        ListsOfImages: there is none, but one of lists of images.
    """
    lists = None
    for name in IMAGE_COLUMNS:
        if len(schema.get_all_field_indices(name)) != 1:
            continue
        kind = schema.field(name).type
        if _is_binary(kind):
            return name
        if _has_bytes(kind):
            return f"{name}.bytes"
        if _is_list(kind) and (_is_binary(kind.value_type) or _has_bytes(kind.value_type)):
            lists = lists or f"column {name!r} holds lists of images; only one image a row is read, so write it flat"
    if lists is not None:
        raise ListsOfImages(lists)
    return None


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in binary)


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    return any(is_kind(kind) for is_kind in lists) or pa.types.is_large_list_view(kind)


def count_images(file: BinaryIO) -> int | None:
    """Count the rows of a Parquet file; None if none of its columns holds images.

    Raises:
        pa.ArrowException: the file is damaged.
        ListsOfImages: it holds several images a row.
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

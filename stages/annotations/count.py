"""Count the photos of annotated shards without reading them, or estimate how many there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow.parquet as pq

from stages.annotations.read import count_pairs
from stages.annotations.samples import Source
from stages.storage.location import open_filesystem

TAR_BYTES = 2 * (512 + 256)
"""Bytes of a photo and its JSON in a tar besides their content: headers, and half a block of padding each."""

_NAME = b'"file_name"'
_BLOCK = 1 << 20


class Counted(NamedTuple):
    """Number of photos.

    Attributes:
        photos: of all shards.
        tar_bytes: of the tars whose photos are estimated by their size.
    """

    photos: int
    tar_bytes: int


def count_photos(sources: Sequence[Source], bytes_photo: float, chosen: Collection[str] | None = None) -> Counted:
    """Count the photos of sources; those of tars are estimated.

    Args:
        sources: their limits count.
        bytes_photo: mean bytes of a photo and its annotations.
        chosen: ids of the photos that are read, if not all are.
    """
    with ThreadPoolExecutor(16) as threads:  # a store answers many at once
        counts = dict(
            zip(
                shards := list(dict.fromkeys(shard for source in sources for shard in source.shards)),
                threads.map(_count, shards),
                strict=True,
            )
        )
    photos = tar_bytes = 0
    for source in sources:
        size = sum(counts[shard].tar_bytes for shard in source.shards)
        found = sum(counts[shard].photos for shard in source.shards) + round(size / (bytes_photo + TAR_BYTES))
        photos, tar_bytes = photos + (found if source.limit is None else min(found, source.limit)), tar_bytes + size
    return Counted(photos if chosen is None else min(photos, len(chosen)), tar_bytes)


def _count(uri: str) -> Counted:
    filesystem, path = open_filesystem(uri)
    if uri.endswith("/"):
        return Counted(count_pairs(uri), 0)
    with filesystem.open(path, "rb") as opened:
        if uri.endswith(".parquet"):
            return Counted(pq.ParquetFile(opened).metadata.num_rows, 0)
        if not uri.endswith(".json"):
            return Counted(0, filesystem.size(path))
        # Each image of an instance file has a name; to parse half a gigabyte of annotations would take seconds and GB.
        names, tail = 0, b""
        while block := opened.read(_BLOCK):
            names += (tail + block).count(_NAME)
            tail = block[-len(_NAME) + 1 :]
        return Counted(names, 0)

"""Files of edge maps: write one, read all of a folder."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from schemas.conform import conform
from schemas.edge_maps import SCHEMA
from stages.storage.atomic import write_path
from stages.storage.location import open_filesystem, redact

NAME = re.compile(r"edges-[0-9a-f]{16}\.parquet")
"""Names of the files in a folder of edge maps; others are not looked at."""


def write_edge_maps(folder: str, table: pa.Table) -> None:
    """Write rows of schemas/edge_maps.py into a folder as one file, named by its photos."""
    photos = "".join(table.column("content_sha256").to_pylist())
    name = hashlib.sha256(photos.encode()).hexdigest()[:16]
    with write_path(f"{folder.rstrip('/')}/edges-{name}.parquet") as path:
        pq.write_table(table, path)


def encode_edges(edges: np.ndarray) -> bytes:
    """Return edges (h, w) uint8 as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(edges).save(buffer, "PNG")
    return buffer.getvalue()


class EdgeMaps(Mapping[str, np.ndarray]):
    """Edges (h, w) uint8 by the SHA-256 of their photo's encoded bytes, kept encoded in memory (20 KB each)."""

    def __init__(self, encoded: Mapping[str, bytes]) -> None:
        self._encoded = encoded

    def __getitem__(self, digest: str) -> np.ndarray:
        """Decode the edges of a photo."""
        return np.asarray(Image.open(io.BytesIO(self._encoded[digest]), formats=("PNG",)).convert("L"))

    def __contains__(self, digest: object) -> bool:
        return digest in self._encoded

    def __iter__(self) -> Iterator[str]:
        return iter(self._encoded)

    def __len__(self) -> int:
        return len(self._encoded)


def read_edge_maps(folder: str) -> EdgeMaps:
    """Read the edge maps of a folder.

    Raises:
        ValueError: no such folder, no edge map in it, or a file that holds none.
    """
    maps: dict[str, bytes] = {}
    for table in _tables(folder, ["content_sha256", "edges"]):
        maps.update(zip(*(table.column(name).to_pylist() for name in ("content_sha256", "edges")), strict=True))
    if not maps:
        raise ValueError(
            f"{redact(folder)}: no edge maps (edges-*.parquet); make them with pipelines/build_edge_maps.py"
        )
    return EdgeMaps(maps)


def done_photos(folder: str, hed_sha256: str) -> frozenset[str]:
    """Return the digests of the photos whose edge maps a folder holds already.

    Raises:
        ValueError: a file holds no edge maps, or those of other weights of HED.
    """
    digests: set[str] = set()
    for table in _tables(folder, ["content_sha256", "hed_sha256"]):
        if set(table.column("hed_sha256").to_pylist()) - {hed_sha256}:
            raise ValueError(f"{redact(folder)} holds edge maps of other weights of HED; give another folder")
        digests.update(table.column("content_sha256").to_pylist())
    return frozenset(digests)


def _tables(folder: str, columns: list[str]) -> list[pa.Table]:
    """Read columns of all files of a folder, by name; none where the folder is not there."""
    filesystem, path = open_filesystem(folder)
    if not filesystem.isdir(path):
        return []
    found = sorted(file.rpartition("/")[2] for file in filesystem.ls(path, detail=False))

    def read(name: str) -> pa.Table:
        try:
            with filesystem.open(f"{path.rstrip('/')}/{name}", "rb") as opened:
                file = pq.ParquetFile(opened)
                conform(file.schema_arrow.empty_table(), SCHEMA)
                return file.read(columns=columns)
        except (pa.ArrowException, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{redact(folder).rstrip('/')}/{name}: not edge maps: {reason}") from error

    with ThreadPoolExecutor(16) as threads:  # a store answers many at once
        return list(threads.map(read, (name for name in found if NAME.fullmatch(name))))

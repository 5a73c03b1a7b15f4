"""Files of edge maps: write one, read all of a folder."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

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


OPEN_FILES = 8
"""Files whose edge maps are kept in memory, encoded."""


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
    """Edges (h, w) uint8 by the SHA-256 of their photo's encoded bytes.

    In memory are 12 bytes a photo, and the last `OPEN_FILES` files that were asked for, of some megabytes each.
    """

    def __init__(self, folder: str, files: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Index edge maps.

        Args:
            folder: path or URI of the folder.
            files: names of its files, each with the digests of its photos.
        """
        self._folder, self._files = folder, [name for name, _ in files]
        keys = np.array([_key(digest) for _, digests in files for digest in digests], np.uint64)
        owners = np.repeat(np.arange(len(files), dtype=np.int32), [len(digests) for _, digests in files])
        order = np.argsort(keys, kind="stable")
        self._keys, self._owners = keys[order], owners[order]

    def _file(self, digest: str) -> int | None:
        """Return the number of the file that holds a photo's edges."""
        place = int(np.searchsorted(self._keys, _key(digest)))
        return int(self._owners[place]) if place < len(self) and self._keys[place] == _key(digest) else None

    def __getitem__(self, digest: str) -> np.ndarray:
        """Read and decode the edges of a photo."""
        file = self._file(digest)
        if file is None:
            raise KeyError(digest)
        encoded = _encoded(self._folder, self._files[file])[digest]
        return np.asarray(Image.open(io.BytesIO(encoded), formats=("PNG",)).convert("L"))

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and self._file(digest) is not None

    def __iter__(self) -> Iterator[str]:
        for name in self._files:
            yield from _read(self._folder, name, ["content_sha256"]).column("content_sha256").to_pylist()

    def __len__(self) -> int:
        return len(self._keys)


def _key(digest: str) -> np.uint64:
    """Return the first 64 bits of a digest, which tell the photos of any corpus apart."""
    return np.uint64(int(digest[:16], 16))


@lru_cache(maxsize=OPEN_FILES)
def _encoded(folder: str, name: str) -> dict[str, bytes]:
    """Read a file of edge maps: PNGs by digest."""
    table = _read(folder, name, ["content_sha256", "edges"])
    return dict(zip(*(table.column(each).to_pylist() for each in ("content_sha256", "edges")), strict=True))


def read_edge_maps(folder: str) -> EdgeMaps:
    """List the edge maps of a folder.

    Raises:
        ValueError: no such folder, no edge map in it, or a file that holds none.
    """
    maps = EdgeMaps(
        folder,
        [(name, table.column("content_sha256").to_pylist()) for name, table in _tables(folder, ["content_sha256"])],
    )
    if not len(maps):
        raise ValueError(
            f"{redact(folder)}: no edge maps (edges-*.parquet); make them with pipelines/build_edge_maps.py"
        )
    return maps


def done_photos(folder: str, hed_sha256: str) -> frozenset[str]:
    """Return the digests of the photos whose edge maps a folder holds already.

    Raises:
        ValueError: a file holds no edge maps, or those of other weights of HED.
    """
    digests: set[str] = set()
    for _, table in _tables(folder, ["content_sha256", "hed_sha256"]):
        if set(table.column("hed_sha256").to_pylist()) - {hed_sha256}:
            raise ValueError(f"{redact(folder)} holds edge maps of other weights of HED; give another folder")
        digests.update(table.column("content_sha256").to_pylist())
    return frozenset(digests)


def _tables(folder: str, columns: list[str]) -> list[tuple[str, pa.Table]]:
    """Read columns of all files of a folder, by name; none where the folder is not there."""
    filesystem, path = open_filesystem(folder)
    if not filesystem.isdir(path):
        return []
    found = sorted(file.rpartition("/")[2] for file in filesystem.ls(path, detail=False))
    names = [name for name in found if NAME.fullmatch(name)]
    with ThreadPoolExecutor(16) as threads:  # a store answers many at once
        return list(zip(names, threads.map(lambda name: _read(folder, name, columns), names), strict=True))


def _read(folder: str, name: str, columns: list[str]) -> pa.Table:
    """Read columns of a file of edge maps."""
    filesystem, path = open_filesystem(folder)
    try:
        with filesystem.open(f"{path.rstrip('/')}/{name}", "rb") as opened:
            file = pq.ParquetFile(opened)
            conform(file.schema_arrow.empty_table(), SCHEMA)
            return file.read(columns=columns, use_threads=False)  # threads of Arrow's do not survive a fork
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{redact(folder).rstrip('/')}/{name}: not edge maps: {reason}") from error

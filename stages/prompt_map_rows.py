"""Folders of prompt maps as one map-style dataset, and a picture of some of them."""

from __future__ import annotations

import copy
import io
import zlib
from collections.abc import Sequence

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from aopsam.predictor.frame import FRAME_SIZE
from schemas.conform import conform
from schemas.prompt_maps import SCHEMA

MIRRORED = "#mirrored"
"""How the id of a mirrored photo ends."""


class PromptMapRows:
    """Rows of schemas/prompt_maps.py, held in memory (0.9 MB each with an embedding of 32×32 cells).

    Attributes:
        image_ids: of every row; a mirrored photo's ends in `MIRRORED`.
        sam: name of the model that made the embeddings.
        sam_sha256: of that model's weights.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        """Read every `*.parquet` of the folders (paths or fsspec URIs), sorted by image id.

        Raises:
            ValueError: a folder without prompt maps, or embeddings of more than one model.
        """
        places = [
            (image_id, table, row)
            for folder in folders
            for table in _read(folder)
            for row, image_id in enumerate(table.column("image_id").to_pylist())
        ]
        self._take(sorted(places, key=lambda place: place[0]))
        made_by = {tuple(table.column(name)[row].as_py() for name in ("sam", "sam_sha256")) for _, table, row in places}
        if len(made_by) > 1:
            names = ", ".join(f"{name} ({digest[:12]})" for name, digest in sorted(made_by))
            raise ValueError(f"prompt maps of more than one SAM: {names}; build them with one")
        self.sam, self.sam_sha256 = made_by.pop()

    def _take(self, places: list[tuple[str, pa.Table, int]]) -> None:
        # Rows stay in the tables they came in: one binary column of them all could pass Arrow's limit of 2 GiB.
        self._places = places
        self.image_ids: list[str] = [image_id for image_id, _, _ in places]

    def split(self, one_in: int) -> tuple[PromptMapRows, PromptMapRows]:
        """All but about one photo in `one_in`, and those; a photo and its mirror image stay together.

        Which photos are held out depends on their ids alone.
        """
        parts = copy.copy(self), copy.copy(self)
        held_out = [zlib.crc32(name.removesuffix(MIRRORED).encode()) % one_in == 0 for name in self.image_ids]
        for part, wanted in zip(parts, (False, True), strict=True):
            part._take([place for place, held in zip(self._places, held_out, strict=True) if held is wanted])
        return parts

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """As `aopsam.training.predictor.PromptMaps` wants it."""
        _, table, place = self._places[index]
        row = {name: table.column(name)[place] for name in table.column_names}
        frame = (FRAME_SIZE, FRAME_SIZE)
        return {
            "image": _array(row["image"], np.uint8, (*frame, 3)),
            "content_hw": np.array(row["content_hw"].as_py()),
            "embedding": _array(row["embedding"], np.float16, tuple(row["embedding_shape"].as_py())),
            "map": _array(row["map"], np.float16, frame),
            "valid": _array(row["valid"], np.uint8, frame),
            "weight": np.array(row["weight"].as_py(), np.float32),
        }


def _read(folder: str) -> list[pa.Table]:
    filesystem, path = fsspec.url_to_fs(folder)
    files = sorted(filesystem.glob(f"{path.rstrip('/')}/*.parquet"))
    if not files:
        raise ValueError(f"{folder}: no prompt maps (*.parquet); make them with pipelines/build_prompt_maps.py")
    tables = []
    for file in files:
        with filesystem.open(file, "rb") as opened:
            tables.append(conform(pq.read_table(opened), SCHEMA))
    return tables


def _array(scalar: pa.Scalar, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    # A copy: the table's memory is read-only, which torch warns about.
    return np.frombuffer(scalar.as_buffer(), dtype).reshape(shape).copy()


def contact_sheet(rows: PromptMapRows, count: int = 12, columns: int = 4) -> bytes:
    """A PNG of some rows, evenly spaced: each photo in grey, its map in red, dark where the map is not valid."""
    tiles = []
    for index in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int):
        row = rows[int(index)]
        grey = row["image"].mean(axis=2, keepdims=True).repeat(3, axis=2) * (0.35 + 0.65 * row["valid"][..., None])
        heat = row["map"].astype(np.float32)[..., None]
        tiles.append((grey * (1 - heat) + np.array([255, 40, 0]) * heat).astype(np.uint8))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    lines = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(lines)).save(buffer, "PNG")
    return buffer.getvalue()

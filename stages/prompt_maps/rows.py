"""Read folders of prompt maps as one map-style dataset, a row at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aopsam.predictor.frame import FRAME_SIZE
from stages.annotations.held_out import held_out_ids, is_held_out
from stages.prompt_maps.files import list_rows, open_file
from stages.prompt_maps.objects import FrameObjects
from stages.storage.location import redact

MIRRORED = "#mirrored"
"""Suffix of a mirrored photo's id."""


HELD_OUT_ROWS = 512
"""Most held-out rows that a training is judged by; their maps are in memory together."""


class PromptMapRows:
    """Rows of schemas/prompt_maps.py; in memory are their ids and places alone.

    Files are opened by the process and thread that reads them, so that a dataset may be forked or pickled.

    Attributes:
        sam: name of the model that made the embeddings.
        sam_sha256: SHA-256 of that model's weights.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        """List the rows of every `*.parquet` of the folders (paths or fsspec URIs), sorted by image id.

        Raises:
            ValueError: a folder without prompt maps, a file that holds none, or embeddings of more than one model.
        """
        rows = list_rows(folders)
        if len(rows.makers) > 1:
            names = ", ".join(f"{name} ({digest[:12]})" for name, digest in sorted(rows.makers))
            raise ValueError(f"prompt maps of more than one SAM: {names}; build them with one")
        ((self.sam, self.sam_sha256),) = rows.makers
        self._uris, self._sizes = rows.uris, rows.sizes
        self._ids = rows.places.column("image_id").combine_chunks()
        self._places = np.stack([np.asarray(rows.places.column(name)) for name in ("file", "group", "row")], axis=1)

    @property
    def image_ids(self) -> list[str]:
        """Return the id of every row; a mirrored photo's ends in `MIRRORED`."""
        ids: list[str] = self._ids.to_pylist()
        return ids

    def _photos(self) -> Iterator[str]:
        """Yield the id of every row's photo; a list of all would take some 60 bytes each."""
        for start in range(0, len(self), 1 << 16):
            for name in self._ids.slice(start, 1 << 16).to_pylist():
                yield name.removesuffix(MIRRORED)

    def _take(self, indices: np.ndarray) -> PromptMapRows:
        part = copy.copy(self)
        part._ids, part._places = self._ids.take(pa.array(indices)), self._places[indices]
        return part

    def split(self) -> tuple[PromptMapRows, PromptMapRows]:
        """Return the rows to train on, and those held out (`held_out_ids`); a photo and its mirror image stay together.

        Of more than `HELD_OUT_ROWS` held-out rows so many are returned, evenly taken.

        Raises:
            ValueError: there are no rows to train on, or none held out.
        """
        held_out = np.fromiter(map(is_held_out, self._photos()), bool, len(self))
        if not held_out.any():
            names = held_out_ids(self._photos())
            held_out = np.array([photo in names for photo in self._photos()], bool)
        apart = np.flatnonzero(held_out)
        if len(apart) in (0, len(self)):
            raise ValueError(f"{len(self)} rows are too few to train on and to hold some out")
        apart = apart[np.linspace(0, len(apart) - 1, min(len(apart), HELD_OUT_ROWS)).astype(int)]
        return self._take(np.flatnonzero(~held_out)), self._take(apart)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Read a row in the form of `aopsam.training.predictor.PromptMaps`."""
        names = ("image", "content_hw", "embedding", "embedding_shape", "map", "valid", "weight")
        row = self._read(index, names)
        frame = (FRAME_SIZE, FRAME_SIZE)
        return {
            "image": _array(row["image"], np.uint8, (*frame, 3)),
            "content_hw": np.array(row["content_hw"].as_py()),
            "embedding": _array(row["embedding"], np.float16, tuple(row["embedding_shape"].as_py())),
            "map": _array(row["map"], np.float16, frame),
            "valid": _array(row["valid"], np.uint8, frame),
            "weight": np.array(row["weight"].as_py(), np.float32),
        }

    def objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the distinct annotated objects of a row, in pixels of the frame.

        Returns:
            Boxes (N, 4) float32 XYXY, far edges past the last pixel, and masks (N, S, S) bool.

        Raises:
            ValueError: the row was built before prompt maps held objects.
        """
        uri = self._uris[self._places[index, 0]]
        columns = self._open(index).schema_arrow.names
        row = self._read(index, ("boxes", "masks")) if {"boxes", "masks"} <= set(columns) else {}
        if not row or not row["boxes"].is_valid or not row["masks"].is_valid:
            raise ValueError(
                f"{redact(uri)}: prompt maps of version 1, without objects;"
                " build them again with pipelines/build_prompt_maps.py"
            )
        objects = FrameObjects.from_columns(row["boxes"].as_py(), row["masks"].as_py())
        return objects.boxes_xyxy_px, objects.masks

    def _open(self, index: int) -> pq.ParquetFile:
        file = self._places[index, 0]
        return open_file(self._uris[file], self._sizes[file])

    def _read(self, index: int, columns: Sequence[str]) -> dict[str, pa.Scalar]:
        _, group, row = self._places[index].tolist()
        table = self._open(index).read_row_group(group, columns=list(columns), use_threads=False)
        return {name: table.column(name)[row] for name in columns}


def _array(scalar: pa.Scalar, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    # A copy: the table's memory is read-only, which torch warns about.
    return np.frombuffer(scalar.as_buffer(), dtype).reshape(shape).copy()

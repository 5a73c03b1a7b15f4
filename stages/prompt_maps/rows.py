"""Read folders of prompt maps as one map-style dataset, a row at a time."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from aopsam.predictor.frame import FRAME_SIZE
from stages.annotations.held_out import held_out_ids
from stages.prompt_maps.files import Place, list_rows, open_file
from stages.prompt_maps.objects import FrameObjects
from stages.storage.location import redact

MIRRORED = "#mirrored"
"""Suffix of a mirrored photo's id."""


class PromptMapRows:
    """Rows of schemas/prompt_maps.py; in memory are their ids and places alone.

    Files are opened by the process and thread that reads them, so that a dataset may be forked or pickled.

    Attributes:
        image_ids: id of every row; a mirrored photo's ends in `MIRRORED`.
        sam: name of the model that made the embeddings.
        sam_sha256: SHA-256 of that model's weights.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        """List the rows of every `*.parquet` of the folders (paths or fsspec URIs), sorted by image id.

        Raises:
            ValueError: a folder without prompt maps, a file that holds none, or embeddings of more than one model.
        """
        places, made_by = list_rows(folders)
        self._take(sorted(places))
        if len(made_by) > 1:
            names = ", ".join(f"{name} ({digest[:12]})" for name, digest in sorted(made_by))
            raise ValueError(f"prompt maps of more than one SAM: {names}; build them with one")
        self.sam, self.sam_sha256 = made_by.pop()

    def _take(self, places: list[Place]) -> None:
        self._places = places
        self.image_ids: list[str] = [place.image_id for place in places]

    def split(self) -> tuple[PromptMapRows, PromptMapRows]:
        """Return the rows to train on, and those held out (`held_out_ids`); a photo and its mirror image stay together.

        Raises:
            ValueError: there are no rows to train on, or none held out.
        """
        parts = copy.copy(self), copy.copy(self)
        photos = [name.removesuffix(MIRRORED) for name in self.image_ids]
        names = held_out_ids(photos)
        held_out = [photo in names for photo in photos]
        for part, wanted in zip(parts, (False, True), strict=True):
            part._take([place for place, held in zip(self._places, held_out, strict=True) if held is wanted])
            if not len(part):
                raise ValueError(f"{len(self)} rows are too few to train on and to hold some out")
        return parts

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
        columns = open_file(self._places[index].uri).schema_arrow.names
        row = self._read(index, ("boxes", "masks")) if {"boxes", "masks"} <= set(columns) else {}
        if not row or not row["boxes"].is_valid or not row["masks"].is_valid:
            raise ValueError(
                f"{redact(self._places[index].uri)}: prompt maps of version 1, without objects;"
                " build them again with pipelines/build_prompt_maps.py"
            )
        objects = FrameObjects.from_columns(row["boxes"].as_py(), row["masks"].as_py())
        return objects.boxes_xyxy_px, objects.masks

    def _read(self, index: int, columns: Sequence[str]) -> dict[str, pa.Scalar]:
        _, uri, group, row = self._places[index]
        table = open_file(uri).read_row_group(group, columns=list(columns), use_threads=False)
        return {name: table.column(name)[row] for name in columns}


def _array(scalar: pa.Scalar, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    # A copy: the table's memory is read-only, which torch warns about.
    return np.frombuffer(scalar.as_buffer(), dtype).reshape(shape).copy()

"""Annotated shards in, prompt maps out (schemas/prompt_maps.py): what the predictor trains on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from aopsam.photos.decode import PhotoError, open_photo
from aopsam.predictor.frame import content_hw, to_frame
from aopsam.predictor.targets import Combine
from aopsam.sam.encode import encode
from aopsam.sam.registry import load_sam
from schemas.conform import conform
from schemas.prompt_maps import SCHEMA
from stages.annotated import read_annotated
from stages.atomic import write_bytes
from stages.prompt_map_rows import MIRRORED
from stages.prompt_map_target import MAX_PIXELS, Source, target_and_valid

ROWS_PER_FILE = 16


@dataclass(frozen=True)
class MapRecipe:
    """How prompt maps are made.

    Attributes:
        sam: name of the model whose embeddings the predictor will read.
        checkpoint: its weights; None for the registry's own.
        source: `interior`, the point deepest inside each mask, or `recorded`, the annotation's `point_coords`.
        combine: what overlapping prompts do, `max` or `sum`.
        preset: kernel, a name of `aopsam.predictor.targets.PRESETS`.
        sparse: much of each photo is unannotated (COCO), so that only annotated masks and their near surroundings
            may teach where no prompt belongs; else the whole photo does.
        mirror: a second row for the mirrored photo, encoded on its own: the embedding of a mirrored photo is not the
            mirrored embedding.
        threads: CPU threads of the encoder.
    """

    sam: str = "tiny"
    checkpoint: str | None = None
    source: Source = "interior"
    combine: Combine = "max"
    preset: str = "medium"
    sparse: bool = False
    mirror: bool = False
    threads: int = 2


SAMPLES = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("jpeg", pa.binary()),
        pa.field("annotations", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
"""What `read_samples` yields: a photo and its annotations as JSON text, or a problem and nothing else."""


def read_samples(shards: pa.Table) -> Iterator[pa.Table]:
    """Photos and annotations of annotated shards, sixteen a table of `SAMPLES`.

    Args:
        shards: column `shard`, paths or URIs as `stages.shards.list_shards` gives them.
    """
    for uri in shards.column("shard").to_pylist():
        problems: list[str] = []
        rows: list[dict[str, Any]] = []
        for sample in read_annotated(uri, problems.append):
            annotations = json.dumps(sample.annotations)
            rows.append({"image_id": sample.id, "jpeg": sample.jpeg, "annotations": annotations})
            if len(rows) == ROWS_PER_FILE:
                yield pa.Table.from_pylist(rows, schema=SAMPLES)
                rows = []
        rows.extend({"problem": problem} for problem in problems)
        if rows:
            yield pa.Table.from_pylist(rows, schema=SAMPLES)


class BuildPromptMaps:
    """Stage: tables of `SAMPLES` to files of prompt maps in a folder; returns a short account of each file.

    Rows are large (0.9 MB with an embedding of 32×32 cells), so they are written where they are made.
    """

    def __init__(self, recipe: MapRecipe, folder: str) -> None:
        torch.set_num_threads(recipe.threads)
        self.recipe = recipe
        self.folder = folder
        self.model = load_sam(recipe.sam, recipe.checkpoint)

    def __call__(self, samples: pa.Table) -> pa.Table:
        """Write one file; returns one row: `rows` written and `problems`, a line for every photo left out."""
        table, problems = self.build(samples)
        if table.num_rows:
            name = hashlib.sha256("\n".join(table.column("image_id").to_pylist()).encode()).hexdigest()[:16]
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="zstd")
            write_bytes(f"{self.folder.rstrip('/')}/{name}.parquet", buffer.getvalue())
        kinds = pa.schema([pa.field("rows", pa.int64()), pa.field("problems", pa.list_(pa.string()))])
        return pa.Table.from_pylist([{"rows": table.num_rows, "problems": problems}], schema=kinds)

    def build(self, samples: pa.Table) -> tuple[pa.Table, list[str]]:
        """A table of schemas/prompt_maps.py, one row a photo (two with `mirror`), and what was wrong with the rest."""
        rows: list[dict[str, Any]] = []
        problems: list[str] = []
        for sample in samples.to_pylist():
            if sample["problem"] is not None:
                problems.append(sample["problem"])
                continue
            try:
                rgb = open_photo(sample["jpeg"], MAX_PIXELS).rgb
                rows.extend(self._rows(sample["image_id"], rgb, json.loads(sample["annotations"])))
            except (PhotoError, ValueError) as error:
                problems.append(f"{sample['image_id']}: {error}")
        return conform(pa.Table.from_pylist(rows, schema=SCHEMA), SCHEMA), problems

    def _rows(self, image_id: str, rgb: np.ndarray, annotations: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        image_hw = (rgb.shape[0], rgb.shape[1])
        recipe = self.recipe
        target, valid = target_and_valid(
            annotations,
            image_hw,
            source=recipe.source,
            combine=recipe.combine,
            preset=recipe.preset,
            sparse=recipe.sparse,
        )
        yield self._row(image_id, rgb, target, valid)
        if recipe.mirror:
            columns = content_hw(image_hw)[1]
            mirrored = [np.zeros_like(target), np.zeros_like(valid)]
            for new, old in zip(mirrored, (target, valid), strict=True):
                new[:, :columns] = old[:, :columns][:, ::-1]
            yield self._row(image_id + MIRRORED, np.ascontiguousarray(rgb[:, ::-1]), *mirrored)

    def _row(self, image_id: str, rgb: np.ndarray, target: np.ndarray, valid: np.ndarray) -> dict[str, Any]:
        embedding = encode(self.model, rgb).embedding[0].half().numpy()
        return {
            "image_id": image_id,
            "sam": self.model.name,
            "sam_sha256": self.model.sha256,
            "image": to_frame(rgb).tobytes(),
            "content_hw": list(content_hw((rgb.shape[0], rgb.shape[1]))),
            "embedding": embedding.tobytes(),
            "embedding_shape": list(embedding.shape),
            "map": target.astype(np.float16).tobytes(),
            "valid": valid.tobytes(),
            "source": self.recipe.source,
            "weight": 1.0,
        }

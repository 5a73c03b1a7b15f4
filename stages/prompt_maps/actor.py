"""Annotated photos in, prompt maps out (schemas/prompt_maps.py): what the predictor and the detector train on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import torch
from tyro.conf import Suppress

from aopsam._allocator import keep_freed_memory
from aopsam._options import OneOf, check
from aopsam.photos.decode import PhotoError, open_photo
from aopsam.predictor.frame import content_hw, to_frame
from aopsam.predictor.targets import PRESETS, Combine
from aopsam.sam.encode import encode
from aopsam.sam.model import StretchedSam
from aopsam.sam.registry import load_sam
from schemas.conform import conform
from schemas.prompt_maps import SCHEMA
from stages.prompt_maps.files import parquet_bytes
from stages.prompt_maps.rows import MIRRORED
from stages.prompt_maps.target import PhotoTarget, Source, photo_target
from stages.storage.atomic import write_bytes
from stages.storage.location import redact

if TYPE_CHECKING:  # importing it before aopsam would fail with a torchvision without operators
    from segment_anything.modeling import Sam


@dataclass(frozen=True, kw_only=True)
class MapRecipe:
    """Configuration of prompt maps.

    Raises:
        ValueError: an unknown value.
    """

    sam: str = "tiny"
    """Name of the model whose embeddings the predictor will read."""
    checkpoint: str | None = None
    """File of its weights; by default the bundled or official ones."""
    source: Source = "interior"
    """Place of a mask's prompt: the point deepest inside it, or the annotation's recorded point_coords."""
    combine: Combine = "max"
    """How overlapping prompts are combined."""
    preset: Annotated[str, OneOf(PRESETS)] = "medium"
    """Kernel of a prompt: a name of aopsam.predictor.targets.PRESETS."""
    sparse: bool = False
    """Much of each photo is unannotated (COCO): only annotated masks and their near surroundings teach where no prompt
    belongs; else the whole photo does."""
    mirror: bool = False
    """Add a row for the mirrored photo, encoded on its own: the embedding of a mirrored photo is not the mirrored
    embedding."""
    threads: Suppress[int] = 2
    """CPU threads of the encoder."""

    def __post_init__(self) -> None:
        check(self)


def load_padding_sam(name: str, checkpoint: str | None) -> Sam:
    """Load a model that pads photos, as the frame of a prompt map does, by `load_sam`.

    Raises:
        ValueError: the model stretches photos; also what `load_sam` raises.
    """
    model = load_sam(name, checkpoint)
    if isinstance(model, StretchedSam):
        raise ValueError(f"{name} stretches photos, the frame of a prompt map is padded: choose another --sam")
    return model


class BuildPromptMaps:
    """Stage: tables of `SAMPLES` (samples.py) to files of prompt maps in a folder, and an account of each.

    Rows are large (0.65 MB with an embedding of 32×32 cells), so they are written where they are made.
    """

    def __init__(self, recipe: MapRecipe, folder: str, device: str = "cpu") -> None:
        torch.set_num_threads(recipe.threads)
        keep_freed_memory()
        self.recipe = recipe
        self.folder = folder
        self.model = load_padding_sam(recipe.sam, recipe.checkpoint).to(device)

    def __call__(self, samples: pa.Table) -> pa.Table:
        """Write one file; return one row: `rows` written and `problems`, a line for every photo left out."""
        table, problems = self.build(samples)
        if table.num_rows:
            # Shards are part of the name: photos of two of them may have the same ids.
            photos = zip(*(samples.column(name).to_pylist() for name in ("shard", "image_id")), strict=True)
            name = hashlib.sha256(repr(list(photos)).encode()).hexdigest()[:16]
            write_bytes(f"{self.folder.rstrip('/')}/{name}.parquet", parquet_bytes(table))
        kinds = pa.schema([pa.field("rows", pa.int64()), pa.field("problems", pa.list_(pa.string()))])
        return pa.Table.from_pylist([{"rows": table.num_rows, "problems": problems}], schema=kinds)

    def build(self, samples: pa.Table) -> tuple[pa.Table, list[str]]:
        """Build a table of schemas/prompt_maps.py, one row a photo (two with `mirror`), and a line for each problem."""
        rows: list[dict[str, Any]] = []
        problems: list[str] = []
        for sample in samples.to_pylist():
            if sample["problem"] is not None:
                problems.append(sample["problem"])
                continue
            place = f"{redact(sample['shard'])}: {sample['image_id']}"

            def report(line: str, place: str = place) -> None:
                problems.append(f"{place}: {line}")

            try:
                rgb = open_photo(sample["jpeg"]).rgb
                rows.extend(self._rows(sample["image_id"], rgb, json.loads(sample["annotations"]), report))
            except (PhotoError, ValueError) as error:
                report(str(error))
        return conform(pa.Table.from_pylist(rows, schema=SCHEMA), SCHEMA), problems

    def _rows(
        self, name: str, rgb: np.ndarray, annotations: list[dict[str, Any]], report: Callable[[str], None]
    ) -> Iterator[dict[str, Any]]:
        image_hw = (rgb.shape[0], rgb.shape[1])
        recipe = self.recipe
        target = photo_target(
            annotations,
            image_hw,
            report,
            source=recipe.source,
            combine=recipe.combine,
            preset=recipe.preset,
            sparse=recipe.sparse,
        )
        yield self._row(name, rgb, target)
        if recipe.mirror:
            yield self._row(name + MIRRORED, np.ascontiguousarray(rgb[:, ::-1]), target.mirrored(image_hw))

    def _row(self, image_id: str, rgb: np.ndarray, target: PhotoTarget) -> dict[str, Any]:
        embedding = encode(self.model, rgb).embedding[0].half().cpu().numpy()
        return {
            "image_id": image_id,
            "sam": self.model.name,
            "sam_sha256": self.model.sha256,
            "image": to_frame(rgb).tobytes(),
            "content_hw": list(content_hw((rgb.shape[0], rgb.shape[1]))),
            "embedding": embedding.tobytes(),
            "embedding_shape": list(embedding.shape),
            "map": target.map.astype(np.float16).tobytes(),
            "valid": target.valid.tobytes(),
            "source": self.recipe.source,
            "weight": 1.0,
        } | target.objects.columns()

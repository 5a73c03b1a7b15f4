"""Describe annotated photos for curation: annotated shards in, a row of about 8 KiB a photo out."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from aopsam.curation.features import mask_geometry, photo_statistics, pooled_embedding
from aopsam.curation.fingerprint import fingerprint
from aopsam.photos.decode import PhotoError, open_photo
from aopsam.photos.sa1b import Sample
from aopsam.sam.encode import encode
from aopsam.sam.registry import load_sam
from schemas.column import column
from stages.annotations.read import read_annotated
from stages.storage.location import redact

ROWS_PER_TABLE = 64
THUMBNAIL = 144
"""Longer side of the pictures in the contact sheet, px."""


@dataclass(frozen=True)
class DescriptionRecipe:
    """Configuration of the descriptions of photos.

    Attributes:
        sam: name of the model whose embeddings tell photos apart.
        checkpoint: file of its weights; None for the registry's own.
        device: device that it runs on.
        threads: CPU threads of one actor.
    """

    sam: str = "tiny"
    checkpoint: str | None = None
    device: str = "cpu"
    threads: int = 2


DESCRIPTIONS = pa.schema(
    [
        column("image_id", pa.string()),
        column("shard", pa.string()),
        column("width", pa.int32(), unit="px"),
        column("height", pa.int32(), unit="px"),
        column("digest", pa.binary(), "SHA-256 of the encoded photo"),
        column("fingerprint", pa.binary(), "float16 (32, 32) of aopsam.curation.fingerprint"),
        column("embedding", pa.binary(), "float16 (C,) of length 1"),
        column("masks", pa.int32()),
        column("object_scale", pa.float32()),
        column("layout", pa.float32()),
        column("thumbnail", pa.binary(), "JPEG"),
        column("problem", pa.string(), "one line; then all else is null"),
    ],
    metadata={"table": "descriptions"},
)
"""Descriptions of photos, about 8 KiB a row."""


class DescribePhotos:
    """Reads, decodes and encodes each photo of a shard once, one at a time: a row of `DESCRIPTIONS` each."""

    def __init__(self, recipe: DescriptionRecipe) -> None:
        torch.set_num_threads(recipe.threads)
        self.model = load_sam(recipe.sam, recipe.checkpoint).to(recipe.device)

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        """Describe the photos of the shards (column `shard`, of `stages.annotations.shards.list_shards`), in tables."""
        for uri in shards.column("shard").to_pylist():
            rows: list[dict[str, Any]] = []
            for row in self._rows(uri):
                rows.append(row)
                if len(rows) == ROWS_PER_TABLE:
                    yield pa.Table.from_pylist(rows, schema=DESCRIPTIONS)
                    rows = []
            if rows:
                yield pa.Table.from_pylist(rows, schema=DESCRIPTIONS)

    def _rows(self, uri: str) -> Iterator[dict[str, Any]]:
        problems: list[str] = []
        for sample in read_annotated(uri, problems.append):
            try:
                yield {"shard": redact(uri)} | self._describe(sample, problems)
            except (PhotoError, ValueError) as error:
                problems.append(f"{sample.id}: {error}")
            yield from ({"problem": problem} for problem in problems)
            problems.clear()
        yield from ({"problem": problem} for problem in problems)

    def _describe(self, sample: Sample, problems: list[str]) -> dict[str, Any]:
        rgb = open_photo(sample.jpeg).rgb
        masks = []
        for index, annotation in enumerate(sample.annotations):
            try:
                mask = mask_geometry(annotation["segmentation"], (rgb.shape[0], rgb.shape[1]))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                problems.append(f"{sample.id}: annotation {index}: {type(error).__name__}: {error}")
                continue
            if mask is not None:
                masks.append(mask)
        if not masks:
            raise ValueError("no annotated mask")
        return {
            "image_id": sample.id,
            "width": rgb.shape[1],
            "height": rgb.shape[0],
            "digest": hashlib.sha256(sample.jpeg).digest(),
            "fingerprint": fingerprint(rgb).tobytes(),
            "embedding": pooled_embedding(encode(self.model, rgb)).tobytes(),
            "thumbnail": _thumbnail(rgb),
        } | asdict(photo_statistics(masks))


def _thumbnail(rgb: np.ndarray) -> bytes:
    picture = Image.fromarray(rgb)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()

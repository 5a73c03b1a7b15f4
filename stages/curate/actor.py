"""Describe annotated photos for curation: annotated shards in, a row of about 8 KiB a photo out."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from aopsam.curation.features import PhotoStatistics, mask_geometry, photo_statistics, pooled_embedding
from aopsam.curation.fingerprint import fingerprint
from aopsam.photos.decode import open_photo
from aopsam.sam.encode import encode
from aopsam.sam.registry import load_sam
from schemas.column import column
from stages.storage.fetched import local_file

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
        annotated: whether a photo needs a mask; photos without any differ by their embeddings alone.
    """

    sam: str = "tiny"
    checkpoint: str | None = None
    device: str = "cpu"
    threads: int = 2
    annotated: bool = True


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
    ],
    metadata={"table": "descriptions"},
)
"""Descriptions of photos, about 8 KiB a row."""


class DescribePhotos:
    """Work on a photo of `SAMPLES` (annotations/samples.py): a row of `DESCRIPTIONS`."""

    def __init__(self, recipe: DescriptionRecipe) -> None:
        torch.set_num_threads(recipe.threads)
        self.annotated = recipe.annotated
        self.model = load_sam(recipe.sam, local_file(recipe.checkpoint)).to(recipe.device)

    def __call__(self, sample: Mapping[str, Any], report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Describe a photo; tell which annotations cannot be used.

        Raises:
            PhotoError: the photo cannot be opened.
            ValueError: it has no usable mask, and needs one.
        """
        rgb = open_photo(sample["jpeg"]).rgb
        masks = []
        for index, annotation in enumerate(json.loads(sample["annotations"])):
            try:
                mask = mask_geometry(annotation["segmentation"], (rgb.shape[0], rgb.shape[1]))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                report(f"annotation {index}: {type(error).__name__}: {error}")
                continue
            if mask is not None:
                masks.append(mask)
        if not masks and self.annotated:
            raise ValueError("no annotated mask")
        statistics = photo_statistics(masks) if masks else PhotoStatistics(0, 0.0, 0.0)
        yield {
            "image_id": sample["image_id"],
            "shard": sample["shard"],
            "width": rgb.shape[1],
            "height": rgb.shape[0],
            "digest": hashlib.sha256(sample["jpeg"]).digest(),
            "fingerprint": fingerprint(rgb).tobytes(),
            "embedding": pooled_embedding(encode(self.model, rgb)).tobytes(),
            "thumbnail": _thumbnail(rgb),
        } | asdict(statistics)


def _thumbnail(rgb: np.ndarray) -> bytes:
    picture = Image.fromarray(rgb)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()

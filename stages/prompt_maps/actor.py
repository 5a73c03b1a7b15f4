"""Annotated photos in, prompt maps out (schemas/prompt_maps.py): what the predictor and the detector train on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from aopsam._allocator import keep_freed_memory
from aopsam.photos.decode import open_photo
from aopsam.predictor.frame import to_frame
from aopsam.sam.encode import encode
from aopsam.sam.model import StretchedSam
from aopsam.sam.registry import load_sam
from stages.prompt_maps.recipe import MapRecipe
from stages.prompt_maps.rows import MIRRORED
from stages.prompt_maps.target import PhotoTarget, photo_target
from stages.storage.fetched import local_file


class BuildPromptMaps:
    """Work on a photo of `SAMPLES` (annotations/samples.py): one row of schemas/prompt_maps.py, two with `mirror`."""

    def __init__(self, recipe: MapRecipe, device: str = "cpu") -> None:
        torch.set_num_threads(recipe.threads)
        keep_freed_memory()
        self.recipe = recipe
        self.model = load_sam(recipe.sam, local_file(recipe.checkpoint)).to(device)
        self.stretched = isinstance(self.model, StretchedSam)

    def __call__(self, sample: Mapping[str, Any], report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a photo; tell which annotations cannot be used.

        Raises:
            PhotoError: the photo cannot be opened.
            ValueError: it has no usable mask.
        """
        rgb = open_photo(sample["jpeg"]).rgb
        yield from self._rows(sample["image_id"], rgb, json.loads(sample["annotations"]), report)

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
            stretched=self.stretched,
        )
        yield self._row(name, rgb, target)
        if recipe.mirror:
            yield self._row(name + MIRRORED, np.ascontiguousarray(rgb[:, ::-1]), target.mirrored())

    def _row(self, image_id: str, rgb: np.ndarray, target: PhotoTarget) -> dict[str, Any]:
        embedding = encode(self.model, rgb).embedding[0].half().cpu().numpy()
        return {
            "image_id": image_id,
            "sam": self.model.name,
            "sam_sha256": self.model.sha256,
            "image": to_frame(rgb, stretched=self.stretched).tobytes(),
            "content_hw": list(target.content_hw),
            "embedding": embedding.tobytes(),
            "embedding_shape": list(embedding.shape),
            "map": target.map.astype(np.float16).tobytes(),
            "valid": target.valid.tobytes(),
            "source": target.source,
            "weight": self.recipe.weight,
        } | target.objects.columns()

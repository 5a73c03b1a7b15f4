"""Base of trainings behind a frozen `tiny`, which read whole frames with photos in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import nn

from aopsam.training.annotated import Annotated
from aopsam.training.build_sam import FRAME_PX
from aopsam.training.memory import DrawnPhotos, KeptPhotos
from aopsam.training.pool import Pool
from aopsam.training.recipes import MaskHeadRecipe, ThingHeadRecipe
from aopsam.training.task import Task, cosine
from aopsam.training.windows import Batch, make_batch


class FrameTask(Task):
    """Training of a head behind a frozen `tiny`; the subclass adds the model and its loss.

    Attributes:
        prompts: of a frame.
        box_share: share of them that are boxes.
    """

    recipe: MaskHeadRecipe | ThingHeadRecipe
    pool: Pool
    prompts = 1
    box_share = 0.0

    def __init__(
        self,
        photos: Sequence[Sequence[Annotated]],
        recipe: MaskHeadRecipe | ThingHeadRecipe,
        sam: Sam,
        held_out: Sequence[Annotated],
        shares: Sequence[float] | None,
    ) -> None:
        """Keep the photos.

        Args:
            photos: photos to train on, by source; of `StreamedPhotos` those that the run begins with.
            recipe: hyper-parameters.
            sam: `tiny`; no gradient reaches it.
            held_out: photos to validate on.
            shares: how often a photo of each source is drawn, relative to the others; by default all alike.
        """
        self.photos, self.recipe, self.held_out = KeptPhotos(photos), recipe, KeptPhotos([held_out])
        self.pool = Pool(photos, recipe.frames)
        self._shares = shares or [1.0] * len(photos)
        self._kept = self.photos
        self._drawn = DrawnPhotos(self._kept, self._shares)
        self.sam = sam.eval().requires_grad_(False)
        self.heads = nn.ModuleList()

    def frames(self, photos: Sequence[Annotated], rng: np.random.Generator) -> Batch:
        """Cut the frames of a batch out of photos."""
        return make_batch(
            photos,
            rng,
            windows=self.recipe.frames,
            size_px=FRAME_PX,
            frame_px=FRAME_PX,
            prompts=self.prompts,
            scale=self.recipe.scale,
            box_share=self.box_share,
        )

    def __len__(self) -> int:
        return -(-len(self.photos) // self.recipe.frames)

    def batch(self, index: int) -> Batch:
        """Return frames of photos to train on."""
        gone = self.pool.move(index)
        if gone is not None:
            self._kept = self._kept.moved(self.pool.sources, gone)
            self._drawn = DrawnPhotos(self._kept, self._shares)
        return self.frames(self._drawn, np.random.default_rng([self.recipe.seed, 2, index]))

    def optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW."""
        group = {"params": list(self.model.parameters()), "part": "head"}
        return torch.optim.AdamW([group], lr=0.0, betas=(0.9, 0.99), weight_decay=self.recipe.weight_decay)

    def rates(self, step: int) -> Mapping[str, float]:
        """Return the learning rate of an update, one for all parameters."""
        recipe = self.recipe
        return {"head": recipe.learning_rate * cosine(step, recipe.steps, recipe.warmup)}

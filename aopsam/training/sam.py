"""Train a promptable SAM on annotated photos, with a teacher's edges."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import nn

from aopsam.training.affinity import Affinity
from aopsam.training.annotated import Annotated
from aopsam.training.build_sam import FRAME_PX, build_sam, make_optimizer
from aopsam.training.memory import DrawnPhotos, KeptPhotos
from aopsam.training.pool import Pool
from aopsam.training.recipes import SamRecipe
from aopsam.training.sam_step import edge_loss, step_batch, step_loss
from aopsam.training.task import Task, Validation
from aopsam.training.validation import best_of_three
from aopsam.training.views import normalised
from aopsam.training.windows import Batch, make_batch

VALIDATION_SCALE = (0.8, 1.25)
"""Smallest and largest size relative to the frame of the held-out photos that likeness is validated on."""


class SamTask(Task):
    """Joint training of image encoder, prompt encoder and mask decoder on windows and whole frames of photos.

    First the encoder alone learns from the dense loss and the edges (`SamRecipe.dense_steps`), then all of it. Losses
    and correction clicks are in `sam_step.py`.
    """

    recipe: SamRecipe
    heads: Affinity
    pool: Pool

    def __init__(
        self,
        photos: Sequence[Sequence[Annotated]],
        recipe: SamRecipe,
        held_out: Sequence[Annotated] = (),
        *,
        shares: Sequence[float] | None = None,
        trunk: Mapping[str, torch.Tensor] | None = None,
        start: Mapping[str, torch.Tensor] | None = None,
        workers: int = 1,
    ) -> None:
        """Build the model and the head of the auxiliary loss.

        Args:
            photos: photos to train on, by source; those without annotations teach edges alone. Of `StreamedPhotos`
                those that the run begins with.
            recipe: hyper-parameters.
            held_out: photos to validate on, each with a mask that is large enough (`VALIDATION_SCALE`).
            shares: how often a photo of each source is drawn, relative to the others; by default all alike.
            trunk: NanoDet's weights, with which the trunk begins; by default random.
            start: state dict of the model to start from, in place of the initial weights.
            workers: number of workers; needed to compute a batch's update, and so its phase, from its number.
        """
        self.photos, self.recipe, self.held_out = KeptPhotos(photos), recipe, KeptPhotos([held_out])
        self.pool = Pool(photos, recipe.windows)
        self._shares = shares or [1.0] * len(photos)
        self._kept = self.photos
        self._drawn = DrawnPhotos(self._kept, self._shares)
        self._batches_an_update = workers * recipe.accumulate
        self._step = 0
        self.model = build_sam(recipe, trunk)
        if start is not None:
            self.model.load_state_dict(start)
        self.heads = Affinity()

    def __len__(self) -> int:
        return -(-len(self.photos) // self.recipe.windows)

    def batch(self, index: int) -> Batch:
        """Return windows or whole frames, by the phase of the batch's update."""
        gone = self.pool.move(index)
        if gone is not None:
            self._kept = self._kept.moved(self.pool.sources, gone)
            self._drawn = DrawnPhotos(self._kept, self._shares)
        return step_batch(self._drawn, self.recipe, index // self._batches_an_update, index)

    def optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW, see `make_optimizer`."""
        return make_optimizer(self.model, self.heads, self.recipe)

    def rates(self, step: int) -> Mapping[str, float]:
        """Return the learning rates of an update, see `SamRecipe.rates`."""
        return self.recipe.rates(step)

    def loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute the loss and its figures, see `step_loss`."""
        self._step = step
        return step_loss(self.model, self.heads, batch, self.recipe, step, generator)

    def validate(self, model: nn.Module) -> Validation | None:
        """Measure likeness and edges on fixed windows, and where the decoder learns, one point and one box per mask.

        The score is the mean best-of-three IoU of point and box. Before the decoder learns it is the IoU of likeness
        less 1, which is below any such mean.
        """
        if not len(self.held_out):
            return None
        sam = model.to("cpu")
        figures = measure_likeness(sam, copy.deepcopy(self.heads).to("cpu"), self.held_out)
        if self._step < self.recipe.dense_steps - 1:
            return Validation(figures["alike"] - 1, figures)
        prompted = {kind: best_of_three(sam, self.held_out, kind) for kind in ("point", "box")}
        return Validation(float(np.mean(list(prompted.values()))), figures | prompted)


@torch.no_grad()
def measure_likeness(sam: Sam, affinity: Affinity, photos: Sequence[Annotated], batches: int = 3) -> dict[str, float]:
    """Measure likeness's IoU (`alike`) and the loss of the edges (`edge`) on windows that are the same at every call.

    Args:
        sam: the model, on the CPU, in eval mode.
        affinity: head of the dense loss.
        photos: photos to cut windows out of.
        batches: number of batches of eight windows.
    """
    alike, edge = [], []
    for number in range(batches):
        batch = make_batch(
            photos,
            np.random.default_rng([7, number]),
            windows=8,
            size_px=256,
            frame_px=FRAME_PX,
            prompts=16,
            scale=VALIDATION_SCALE,
            box_share=0.4,
        )
        embeddings, edges = sam.image_encoder.embed(normalised(sam, batch.rgb, batch.inside.flip(1)))
        _, iou = affinity(embeddings, batch.prompts.window, batch.targets, torch.Generator().manual_seed(number))
        alike.append(float(iou.mean()))
        edge.append(float(edge_loss(edges[:, 0].float(), batch.edges)))
    return {"alike": float(np.mean(alike)), "edge": float(np.mean(edge))}

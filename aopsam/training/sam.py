"""Train a promptable SAM on annotated photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from aopsam.training.affinity import Affinity
from aopsam.training.annotated import Annotated
from aopsam.training.sam_recipe import SamRecipe, build_sam, make_optimizer
from aopsam.training.sam_step import step_batch, step_loss
from aopsam.training.task import Task, Validation
from aopsam.training.validation import best_of_three
from aopsam.training.windows import Batch


class SamTask(Task):
    """Joint training of image encoder, prompt encoder and mask decoder on windows and whole frames of photos.

    Losses and correction clicks are in `sam_step.py`: Dice of the best of three masks, dense auxiliary loss.
    """

    recipe: SamRecipe
    heads: Affinity

    def __init__(
        self,
        photos: Sequence[Annotated],
        recipe: SamRecipe,
        held_out: Sequence[Annotated] = (),
        *,
        start: Mapping[str, torch.Tensor] | None = None,
        workers: int = 1,
    ) -> None:
        """Build the model and the head of the auxiliary loss.

        Args:
            photos: photos to train on.
            recipe: hyper-parameters.
            held_out: photos to validate on.
            start: state dict of the recipe's model to start from, in place of the recipe's initial weights.
            workers: number of workers; needed to compute a batch's update, and so its phase, from its number.
        """
        self.photos, self.recipe, self.held_out = photos, recipe, held_out
        self._batches_an_update = workers * recipe.accumulate
        self.model = build_sam(recipe)
        if start is not None:
            self.model.load_state_dict(start)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.heads = Affinity()

    def __len__(self) -> int:
        return -(-len(self.photos) // self.recipe.windows)

    def batch(self, index: int) -> Batch:
        """Return windows or whole frames, by the phase of the batch's update."""
        return step_batch(self.photos, self.recipe, index // self._batches_an_update, index)

    def optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW, see `make_optimizer`."""
        return make_optimizer(self.model, self.heads, self.recipe)

    def rates(self, step: int) -> Mapping[str, float]:
        """Return the learning rates of an update, see `SamRecipe.rates`."""
        return self.recipe.rates(step)

    def loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute the loss, and the mean `iou` of each prompt's best mask in the first round."""
        loss, iou = step_loss(self.model, self.heads, batch, self.recipe, step, generator)
        return loss, {"iou": iou.mean()}

    def validate(self, model: nn.Module) -> Validation | None:
        """Measure best-of-three IoU with one interior point and with one box per mask; the score is their mean."""
        if not self.held_out:
            return None
        sam = model.to("cpu")
        figures = {kind: best_of_three(sam, self.held_out, kind) for kind in ("point", "box")}
        return Validation(float(np.mean(list(figures.values()))), figures)

"""Teach a thing head what NanoDet says of the same frames, on the trunk of `tiny` in place of NanoDet's own.

Distillation of a dense detector, position by position: both have the same positions, scores and distances, so that no
object has to be assigned, and photos need no annotations of things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional as F

from aopsam._torchvision import torchvision
from aopsam.sam.checkpoints import read_state_dict
from aopsam.sam.encoders.nanodet import Trunk
from aopsam.sam.things import ThingHead, boxes_of, positions
from aopsam.training.annotated import Annotated
from aopsam.training.build_sam import FRAME_PX
from aopsam.training.frames import FrameTask
from aopsam.training.recipes import ThingHeadRecipe
from aopsam.training.task import Validation
from aopsam.training.views import normalised
from aopsam.training.windows import Batch

LEAST_TAUGHT = 0.05
"""Score of the teacher below which a position's box teaches nothing."""


class NanoDet(nn.Module):
    """NanoDet-g as it was published: trunk, neck and heads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = Trunk(), ThingHead()

    @classmethod
    def load(cls, path: str | Path) -> NanoDet:
        """Load weights, in eval mode, float32.

        Raises:
            ValueError: no such file, or other weights.
        """
        state, _ = read_state_dict(Path(path))
        net = cls()
        net.trunk.load_nanodet(state)
        net.head.load_nanodet(state)
        return net.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and distances of photos (B, 3, S, S) as SAM normalises them, as `ThingHead.forward`."""
        _, levels = self.trunk(x)
        scores, distances = self.head(levels[1])
        return scores, distances


def taught_loss(
    answer: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], inside: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compare a head's answers with its teacher's, at the positions that show the photo.

    Args:
        answer: logits (B, CLASSES, N) and (B, 4, BINS, N) of `ThingHead.forward`.
        teacher: its teacher's.
        inside: (B, N) bool.

    Returns:
        Cross entropy of the scores, weighted by how wrong they are (generalised focal loss, Li et al. 2020); divergence
        of the distances, and 1 - GIoU of the boxes, both weighted by the teacher's score. Sums, by the sum of scores.
    """
    wanted, score = teacher[0].sigmoid(), answer[0]
    wrong = (score.sigmoid() - wanted).detach().abs()
    entropy = F.binary_cross_entropy_with_logits(score, wanted, reduction="none") * wrong
    weight = wanted.amax(1) * inside
    weight = torch.where(weight > LEAST_TAUGHT, weight, 0.0)
    apart = F.kl_div(answer[1].log_softmax(2), teacher[1].log_softmax(2), reduction="none", log_target=True)
    own, others = (boxes_of(distances, FRAME_PX).flatten(0, 1) for distances in (answer[1], teacher[1]))
    loss = torchvision.ops.generalized_box_iou_loss(own, others).view_as(weight)
    sums = (entropy.sum(1) * inside).sum(), (apart.sum(2).mean(1) * weight).sum(), (loss * weight).sum()
    entropy, divergence, giou = (part / weight.sum().clamp_min(1) for part in sums)
    return entropy, divergence, giou


class ThingHeadTask(FrameTask):
    """Training of a thing head behind a frozen `tiny`."""

    recipe: ThingHeadRecipe
    model: ThingHead

    def __init__(
        self,
        photos: Sequence[Sequence[Annotated]],
        recipe: ThingHeadRecipe,
        sam: Sam,
        teacher: NanoDet,
        held_out: Sequence[Annotated] = (),
        *,
        shares: Sequence[float] | None = None,
    ) -> None:
        """Set up a head that begins as the teacher's.

        Args:
            photos: photos to train on, by source; of `StreamedPhotos` those that the run begins with.
            recipe: hyper-parameters.
            sam: `tiny`, whose encoder the head reads.
            teacher: says what is in the frames.
            held_out: photos to validate on.
            shares: how often a photo of each source is drawn, relative to the others; by default all alike.
        """
        super().__init__(photos, recipe, sam, held_out, shares)
        self.teacher = teacher
        self.model = ThingHead()
        self.model.load_state_dict(teacher.head.state_dict())
        self.model.sam, self.model.sam_sha256 = sam.name, sam.sha256

    def loss(self, batch: Batch, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute how far the head is from its teacher."""
        return self._compare(self.model, batch)

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Validation | None:
        """Compute the loss on frames of held-out photos that are the same at every call."""
        if not len(self.held_out):
            return None
        device, found = next(model.parameters()).device, []
        for number in range(-(-2 * len(self.held_out) // self.recipe.frames)):
            frames = self.frames(self.held_out, np.random.default_rng([7, number])).to(device)
            loss, parts = self._compare(model, frames)
            found.append({"loss": loss, **parts})
        means = {name: float(torch.stack([each[name] for each in found]).mean()) for name in found[0]}
        return Validation(-means["loss"], means)

    def _compare(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        device, recipe = batch.rgb.device, self.recipe
        with torch.no_grad(), recipe.mixed(device):
            squares = normalised(self.sam.to(device), batch.rgb, batch.inside.flip(1))
            _, _, at8 = self.sam.image_encoder.with_features(squares)
            teacher = self.teacher.to(device)(squares)
        with recipe.mixed(device):
            answer = model(at8)
        inside = (positions(FRAME_PX, device)[:, :2] < batch.inside[:, None]).all(2)
        scores, distances, boxes = taught_loss(answer, teacher, inside)
        loss = scores + recipe.distances * distances + recipe.boxes * boxes
        return loss, {"scores": scores, "distances": distances, "boxes": boxes}

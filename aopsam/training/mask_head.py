"""Train a mask head on annotated photos, behind a frozen `tiny` that encodes them and decodes its own first masks.

The head learns to turn a mask that the decoder drew into the annotated one, by Dice and cross entropy within what it
sees: every object has about the same size there, so that cross entropy weighs inside and outside alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F

from aopsam.mask_head.crops import colours_of, cut, look, regions
from aopsam.mask_head.network import SIDE, MaskHead, Seen
from aopsam.training.annotated import Annotated
from aopsam.training.decode import decode, window_pe
from aopsam.training.frames import FrameTask
from aopsam.training.losses import dice_loss, mask_iou
from aopsam.training.recipes import MaskHeadRecipe
from aopsam.training.task import Validation
from aopsam.training.views import normalised
from aopsam.training.windows import Batch

LEAST_IOU = 0.2
"""Least IoU of a mask with the one that was asked for, below which it is of something else and teaches nothing."""
PLACES_PX = 4
"""Pixels of the frame to a low-resolution logit."""
FINER = 2 * SIDE
"""Rows and columns in which the drawn mask is compared with the annotated one."""


@dataclass(frozen=True)
class Examples:
    """K masks as the head sees them, and as they should be.

    Attributes:
        seen: what `MaskHead.forward` takes.
        before: (K, FINER, FINER) logits of the decoder.
        target: (K, FINER, FINER) in [0, 1].
        is_box: (K,) bool, whether the prompt was a box.
    """

    seen: Seen
    before: torch.Tensor
    target: torch.Tensor
    is_box: torch.Tensor

    def drawn(self, head: MaskHead) -> torch.Tensor:
        """Return the logits (K, FINER, FINER) that the head makes of them."""
        change = F.interpolate(head(self.seen)[:, None], (FINER, FINER), mode="bilinear", align_corners=False)
        return self.before * head.gain.exp() + change[:, 0]


def make_examples(sam: Sam, head: MaskHead, batch: Batch, recipe: MaskHeadRecipe) -> Examples | None:
    """Decode the prompts of whole frames; return their masks that are of what was asked for, None if there is none.

    Of each prompt it is the best of three: learnt from the others too, all three are drawn towards one object, and the
    best of them gets worse (benchmarks/LOG.md).

    Args:
        sam: `tiny`, in eval mode; no gradient reaches it.
        head: whose projection of the encoder's features is part of what is seen, with its gradients.
        batch: whole frames.
        recipe: hyper-parameters.
    """
    with torch.no_grad(), recipe.mixed(batch.rgb.device):
        squares = normalised(sam, batch.rgb, batch.inside.flip(1))
        embeddings, features, *_ = sam.image_encoder.with_features(squares)
        logits, _ = decode(sam, embeddings, window_pe(sam, batch.cells, *embeddings.shape[-2:]), batch.prompts)
    with recipe.mixed(batch.rgb.device):
        projected = head.project(features)
    logits = logits[:, 1:]
    iou = mask_iou(logits, batch.targets[:, None].expand_as(logits))
    chosen = F.one_hot(iou.argmax(1), 3).bool() & (iou > LEAST_IOU)
    chosen &= (logits > 0).flatten(2).any(2)
    colours, found = colours_of(squares), []
    for window in range(len(embeddings)):
        one = slice(window, window + 1)
        for boxes in (False, True):
            mine = (batch.prompts.window == window) & (batch.is_box == boxes)
            prompt, which = (chosen & mine[:, None]).nonzero().unbind(1)
            if not len(prompt):
                continue
            masks, asked = logits[prompt, which], batch.prompts.points_px[prompt].flatten(1) / PLACES_PX
            asked = asked if boxes else asked[:, :2]
            parts = regions(masks, asked)
            found.append(
                Examples(
                    look(embeddings[one], projected[one], colours[one], masks, asked, parts),
                    cut(masks[:, None], parts, FINER, padding="border")[:, 0],
                    cut(batch.targets[prompt][:, None], parts, FINER)[:, 0],
                    torch.full((len(prompt),), boxes, device=masks.device),
                )
            )
    return _joined(found) if found else None


def _joined(found: Sequence[Examples]) -> Examples:
    seen = Seen(*(torch.cat(parts) for parts in zip(*(each.seen for each in found), strict=True)))
    others = (torch.cat([getattr(each, name) for each in found]) for name in ("before", "target", "is_box"))
    return Examples(seen, *others)


class MaskHeadTask(FrameTask):
    """Training of a mask head behind a frozen `tiny`."""

    recipe: MaskHeadRecipe
    model: MaskHead

    def __init__(
        self,
        photos: Sequence[Sequence[Annotated]],
        recipe: MaskHeadRecipe,
        sam: Sam,
        held_out: Sequence[Annotated] = (),
        *,
        shares: Sequence[float] | None = None,
        start: MaskHead | None = None,
    ) -> None:
        """Set up an untrained head, or one with the weights of another.

        Args:
            photos: photos to train on, by source; of `StreamedPhotos` those that the run begins with.
            recipe: hyper-parameters.
            sam: `tiny`, whose masks are drawn once more.
            held_out: photos to validate on.
            shares: how often a photo of each source is drawn, relative to the others; by default all alike.
            start: weights to begin with.
        """
        super().__init__(photos, recipe, sam, held_out, shares)
        self.prompts, self.box_share = recipe.prompts, recipe.box_share
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.model = MaskHead()
        if start is not None:
            self.model.load_state_dict(start.state_dict())
        self.model.sam, self.model.sam_sha256 = sam.name, sam.sha256

    def loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute Dice and cross entropy of the masks drawn, and their mean IoU before and after."""
        examples = make_examples(self.sam.to(batch.rgb.device), self.model, batch, self.recipe)
        if examples is None:
            nothing = torch.stack([parameter.sum() for parameter in self.model.parameters()]).sum() * 0.0
            return nothing, {"before": nothing, "after": nothing}
        with self.recipe.mixed(batch.rgb.device):
            drawn = examples.drawn(self.model)
        entropy = F.binary_cross_entropy_with_logits(drawn, examples.target, reduction="none").mean((1, 2))
        loss = dice_loss(drawn, examples.target) + self.recipe.cross_entropy * entropy
        before, after = (mask_iou(logits, examples.target).mean() for logits in (examples.before, drawn))
        return loss.mean(), {"before": before, "after": after}

    @torch.inference_mode()
    def validate(self, model: nn.Module) -> Validation | None:
        """Measure the IoU of masks before and after, on frames that are the same at every call."""
        assert isinstance(model, MaskHead)
        if not len(self.held_out):
            return None
        figures: dict[str, list[torch.Tensor]] = {}
        for number in range(2 * len(self.held_out)):
            frames = self.frames(self.held_out, np.random.default_rng([7, number]))
            frames = frames.to(next(model.parameters()).device)
            found = make_examples(self.sam, model, frames, self.recipe)
            if found is None:
                continue
            for when, logits in ("before", found.before), ("after", found.drawn(model)):
                iou = mask_iou(logits, found.target)
                figures.setdefault(f"box_{when}", []).append(iou[found.is_box])
                figures.setdefault(f"point_{when}", []).append(iou[~found.is_box])
        means = {name: float(torch.cat(parts).mean()) for name, parts in figures.items() if len(torch.cat(parts))}
        after = [value for name, value in means.items() if name.endswith("after")]
        return Validation(float(np.mean(after)), means) if after else None

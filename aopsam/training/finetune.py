"""Fine-tuning a light encoder inside SAM (Xiong et al. 2023, EfficientSAM, section 3.3).

The encoder takes the place of SAM's own; prompt encoder and mask decoder are frozen, so that it learns through them
what their answers to points and boxes need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F

from aopsam._options import Count
from aopsam.training.annotated import Annotated
from aopsam.training.decode import STRIDE, decode, window_pe
from aopsam.training.losses import dice_loss, mask_iou
from aopsam.training.student import takes_any_size
from aopsam.training.task import Recipe, Task, Validation
from aopsam.training.validation import best_of_three
from aopsam.training.views import normalised, shown
from aopsam.training.windows import Batch, make_batch

OUTSIDE = -30.0
"""Logit of what lies outside the photo: as sure a "no" as float32's sigmoid needs."""


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(Recipe):
    """The paper's optimiser and loss; it takes 5 epochs of SA-1B in batches of 128 whole photos of 1024 px.

    Attributes:
        student: name of the model.
        start_sha256: of the weights that it begins with.
        windows: pictures in a batch.
        window_px: side of a picture in frame pixels, a multiple of 16; None for 256 with `tiny`, and whole frames with
            encoders that take nothing else.
        prompts: at most this many a picture.
        scale: smallest and largest size of a photo relative to the frame.
        box_share: share of the prompts that are boxes.
        cross_entropy: weight of the binary cross entropy, averaged over the picture's pixels, beside Dice. 1 is the
            paper's; in short runs 0 measured better (benchmarks/LOG.md).
        others: weight of the losing alternatives among the three masks.
        single: weight of the single mask for a point; for a box it is 1.
        rate: first learning rate; it falls linearly to 0.
        weight_decay: AdamW's, on matrices and kernels.
    """

    student: str = "tiny"
    start_sha256: str = ""
    windows: Count = 4
    window_px: int | None = None
    prompts: int = 16
    scale: tuple[float, float] = (0.65, 1.6)
    box_share: float = 0.4
    cross_entropy: float = 1.0
    others: float = 0.03
    single: float = 0.15
    rate: float = 4e-4
    weight_decay: float = 0.1
    clip: float | None = 1.0
    precision: Literal["float32", "bfloat16"] = "bfloat16"


class FinetuneTask(Task):
    """Annotated photos, prompted with points and boxes -> masks, through a frozen decoder."""

    recipe: FinetuneRecipe
    model: Sam

    def __init__(
        self,
        recipe: FinetuneRecipe,
        sam: Sam,
        photos: Sequence[Annotated],
        held_out: Sequence[Annotated] = (),
    ) -> None:
        """Set up; freezes prompt encoder and mask decoder.

        Args:
            recipe: what to do.
            sam: a whole model, whose image encoder trains from the weights that it has.
            photos: to train on.
            held_out: to judge by.

        Raises:
            ValueError: windows that the encoder cannot take.
        """
        self.recipe, self.photos, self.held_out = recipe, photos, held_out
        self.model, self.heads = sam, nn.ModuleList()
        sam.prompt_encoder.requires_grad_(False)
        sam.mask_decoder.requires_grad_(False)
        self._frame_px = int(sam.image_encoder.img_size)
        whole = not takes_any_size(sam)
        self._size_px = recipe.window_px or (self._frame_px if whole else 256)
        if (whole and self._size_px != self._frame_px) or self._size_px % STRIDE or self._size_px > self._frame_px:
            right = f"{self._frame_px}" if whole else f"a multiple of {STRIDE} up to {self._frame_px}"
            raise ValueError(f"windows of {self._size_px} px: {recipe.student} reads {right} px")

    def __len__(self) -> int:
        return -(-len(self.photos) // self.recipe.windows)

    def batch(self, index: int) -> Batch:
        """Windows or whole frames, with prompts and masks."""
        recipe = self.recipe
        return make_batch(
            self.photos,
            np.random.default_rng([recipe.seed, index]),
            windows=recipe.windows,
            size_px=self._size_px,
            frame_px=self._frame_px,
            prompts=recipe.prompts,
            scale=recipe.scale,
            box_share=recipe.box_share,
        )

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over the encoder; norms, biases and single vectors do not decay."""
        parameters = list(self.model.image_encoder.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group | {"part": "encoder"} for group in groups], lr=0.0, betas=(0.9, 0.999))

    def rates(self, step: int) -> Mapping[str, float]:
        """Linear decay."""
        return {"encoder": self.recipe.rate * (1 - step / self.recipe.steps)}

    def loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Cross entropy and Dice of the best of three masks and of the single one; `iou` of the best."""
        recipe, sam = self.recipe, self.model
        inside = batch.inside.flip(1)
        with recipe.mixed(batch.rgb.device):
            embeddings = sam.image_encoder(normalised(sam, batch.rgb, inside))
            logits, _ = decode(sam, embeddings, window_pe(sam, batch.cells, *embeddings.shape[-2:]), batch.prompts)
        photo = shown(-(-inside // 4), batch.targets.shape[-1])[batch.prompts.window]
        single = torch.where(batch.is_box, 1.0, recipe.single)
        return mask_loss(logits, batch.targets, photo, single, recipe)

    def validate(self, model: nn.Module) -> Validation | None:
        """Best-of-three IoU of one interior point and of one box a mask; the score is their mean."""
        if not self.held_out:
            return None
        sam = model.to("cpu")
        figures = {kind: best_of_three(sam, self.held_out, kind) for kind in ("point", "box")}
        return Validation(float(np.mean(list(figures.values()))), figures)


def mask_loss(
    logits: torch.Tensor, targets: torch.Tensor, photo: torch.Tensor, single: torch.Tensor, recipe: FinetuneRecipe
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """Binary cross entropy plus Dice of the best alternative (and a little of the others) and of the single mask.

    Args:
        logits: (P, 4, h, w); mask 0 is the single one.
        targets: (P, h, w) in [0, 1].
        photo: (P, 1, h, w) bool, what is not padding; nothing else counts.
        single: (P,) weight of the single mask.
        recipe: weights.

    Returns:
        Scalar loss, and the mean `iou` of the best alternative.
    """
    logits = logits.masked_fill(~photo, OUTSIDE)
    truth = targets.unsqueeze(1).expand_as(logits) * photo
    wrong = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum((-1, -2))
    each = recipe.cross_entropy * wrong / photo.sum((-1, -2)) + dice_loss(logits, truth)
    best = each[:, 1:].min(dim=1).values
    loss = (best + recipe.others * each[:, 1:].mean(dim=1) + single * each[:, 0]).mean()
    with torch.no_grad():
        iou = mask_iou(logits[:, 1:], truth[:, 1:]).max(dim=1).values.mean()
    return loss, {"iou": iou}

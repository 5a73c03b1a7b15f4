"""Fine-tune a light encoder inside SAM on annotated photos (Xiong et al. 2023, EfficientSAM, section 3.3).

The encoder replaces SAM's own. Prompt encoder and mask decoder are frozen; the loss of their masks for points and boxes
trains the encoder. EfficientSAM's published weights have a decoder of other layers than SAM's: begun from SAM's weights
(`share_decoder`), it has to learn along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import nn
from torch.nn import functional as F

from aopsam._options import Count
from aopsam.sam.model import StretchedSam
from aopsam.training.annotated import Annotated
from aopsam.training.decode import STRIDE, decode, window_pe
from aopsam.training.losses import dice_loss, mask_iou
from aopsam.training.pool import Pool
from aopsam.training.recipes import Precision, Recipe
from aopsam.training.student import takes_any_size
from aopsam.training.task import Task, Validation
from aopsam.training.validation import best_of_three
from aopsam.training.views import normalised, shown
from aopsam.training.windows import Batch, make_batch

OUTSIDE = -30.0
"""Logit of pixels outside the photo, whose sigmoid is 0 for the loss."""


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(Recipe):
    """Hyper-parameters: the paper's optimiser and loss; `PAPER` has the rest.

    Attributes:
        student: name of the model.
        start_sha256: hex digest of the initial weights.
        windows: pictures in a batch.
        window_px: side of a picture in frame pixels, a multiple of 16; None for 256 with `tiny`, and for whole frames
            with encoders that accept nothing else. For a `StretchedSam` the side that whole frames are drawn at.
        prompts: most prompts of a picture.
        scale: smallest and largest size of a photo relative to the frame; at least 1 where photos are stretched to it.
        box_share: share of the prompts that are boxes.
        cross_entropy: weight of the binary cross entropy, averaged over the picture's pixels; Dice has weight 1. The
            paper's is 1; in short runs 0 measured better (benchmarks/LOG.md).
        others: weight of the mean loss over the three masks; the best one has weight 1.
        single: weight of the single mask for a point; for a box it is 1.
        decoder: train prompt encoder and mask decoder, too, and its estimates of IoU by their squared error.
        rate: initial learning rate; it falls linearly to 0.
        weight_decay: weight decay of AdamW, on matrices and kernels.
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
    decoder: bool = False
    rate: float = 4e-4
    weight_decay: float = 0.1
    clip: float | None = 1.0
    precision: Precision = "auto"


PAPER = FinetuneRecipe(steps=429_688, windows=8, accumulate=16, scale=(1.0, 1.0), others=0.0, average=0.0, clip=None)
"""The paper's hyper-parameters: 5 epochs of SA-1B's 11 million photos in batches of 128, whole and at the model's own
1024 px; neither averaged weights nor clipped gradients. It says nothing of how many prompts a photo has."""
BATCH = PAPER.windows * PAPER.accumulate
"""The paper's photos in an update."""


class FinetuneTask(Task):
    """Training of an image encoder on annotated photos with points and boxes, as a rule through a frozen decoder."""

    recipe: FinetuneRecipe
    model: Sam
    pool: Pool

    def __init__(
        self,
        recipe: FinetuneRecipe,
        sam: Sam,
        photos: Sequence[Annotated],
        held_out: Sequence[Annotated] = (),
    ) -> None:
        """Freeze prompt encoder and mask decoder, unless the recipe trains them.

        Args:
            recipe: hyper-parameters.
            sam: whole model, whose image encoder is trained from its current weights.
            photos: photos to train on; of `StreamedPhotos` those that the run begins with.
            held_out: photos to validate on.

        Raises:
            ValueError: windows of a size that the encoder does not accept.
        """
        self.recipe, self.photos, self.held_out = recipe, photos, held_out
        self.pool = Pool([photos], recipe.windows)
        self.model, self.heads = sam, nn.ModuleList()
        sam.prompt_encoder.requires_grad_(recipe.decoder)
        sam.mask_decoder.requires_grad_(recipe.decoder)
        own = int(sam.image_encoder.img_size)
        self._stretch = isinstance(sam, StretchedSam)
        whole = not (takes_any_size(sam) or self._stretch)
        self._size_px = recipe.window_px or (256 if takes_any_size(sam) else own)
        if (whole and self._size_px != own) or self._size_px % STRIDE or self._size_px > own:
            right = f"{own}" if whole else f"a multiple of {STRIDE} up to {own}"
            raise ValueError(f"windows of {self._size_px} px: {recipe.student} reads {right} px")
        self._frame_px = self._size_px if self._stretch else own
        self._enlarge = own / self._frame_px

    def __len__(self) -> int:
        return -(-len(self.photos) // self.recipe.windows)

    def batch(self, index: int) -> Batch:
        """Return windows or whole frames, with prompts in the model's pixels and masks."""
        recipe = self.recipe
        self.pool.move(index)
        batch = make_batch(
            self.pool.sources[0],
            np.random.default_rng([recipe.seed, index]),
            windows=recipe.windows,
            size_px=self._size_px,
            frame_px=self._frame_px,
            prompts=recipe.prompts,
            scale=recipe.scale,
            box_share=recipe.box_share,
            stretch=self._stretch,
        )
        return replace(batch, prompts=replace(batch.prompts, points_px=batch.prompts.points_px * self._enlarge))

    def optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW of what learns; norms, biases and single vectors do not decay."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group | {"part": "encoder"} for group in groups], lr=0.0, betas=(0.9, 0.999))

    def rates(self, step: int) -> Mapping[str, float]:
        """Return the learning rate of an update: linear decay."""
        return {"encoder": self.recipe.rate * (1 - step / self.recipe.steps)}

    def loss(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute cross entropy and Dice of the best of three masks and of the single one, and `iou` of the best.

        Where the decoder learns, its estimates count, too: their squared error.
        """
        recipe, sam = self.recipe, self.model
        inside = batch.inside.flip(1)
        with recipe.mixed(batch.rgb.device):
            embeddings = sam.image_encoder(normalised(sam, batch.rgb, inside))
            logits, estimates = decode(
                sam, embeddings, window_pe(sam, batch.cells, *embeddings.shape[-2:]), batch.prompts
            )
        photo = shown(-(-inside // 4), batch.targets.shape[-1])[batch.prompts.window]
        single = torch.where(batch.is_box, 1.0, recipe.single)
        loss, figures = mask_loss(logits, batch.targets, photo, single, recipe)
        if recipe.decoder:
            truth = batch.targets.unsqueeze(1).expand_as(logits) * photo
            loss = loss + F.mse_loss(estimates, mask_iou(logits.detach().masked_fill(~photo, OUTSIDE), truth))
        return loss, figures

    def validate(self, model: nn.Module) -> Validation | None:
        """Measure best-of-three IoU with one interior point and with one box per mask; the score is their mean."""
        if not self.held_out:
            return None
        sam = model.to("cpu")
        figures = {kind: best_of_three(sam, self.held_out, kind) for kind in ("point", "box")}
        return Validation(float(np.mean(list(figures.values()))), figures)


def mask_loss(
    logits: torch.Tensor, targets: torch.Tensor, photo: torch.Tensor, single: torch.Tensor, recipe: FinetuneRecipe
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """Compute binary cross entropy plus Dice of the best alternative, of the mean of the three, and of the single mask.

    Args:
        logits: (P, 4, h, w); mask 0 is the single one.
        targets: (P, h, w) in [0, 1].
        photo: (P, 1, h, w) bool, pixels of the photo; padding does not count.
        single: (P,) weight of the single mask.
        recipe: recipe with the weights of the loss.

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

"""Make the batch and compute the loss of one training step of a promptable SAM, with its second round of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch.nn import functional as F

from aopsam.training.affinity import Affinity
from aopsam.training.annotated import Annotated
from aopsam.training.build_sam import FRAME_PX
from aopsam.training.decode import NEGATIVE, POINT, STRIDE, Prompts, decode, window_pe
from aopsam.training.losses import prompt_loss
from aopsam.training.memory import dense_batch
from aopsam.training.recipes import SamRecipe
from aopsam.training.views import normalised
from aopsam.training.windows import Batch, make_batch


def step_batch(photos: Sequence[Annotated], recipe: SamRecipe, step: int, index: int) -> Batch:
    """Return batch number `index` of the whole run, for update `step`; it depends only on the seed and these numbers.

    All batches of an update are windows, or all are whole frames, so that no worker waits long for another.

    Args:
        photos: photos to cut from, each a `Decoded`.
        recipe: hyper-parameters.
        step: number of the update.
        index: number of the batch.
    """
    rng = np.random.default_rng([recipe.seed, 1, index])
    if step < recipe.dense_steps:
        sizes = {"windows": recipe.dense_windows, "size_px": recipe.window_px, "frame_px": FRAME_PX}
        return dense_batch(photos, rng, **sizes, masks=recipe.prompts, scale=recipe.scale)
    whole = np.random.default_rng([recipe.seed, step]).random() < _phase(recipe, step, recipe.frame_share)
    return make_batch(
        photos,
        rng,
        windows=recipe.frames if whole else recipe.windows,
        size_px=FRAME_PX if whole else recipe.window_px,
        frame_px=FRAME_PX,
        prompts=recipe.frame_prompts if whole else recipe.prompts,
        scale=recipe.frame_scale if whole else recipe.scale,
        box_share=recipe.box_share,
    )


def _phase(recipe: SamRecipe, step: int, pair: tuple[float, float]) -> float:
    return pair[step >= recipe.late * recipe.steps]


def step_loss(
    sam: Sam, affinity: Affinity, batch: Batch, recipe: SamRecipe, step: int, generator: torch.Generator
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """Compute the loss of a batch, and figures for the logs.

    Args:
        sam: the model.
        affinity: head of the dense loss.
        batch: of `step_batch`, on the model's device.
        recipe: hyper-parameters.
        step: number of the update.
        generator: source of all random draws, on the CPU.

    Returns:
        The loss, and `alike` (IoU of the dense loss's best regions), `edge` (loss of the edge head), and where the
        decoder learns, `iou` of each prompt's best mask in the first round; all means.
    """
    with recipe.mixed(batch.rgb.device):
        embeddings, edges = sam.image_encoder.embed(normalised(sam, batch.rgb, batch.inside.flip(1)))
    dense, alike = affinity(embeddings, batch.prompts.window, batch.targets, generator)
    edge = edge_loss(edges[:, 0].float(), batch.edges)
    logged = {"alike": alike.mean(), "edge": edge}
    if step < recipe.dense_steps:
        return dense + recipe.edge_loss * edge, logged
    prompted, iou = _prompted_loss(sam, embeddings, batch, recipe, step, generator)
    return recipe.affinity * dense + recipe.edge_loss * edge + prompted, logged | {"iou": iou.mean()}


def edge_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the mean cross entropy with a teacher's probabilities, less the teacher's own entropy.

    Args:
        logits: (W, h, w).
        target: (W, h, w) in [0, 1]; below 0 where there is none, which does not count.
    """
    known = target >= 0
    target = target.clamp(1e-3, 1 - 1e-3)
    entropy = -(target * target.log() + (1 - target) * (1 - target).log())
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none") - entropy
    return (cross * known).sum() / known.sum().clamp_min(1)


def _prompted_loss(
    sam: Sam, embeddings: torch.Tensor, batch: Batch, recipe: SamRecipe, step: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss of the prompts' masks, and the (P,) IoU of each prompt's best mask in the first round."""
    device = batch.rgb.device
    single = torch.where(batch.is_box, 1.0, 0.15)
    correct = torch.rand((), generator=generator) < _phase(recipe, step, recipe.correction_share)
    with recipe.mixed(device):
        pe = window_pe(sam, batch.cells, *embeddings.shape[-2:])
        logits, estimates = decode(sam, embeddings, pe, batch.prompts)
    weights = {"others": recipe.others, "estimate": recipe.estimate}
    loss, iou = prompt_loss(logits, estimates, batch.targets, single, **weights)
    if correct:
        prompts, mask_input, kept = correction(batch, logits.detach(), iou, generator)
        with recipe.mixed(device):
            logits, estimates = decode(sam, embeddings, pe, prompts, mask_input)
        equal = torch.ones(len(kept), device=kept.device)
        second, _ = prompt_loss(logits, estimates, batch.targets[kept], equal, **weights)
        loss = loss + second * (len(kept) / len(iou))
    return loss, iou


def correction(
    batch: Batch, logits: torch.Tensor, iou: torch.Tensor, generator: torch.Generator
) -> tuple[Prompts, torch.Tensor, torch.Tensor]:
    """Make second-round prompts for a third of the prompts: first prompt, click on an error of the best mask, the mask.

    Args:
        batch: batch of the first round.
        logits: (P, 4, h, w) of the first round.
        iou: (P,) IoU of the best alternative in the first round.
        generator: source of the random choice of prompts and clicks, on the CPU.

    Returns:
        K prompts of three points, their (K, 1, h, w) mask input, and their (K,) indices in the batch.
    """
    erring = torch.nonzero(iou < 0.95)[:, 0]
    kept = erring[torch.randperm(len(erring), generator=generator)[: max(1, len(iou) // 3)].to(erring.device)]
    if not len(kept):
        kept = torch.zeros(1, dtype=torch.int64, device=iou.device)
    truth = batch.targets[kept]
    best = (logits[kept, 1:].sigmoid() - truth.unsqueeze(1)).abs().sum((-1, -2)).argmin(1)
    mask_input = logits[kept, 1 + best]
    error = ((mask_input > 0) != (truth > 0.5)).float().flatten(1) + 1e-6
    # Drawn on the CPU, where the generator is, so that a GPU gets the same clicks.
    pick = torch.multinomial(error.cpu(), 1, generator=generator)[:, 0].to(error.device)
    width = truth.shape[-1]
    click = torch.stack([pick % width, pick // width], dim=1) * 4 + 1.5
    click = click + batch.cells[batch.prompts.window[kept]] * STRIDE
    label = torch.where(truth.flatten(1).gather(1, pick[:, None]) > 0.5, POINT, NEGATIVE)
    first = batch.prompts
    prompts = Prompts(
        first.window[kept],
        torch.cat([first.points_px[kept], click.unsqueeze(1).float()], dim=1),
        torch.cat([first.labels[kept], label], dim=1),
    )
    return prompts, mask_input.unsqueeze(1), kept

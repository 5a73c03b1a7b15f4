"""Make the batch and compute the loss of one training step of a promptable SAM, with its second round of prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from segment_anything.modeling import Sam

from aopsam.training.affinity import Affinity
from aopsam.training.annotated import Annotated
from aopsam.training.decode import NEGATIVE, POINT, STRIDE, Prompts, decode, window_pe
from aopsam.training.losses import prompt_loss
from aopsam.training.sam_recipe import FRAME_PX, SamRecipe
from aopsam.training.windows import Batch, make_batch


def step_batch(photos: Sequence[Annotated], recipe: SamRecipe, step: int, index: int) -> Batch:
    """Return batch number `index` of the whole run, for update `step`; it depends only on the seed and these numbers.

    All batches of an update are windows, or all are whole frames, so that no worker waits long for another.
    """
    dense = step < recipe.dense_steps
    share = 0.0 if dense else _phase(recipe, step, recipe.frame_share)
    whole = np.random.default_rng([recipe.seed, step]).random() < share
    return make_batch(
        photos,
        np.random.default_rng([recipe.seed, 1, index]),
        windows=recipe.dense_windows if dense else recipe.frames if whole else recipe.windows,
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
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss of a batch, and the (P,) IoU of each prompt's best mask in the first round.

    In the dense share of the run, it is the IoU of the auxiliary loss's best region.
    """
    device = batch.rgb.device
    pixels = (batch.rgb.float() - sam.pixel_mean) / sam.pixel_std
    size = pixels.shape[-1]
    across = torch.arange(size, device=device)
    photo = (across < batch.inside[:, 1:, None]).transpose(1, 2) & (across < batch.inside[:, :1, None])
    pixels = (pixels * photo.unsqueeze(1)).contiguous(memory_format=torch.channels_last)
    single = torch.where(batch.is_box, 1.0, 0.15)
    correct = torch.rand((), generator=generator) < _phase(recipe, step, recipe.correction_share)
    with recipe.mixed(device):
        embeddings = sam.image_encoder(pixels)
    dense, alike = affinity(embeddings, batch.prompts.window, batch.targets, generator)
    if step < recipe.dense_steps:
        return dense, alike
    with recipe.mixed(device):
        pe = window_pe(sam, batch.cells, *embeddings.shape[-2:])
        logits, estimates = decode(sam, embeddings, pe, batch.prompts)
    weights = {"others": recipe.others, "estimate": recipe.estimate}
    loss, iou = prompt_loss(logits, estimates, batch.targets, single, **weights)
    loss = loss + recipe.affinity * dense
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

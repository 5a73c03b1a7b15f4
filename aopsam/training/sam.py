"""Train a promptable SAM from annotated photos; the loop runs without Ray."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from aopsam.training.affinity import Affinity
from aopsam.training.annotated import Annotated
from aopsam.training.checkpoint import Average, load_checkpoint, save_checkpoint
from aopsam.training.sam_recipe import SamRecipe, build_sam, make_optimizer
from aopsam.training.sam_step import StepBatches, step_loss

LINE_EVERY = 50
"""Steps between lines of `steps.jsonl`, each a mean over them."""


def train_sam(
    recipe: SamRecipe,
    photos: Sequence[Annotated],
    out: Path,
    *,
    start: Mapping[str, torch.Tensor] | None = None,
    stop_at: int | None = None,
    checkpoint_every: int = 500,
    loader_workers: int = 1,
    rank: int = 0,
    device: str = "cpu",
    on_checkpoint: Callable[[Path, dict[str, float]], None] | None = None,
) -> Sam:
    """Train, or go on where `out` holds a checkpoint; return the averaged model on the CPU, in eval mode.

    Args:
        recipe: what to do.
        photos: what to train on.
        out: folder for `checkpoint.pt` and `steps.jsonl` (one line each 50 steps).
        start: a state dict of the recipe's model, to begin with where `out` holds no checkpoint.
        stop_at: stop before this step, as a kill would, after a checkpoint.
        checkpoint_every: steps between checkpoints.
        loader_workers: processes that cut windows; 0 cuts them between the steps.
        rank: this worker's number, where `torch.distributed` runs; gradients are averaged over workers.
        device: where the model trains; batches are the same everywhere.
        on_checkpoint: called with the folder and {step, loss, iou} after each checkpoint.
    """
    sam, affinity, average, optimizer, first, generator = _start(recipe, out, start, rank, torch.device(device))
    last = recipe.steps if stop_at is None else min(stop_at, recipe.steps)
    loader = DataLoader(
        StepBatches(photos, recipe, rank),
        batch_size=None,
        sampler=range(first, last),
        num_workers=loader_workers,
        prefetch_factor=4 if loader_workers else None,
    )
    out.mkdir(parents=True, exist_ok=True)
    losses: deque[float] = deque(maxlen=LINE_EVERY)
    ious: deque[float] = deque(maxlen=LINE_EVERY)
    began = time.monotonic()
    for step, batch in zip(range(first, last), loader, strict=True):
        rates = recipe.rates(step)
        for group in optimizer.param_groups:
            group["lr"] = rates[group["part"]]
        loss, iou = step_loss(sam, affinity, batch.to(sam.device), recipe, step, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _share_gradients(sam)
        nn.utils.clip_grad_norm_(sam.parameters(), recipe.clip)
        optimizer.step()
        average.update(sam)
        losses.append(loss.item())
        ious.append(iou.mean().item())
        if (step + 1) % LINE_EVERY == 0 and rank == 0:
            line = {"step": step + 1, **_recent(losses, ious), "seconds": time.monotonic() - began}
            with (out / "steps.jsonl").open("a") as log:
                log.write(json.dumps({name: round(value, 4) for name, value in line.items()}) + "\n")
        if (step + 1) % checkpoint_every == 0 or step + 1 == last:
            save_checkpoint(out, _state(recipe, step + 1, sam, affinity, average, optimizer, generator))
            if on_checkpoint is not None:
                on_checkpoint(out, {"step": step + 1, **_recent(losses, ious)})
    sam.load_state_dict(average.values)
    return sam.cpu().eval()


def _recent(losses: deque[float], ious: deque[float]) -> dict[str, float]:
    return {"loss": float(np.mean(losses)), "iou": float(np.mean(ious))}


def _start(
    recipe: SamRecipe, folder: Path, start: Mapping[str, torch.Tensor] | None, rank: int, device: torch.device
) -> tuple[Sam, Affinity, Average, torch.optim.AdamW, int, torch.Generator]:
    """Model in training mode, its average, optimizer, the next step, and the generator of correction clicks."""
    sam = build_sam(recipe)
    if start is not None:
        sam.load_state_dict(start)
    sam = sam.train().to(device, memory_format=torch.channels_last)
    average = Average(sam, recipe.average)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        affinity = Affinity().to(device)
    optimizer = make_optimizer(sam, affinity, recipe)
    generator = torch.Generator().manual_seed(recipe.seed * 1000 + rank)
    state = load_checkpoint(folder)
    if state is None:
        return sam, affinity, average, optimizer, 0, generator
    same = {k: v for k, v in asdict(recipe).items() if k != "steps"}
    then = {k: v for k, v in state["recipe"].items() if k != "steps"}
    if different := {k: (then.get(k), v) for k, v in same.items() if then.get(k) != v}:
        raise ValueError(f"{folder}: checkpoint of another recipe, (then, now): {different}; use a new folder")
    sam.load_state_dict(state["sam"])
    affinity.load_state_dict(state["affinity"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    return sam, affinity, average, optimizer, int(state["step"]), generator


def _state(
    recipe: SamRecipe,
    step: int,
    sam: Sam,
    affinity: Affinity,
    average: Average,
    optimizer: torch.optim.AdamW,
    generator: torch.Generator,
) -> dict[str, Any]:
    return {
        "recipe": asdict(recipe),
        "step": step,
        "sam": sam.state_dict(),
        "affinity": affinity.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
    }


def _share_gradients(sam: Sam) -> None:
    """Average gradients over the workers, one message for all of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gradients = [p.grad for p in sam.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))

"""Train the Prompt Predictor on prompt maps, on any map-style dataset."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from aopsam.predictor.frame import normalise
from aopsam.predictor.network import PromptPredictor
from aopsam.training.checkpoint import Average, load_checkpoint, save_checkpoint


class PromptMaps(Protocol):
    """A map-style dataset of prompt maps; `stages.prompt_map_rows.PromptMapRows` is one."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`image` (S, S, 3) uint8, `content_hw` (2,) int, `embedding` (C, h, w) float16, `map` (S, S) float16,
        `valid` (S, S) uint8, `weight` () float32."""


@dataclass(frozen=True)
class PredictorRecipe:
    """Hyper-parameters; the defaults made the bundled predictor.

    The paper: MSE, Adam, gradient accumulation, 1000 epochs; its learning rate is missing from the text.
    """

    steps: int = 500
    """Updates of the weights."""
    batch: int = 8
    """Rows in memory at once on each worker."""
    accumulate: int = 2
    """Batches to one update."""
    learning_rate: float = 2e-3
    """Peak; after a linear warm-up it falls along a cosine to 0."""
    warmup: int = 100
    """Updates of the warm-up."""
    ema: float = 0.99
    """Decay of the moving average of the weights, which is what is kept."""
    seed: int = 0
    checkpoint_every: int = 250
    """Updates between two checkpoints."""


def masked_mse(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the sigmoid map, every valid pixel of the batch worth the same.

    Args:
        logits: (B, 1, S, S).
        target: (B, S, S) in [0, 1].
        valid: (B, S, S), 0 where the annotation cannot tell.
        weight: (B,) of each row.

    Returns:
        Scalar: the sum over valid pixels, divided by all pixels of the batch. (Dividing by the valid ones alone would
        make a pixel of a sparsely annotated photo worth many of a fully annotated one.)
    """
    error = (logits[:, 0].sigmoid() - target).square() * valid
    return (error.mean(dim=(1, 2)) * weight).mean()


def row_indices(count: int, seed: int, start: int, length: int) -> list[int]:
    """Rows `start` to `start + length` of an endless stream of shuffled epochs, a function of its arguments alone."""
    order: dict[int, np.ndarray] = {}
    indices = []
    for position in range(start, start + length):
        epoch, place = divmod(position, count)
        if epoch not in order:
            order[epoch] = np.random.default_rng((seed, epoch)).permutation(count)
        indices.append(int(order[epoch][place]))
    return indices


def learning_rate(recipe: PredictorRecipe, step: int) -> float:
    """Linear warm-up, then half a cosine down to 0 at `recipe.steps`."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def train_predictor(
    dataset: PromptMaps,
    recipe: PredictorRecipe,
    directory: Path,
    *,
    rank: int = 0,
    world: int = 1,
    device: str = "cpu",
    on_checkpoint: Callable[[int, float], None] = lambda step, loss: None,
) -> PromptPredictor:
    """Train a predictor from scratch, or go on from the checkpoint in `directory`.

    Which rows an update sees depends on (seed, step, rank) alone, so that a resumed run ends with the weights of an
    unbroken one, bit for bit on one kind of machine.

    Args:
        dataset: the rows; every worker sees all of them and takes its own.
        recipe: hyper-parameters; those of a checkpoint must be the same.
        directory: where `checkpoint.pt` is read from, and written to by rank 0.
        rank: of this worker.
        world: number of workers; above 1, `torch.distributed` must be initialised.
        device: torch device that it trains on.
        on_checkpoint: called on every worker, after the file is written, with the step and the mean loss since the
            last call.

    Returns:
        The moving average of the weights, eval mode.

    Raises:
        ValueError: the dataset is empty, the checkpoint belongs to another recipe, or the loss is not finite.
    """
    if len(dataset) == 0:
        raise ValueError("no prompt maps to train on")
    torch.manual_seed(recipe.seed)
    # On a CPU, channels last takes a quarter off an update. (bfloat16 as well would halve it, but torch 2.13 then
    # returns NaN for the weights' gradient of the dilated convolutions.)
    predictor = PromptPredictor(dataset[0]["embedding"].shape[0]).to(device).train()
    predictor.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(predictor, recipe.ema)
    optimizer = torch.optim.Adam(predictor.parameters(), lr=recipe.learning_rate)
    first = 0
    state = load_checkpoint(directory)
    if state is not None:
        _check_recipe(state["recipe"], recipe, directory)
        predictor.load_state_dict(state["predictor"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    model = DistributedDataParallel(predictor) if world > 1 else predictor
    per_update = recipe.batch * recipe.accumulate
    total, count = 0.0, 0
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        rows = row_indices(len(dataset), recipe.seed, (step * world + rank) * per_update, per_update)
        for start in range(0, per_update, recipe.batch):
            batch = collate([dataset[row] for row in rows[start : start + recipe.batch]], device)
            image = batch["image"].contiguous(memory_format=torch.channels_last)
            logits = model(image, batch["embedding"])
            loss = masked_mse(logits, batch["map"], batch["valid"], batch["weight"])
            (loss / recipe.accumulate).backward()
            total, count = total + float(loss.detach()), count + 1
        optimizer.step()
        optimizer.zero_grad()
        average.update(predictor)
        if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.steps:
            if not math.isfinite(total):
                raise ValueError(f"the loss is {total} at step {step + 1}; lower the learning rate of {recipe}")
            if rank == 0:
                state = {
                    "step": step + 1,
                    "recipe": asdict(recipe),
                    "predictor": predictor.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                }
                save_checkpoint(directory, state)
            on_checkpoint(step + 1, total / count)
            total, count = 0.0, 0
    predictor.load_state_dict(average.values)
    predictor.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return predictor.eval()


def _check_recipe(trained: dict[str, Any], recipe: PredictorRecipe, directory: Path) -> None:
    for name, value in asdict(recipe).items():
        if trained.get(name) != value:
            raise ValueError(
                f"{directory}: holds a checkpoint trained with {name}={trained.get(name)!r}, not {value!r};"
                " give another directory or the same recipe"
            )


def collate(rows: list[dict[str, np.ndarray]], device: str) -> dict[str, torch.Tensor]:
    """Stack rows into a batch: images normalised (B, 3, S, S), everything float32."""
    stacked = {name: torch.from_numpy(np.stack([row[name] for row in rows])).to(device) for name in rows[0]}
    image = normalise(stacked["image"], stacked["content_hw"])
    return {"image": image} | {name: stacked[name].float() for name in ("embedding", "map", "valid", "weight")}

"""Run the training loop of any task: updates, workers, average, checkpoints, resume, validation, logs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset

from aopsam.training.checkpoint import Average, load_checkpoint, save_checkpoint
from aopsam.training.log import Log
from aopsam.training.task import Batch, Task, Validation

LINE_EVERY = 10
"""Updates per line of the log, which is their mean."""


@dataclass(frozen=True)
class Worker:
    """Rank of a worker, number of workers (more than one under `torch.distributed`), and its device."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Reports:
    """Receivers of a run's figures, besides its folder.

    Attributes:
        log: called with the number of updates done and the figures, for every line of the log.
        checkpoint: called with the same after every checkpoint, on every worker.
        problem: called with a line for every problem in photos that are read while the run goes on.
        curves: folder or URI for TensorBoard.
    """

    log: Callable[[int, Mapping[str, float]], None] = lambda step, figures: None
    checkpoint: Callable[[int, Mapping[str, float]], None] = lambda step, figures: None
    problem: Callable[[str], None] = lambda line: None
    curves: str | None = None


def train(
    task: Task,
    folder: Path,
    *,
    worker: Worker | None = None,
    stop_at: int | None = None,
    checkpoint_every: int = 500,
    validate_every: int | None = None,
    loader_workers: int = 1,
    reports: Reports | None = None,
) -> dict[str, torch.Tensor]:
    """Train a task, resuming from the checkpoint in `folder` if there is one.

    The data of an update depend only on the recipe and the update's number, so that a resumed run ends with the weights
    of an unbroken one, bit for bit on the same kind of machine with as many workers.

    Args:
        task: training to run.
        folder: folder of `checkpoint.pt` and `steps.jsonl` (one line per ten updates); written by the first worker.
        worker: this worker; by default the only one, on the CPU.
        stop_at: update to stop before, after a checkpoint.
        checkpoint_every: updates between checkpoints.
        validate_every: updates between validations; an epoch by default.
        loader_workers: processes that make batches; with 0, this process makes them between updates.
        reports: who is told of the run besides its folder.

    Returns:
        The weights to keep: those of the best validation, else the average at the end.

    Raises:
        ValueError: the checkpoint belongs to another recipe, or the loss is not finite.
    """
    worker, reports = worker or Worker(), reports or Reports()
    run = Run(task, worker)
    first = run.restore(folder)
    recipe = task.recipe
    last = recipe.steps if stop_at is None else min(stop_at, recipe.steps)
    every = validate_every or max(1, len(task) // (worker.world * recipe.accumulate))
    log = Log(folder, reports.curves, first) if worker.rank == 0 else None
    batches = run.batches(first, last, loader_workers)
    recent: list[Mapping[str, float]] = []
    for step in range(first, last):
        recent.append(run.update(step, batches))
        done, end = step + 1, step + 1 == last
        figures = {name: sum(line[name] for line in recent) / len(recent) for name in recent[0]}
        if done % LINE_EVERY == 0 or end:
            if not math.isfinite(figures["loss"]):
                raise ValueError(f"the loss is {figures['loss']} at step {done}; lower the learning rate of {recipe}")
            if log is not None:
                log.figures(done, figures, "train")
                reports.log(done, figures)
                for line in task.pool.news() if task.pool is not None else ():
                    log.problem(done, line)
                    reports.problem(line)
            recent = []
        if worker.rank == 0 and (done % every == 0 or done == recipe.steps):
            validation = run.validate(done)
            if log is not None and validation is not None:
                log.figures(done, validation.figures, "validation")
                log.pictures(done, validation.pictures)
        if done % checkpoint_every == 0 or end:
            if worker.rank == 0:
                save_checkpoint(folder, run.state(done))
            reports.checkpoint(done, figures)
    if log is not None:
        log.close()
    return kept_weights(run.state(last))


def kept_weights(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights to keep of a checkpoint: those of the best validation, else the average, on the CPU."""
    values = state["average"]["values"] if state["best"] is None else state["best"]["values"]
    return {name: tensor.cpu() for name, tensor in values.items()}


class Run:
    """State of a training run: model, heads, average, optimizer, and the best validation so far."""

    def __init__(self, task: Task, worker: Worker) -> None:
        self.task, self.worker = task, worker
        device = torch.device(worker.device)
        # Convolutions are faster with channels last, on a CPU too.
        task.model.train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        task.heads.train().to(device)
        self.device = device
        self.average = Average(task.model, task.recipe.average)
        self.optimizer = task.optimizer()
        self.best: dict[str, Any] | None = None
        self._pool_state: dict[str, Any] | None = None

    def batches(self, first: int, last: int, loader_workers: int) -> Iterator[tuple[int, Batch]]:
        """Return this worker's batches of the updates `first` to `last`, with their numbers."""
        per_worker = self.task.recipe.accumulate
        if self.task.pool is not None:
            self.task.pool.begin(first, self.worker.world * per_worker, self._pool_state)
        indices = [
            (step * self.worker.world + self.worker.rank) * per_worker + place
            for step in range(first, last)
            for place in range(per_worker)
        ]
        loader = DataLoader(
            _Batches(self.task),
            batch_size=None,
            sampler=indices,
            num_workers=loader_workers if indices else 0,
            prefetch_factor=4 if loader_workers and indices else None,
        )
        return zip(indices, loader, strict=True)

    def update(self, step: int, batches: Iterator[tuple[int, Batch]]) -> dict[str, float]:
        """Run one update on the next batches, and return the mean figures of its losses."""
        recipe = self.task.recipe
        rates = self.task.rates(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rates[group["part"]]
        self.optimizer.zero_grad(set_to_none=True)
        figures: dict[str, float] = {}
        for _ in range(recipe.accumulate):
            index, batch = next(batches)
            draw = recipe.seed * 2**32 + index
            torch.manual_seed(draw)  # for layers with their own random draws, such as dropout
            loss, logged = self.task.loss(batch.to(self.device), step, torch.Generator().manual_seed(draw))
            (loss / recipe.accumulate).backward()
            for name, value in ({"loss": loss} | dict(logged)).items():
                figures[name] = figures.get(name, 0.0) + float(value.detach()) / recipe.accumulate
        self._share(figures)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_([p for part in self._modules for p in part.parameters()], recipe.clip)
        self.optimizer.step()
        self.average.update(self.task.model)
        return figures

    @property
    def _modules(self) -> tuple[nn.Module, nn.Module]:
        return self.task.model, self.task.heads

    def _share(self, figures: dict[str, float]) -> None:
        """Average gradients, running statistics and figures over the workers, in one message.

        Batch normalisation uses the statistics of each batch alone, with any number of workers.
        """
        if self.worker.world == 1:
            return
        shared = [p.grad for part in self._modules for p in part.parameters() if p.grad is not None]
        shared += [b for part in self._modules for b in part.buffers() if b.is_floating_point()]
        shared.append(torch.tensor(list(figures.values()), device=self.device))
        flat = torch.cat([tensor.flatten() for tensor in shared])
        dist.all_reduce(flat)
        flat /= self.worker.world
        for tensor, part in zip(shared, flat.split([tensor.numel() for tensor in shared]), strict=True):
            tensor.copy_(part.view_as(tensor))
        figures.update(zip(figures, shared[-1].tolist(), strict=True))

    def validate(self, done: int) -> Validation | None:
        """Validate the averaged weights, and keep them if they are the best so far."""
        model = copy.deepcopy(self.task.model)
        model.load_state_dict(self.average.values)
        validation = self.task.validate(model.eval())
        if validation is not None and (self.best is None or validation.score > self.best["score"]):
            values = {name: tensor.cpu().clone() for name, tensor in self.average.values.items()}
            self.best = {"step": done, "score": float(validation.score), "values": values}
        return validation

    def state(self, done: int) -> dict[str, Any]:
        """Return all state that the next update depends on; random numbers depend only on the update's number."""
        return {
            "recipe": asdict(self.task.recipe),
            "step": done,
            "model": self.task.model.state_dict(),
            "heads": self.task.heads.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "pool": None if self.task.pool is None else self.task.pool.state(done),
        }

    def restore(self, folder: Path) -> int:
        """Load the checkpoint of a folder, if there is one, and return the number of updates already done.

        Raises:
            ValueError: the checkpoint belongs to another recipe.
        """
        state = load_checkpoint(folder)
        if state is None:
            return 0
        then, now = state["recipe"], asdict(self.task.recipe)
        different = {
            name: (then.get(name), now.get(name))
            for name in sorted((then.keys() | now.keys()) - {"steps"})
            if then.get(name) != now.get(name)
        }
        if different:
            raise ValueError(
                f"{folder}: checkpoint of another recipe, (then, now): {different};"
                " give another directory or the same recipe"
            )
        self.task.model.load_state_dict(state["model"])
        self.task.heads.load_state_dict(state["heads"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self._pool_state = state.get("pool")  # older checkpoints have none
        return int(state["step"])


class _Batches(Dataset[Batch]):
    def __init__(self, task: Task) -> None:
        self.task = task

    def __getitem__(self, index: int) -> Batch:
        return self.task.batch(index)

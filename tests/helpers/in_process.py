"""Ray's part of a run, done in this process: the same steps, one unit after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pytest
import torch
from ray import cloudpickle

from aopsam.training.task import Task
from aopsam.training.trainer import Reports, train
from stages.engine.journal import Lost
from stages.engine.resources import Resources
from stages.engine.steps import Actors, Gather, Tasks
from stages.train.arguments import TrainingArguments


class WorkerDeath(BaseException):
    """Stands for what ends a worker's process: nothing in it can catch that."""


def run_here(units: Iterable[pa.Table], steps: Sequence[Tasks | Actors | Gather]) -> Iterator[pa.Table]:
    """Run steps here as `stages.engine.steps.run_steps` does; see `WorkerDeath`."""
    for step in steps:
        if isinstance(step, Tasks):
            units = chain.from_iterable(map(step.read, units))
        else:
            units = _gather(units, step) if isinstance(step, Gather) else _act(units, step)
    yield from units


def _gather(units: Iterable[pa.Table], step: Gather) -> Iterator[pa.Table]:
    waiting = iter(units)
    while some := list(islice(waiting, step.units)):
        yield from step.write(some)


def _act(units: Iterable[pa.Table], step: Actors) -> Iterator[pa.Table]:
    stage: Any = None
    for unit in units:
        stage = stage or step.make()
        try:
            made = stage(unit)
        except WorkerDeath:
            made = pa.concat_tables(_alone(stage, unit.slice(place, 1)) for place in range(unit.num_rows))
        yield made if step.finish is None else step.finish(made)


def _alone(stage: Any, item: pa.Table) -> pa.Table:
    try:
        return stage(item)
    except WorkerDeath:
        return stage.give_up(item, Lost.DIED)


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every job run here; pipelines import them when they run."""
    rooms = ("label.run", "label.retry", "results.settle", "annotations.job", "edge_maps.run", "retrain.find")
    for room in rooms:
        monkeypatch.setattr(import_module(f"stages.{room}"), "run_steps", run_here)
    for module in ("stages.engine.resources", "stages.results.settle"):
        monkeypatch.setattr(import_module(module), "start", lambda *_, **__: Resources(1, 1, "cpu"))


def train_here(
    name: str, make: Callable[[], Task], task: Task, arguments: TrainingArguments
) -> dict[str, torch.Tensor]:
    """Train in this process as `stages.train.on_ray.train_on_ray` does with one worker, to which `make` travels."""
    task = cloudpickle.loads(cloudpickle.dumps(make))()
    folder = Path(mkdtemp() if "://" in arguments.out else arguments.out) / "train"
    every = {"checkpoint_every": arguments.checkpoint_every, "validate_every": arguments.validate_every}
    reports = Reports(problem=lambda line: print(f"left out: {line}", file=sys.stderr))
    return train(task, folder, loader_workers=0, reports=reports, **every)


def training_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every training pipeline train here."""
    for module in ("stages.train.on_ray", "stages.retrain.learn"):
        monkeypatch.setattr(import_module(module), "train_on_ray", train_here)

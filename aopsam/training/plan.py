"""Estimate time and memory of a training run from some measured updates."""

from __future__ import annotations

import copy
import io
import resource
import time
from dataclasses import dataclass

import torch

from aopsam.training.task import Task
from aopsam.training.trainer import Run, Worker


@dataclass(frozen=True)
class Plan:
    """Cost of a run on machines like this one.

    Attributes:
        steps: updates of the whole run.
        measured: updates that were measured.
        seconds_step: seconds of an update, its batches included.
        steps_epoch: updates of an epoch, which shows every sample about once.
        peak_bytes: peak memory of this process so far.
        checkpoint_bytes: size of a checkpoint on disk.
    """

    steps: int
    measured: int
    seconds_step: float
    steps_epoch: int
    peak_bytes: int
    checkpoint_bytes: int

    def __str__(self) -> str:
        epoch, whole = self.steps_epoch * self.seconds_step, self.steps * self.seconds_step
        return (
            f"{self.steps} steps of {self.seconds_step:.2f} s ({self.measured} measured): {clock(whole)};"
            f" an epoch is {self.steps_epoch} steps, {clock(epoch)};"
            f" {self.peak_bytes / 2**20:.0f} MiB of memory a worker, {self.checkpoint_bytes / 2**20:.0f} MiB a"
            " checkpoint (validation is not counted)"
        )


def clock(seconds: float) -> str:
    """Format seconds as H:MM:SS."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def measure(task: Task, worker: Worker, seconds: float = 60.0, most: int = 100) -> Plan:
    """Measure updates for some seconds, at least three of which the first is not counted, and discard them.

    Args:
        task: training to measure; its model is not changed.
        worker: number of workers, and device.
        seconds: time to measure for.
        most: most updates to measure.
    """
    task = copy.copy(task)
    task.model, task.heads = copy.deepcopy(task.model), copy.deepcopy(task.heads)
    run = Run(task, Worker(0, 1, worker.device))
    # At the middle of a run: steps may be cheaper at its start or dearer at its end.
    middle = task.recipe.steps // 2
    batches = run.batches(middle, middle + most + 1, loader_workers=1)
    began = time.perf_counter()
    done = -1
    while done < 2 or (done < most and time.perf_counter() - began < seconds):
        run.update(middle, batches)
        done += 1
        if done == 0:
            began = time.perf_counter()
    each = (time.perf_counter() - began) / done
    buffer = io.BytesIO()
    torch.save(run.state(0), buffer)
    return Plan(
        steps=task.recipe.steps,
        measured=done,
        seconds_step=each,
        steps_epoch=max(1, len(task) // (worker.world * task.recipe.accumulate)),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        checkpoint_bytes=buffer.tell(),
    )

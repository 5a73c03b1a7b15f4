"""Two promises of the training loop, measured with the Prompt Predictor: workers are alike, and reading is free.

    python benchmarks/training_loop.py --maps MAPS --steps 50

1. Two workers against one with twice the accumulation: the largest relative difference of the loss of any update.
   The predictor has no batch normalisation; models that have one normalise every batch by itself.
2. Seconds of an update that reads its batches against one on a batch kept in memory, one worker, medians; in turns of
   BLOCK updates, of which the reader can have prepared few.

Exit status: 0 where the first is at most 1e-4 and the second's ratio at most 1.1; else 1.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from aopsam.training.predictor import PredictorTask
from aopsam.training.recipes import PredictorRecipe
from aopsam.training.trainer import Run, Worker
from stages.prompt_maps.rows import PromptMapRows

BLOCK = 25


def losses(task: PredictorTask, worker: Worker, steps: int) -> list[float]:
    """Train and return the loss of every update, averaged over the workers."""
    run = Run(task, worker)
    batches = run.batches(0, steps, loader_workers=1)
    return [run.update(step, batches)["loss"] for step in range(steps)]


def _one_of_two(rank: int, maps: Sequence[str], steps: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    task = PredictorTask(PromptMapRows(maps), PredictorRecipe(steps=steps, accumulate=1))
    found = losses(task, Worker(rank, 2), steps)
    if rank == 0:
        torch.save(torch.tensor(found), Path(folder) / "losses.pt")
    distributed.destroy_process_group()


def worst_difference(maps: Sequence[str], steps: int) -> float:
    """Return the largest relative difference of an update's loss between one worker and two."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_one_of_two, (maps, steps, folder), nprocs=2)
        two = torch.load(Path(folder) / "losses.pt", weights_only=True)
    task = PredictorTask(PromptMapRows(maps), PredictorRecipe(steps=steps, accumulate=2))
    one = torch.tensor(losses(task, Worker(), steps))
    return float(((two - one).abs() / one).max())


def seconds(maps: Sequence[str], steps: int) -> tuple[float, float]:
    """Measure the median seconds of an update that reads its batch, and of one that does not."""
    task = PredictorTask(PromptMapRows(maps), PredictorRecipe(steps=steps, accumulate=1))
    run = Run(task, Worker())
    reading = run.batches(0, steps, loader_workers=1)
    kept = next(run.batches(0, 1, loader_workers=0))
    timed: dict[str, list[float]] = {"reading": [], "kept": []}
    for start in range(0, steps, BLOCK):
        for name, batches in (("reading", reading), ("kept", repeat(kept))):
            for step in range(start, min(start + BLOCK, steps)):
                began = time.perf_counter()
                run.update(step, batches)
                timed[name].append(time.perf_counter() - began)
    return statistics.median(timed["reading"]), statistics.median(timed["kept"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", required=True, help="folders of prompt maps")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    worst = worst_difference(arguments.maps, arguments.steps)
    print(f"two workers against twice the accumulation, {arguments.steps} updates: at most {worst:.1e} apart")
    reading, kept = seconds(arguments.maps, arguments.steps)
    print(f"an update that reads {reading:.3f} s, on a batch in memory {kept:.3f} s: {reading / kept:.3f} times")
    return int(worst > 1e-4 or reading > 1.1 * kept)


if __name__ == "__main__":
    raise SystemExit(main())

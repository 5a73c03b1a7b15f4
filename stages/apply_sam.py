"""Train a promptable SAM on Ray Train: workers, checkpoints, resume."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ray.train
import torch
from ray.train.torch import TorchTrainer, get_device

from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, load_photos
from aopsam.training.checkpoint import load_checkpoint
from aopsam.training.sam import train_sam
from aopsam.training.sam_recipe import SamRecipe, build_sam
from stages.annotated import read_annotated

if TYPE_CHECKING:
    # A worker imports this file first, and segment_anything may only come after aopsam.
    from segment_anything.modeling import Sam


@dataclass(frozen=True)
class _Work:
    """What every worker is told."""

    shards: tuple[str, ...]
    recipe: SamRecipe
    start: str | None
    threads: int
    checkpoint_every: int


def read_photos(shards: Iterable[str], on_problem: Callable[[str], None] = lambda line: None) -> list[Annotated]:
    """All annotated photos of the shards, in memory; what is broken is a line to `on_problem`, and the rest is used."""
    return load_photos(shards, on_problem, read_annotated)


def train_on_ray(
    shards: Sequence[str],
    recipe: SamRecipe,
    out: str,
    *,
    start: str | None = None,
    workers: int,
    threads: int,
    use_gpu: bool,
    checkpoint_every: int,
) -> Sam:
    """Train, or go on from the last checkpoint in `out`; return the averaged model, in eval mode.

    Args:
        shards: as `stages.shards.list_shards` gives them, reachable from every worker.
        recipe: hyper-parameters of one worker; more workers see more windows a step.
        out: folder or URI; checkpoints go below `out`/train.
        start: file of `tiny`'s weights, on every node, to begin with where there is no checkpoint.
        workers: processes.
        threads: CPU threads of each.
        use_gpu: one GPU a worker.
        checkpoint_every: steps between checkpoints.
    """
    each = {"CPU": threads} | ({"GPU": 1} if use_gpu else {})
    trainer = TorchTrainer(
        _train,
        train_loop_config={"work": _Work(tuple(shards), recipe, start, threads, checkpoint_every)},
        scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=each),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=out,
            failure_config=ray.train.FailureConfig(max_failures=2),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    checkpoint = trainer.fit().checkpoint
    state = None
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state = load_checkpoint(Path(folder))
    if state is None:
        raise RuntimeError(f"{out}: training ended without a checkpoint")
    sam = build_sam(recipe)
    sam.load_state_dict(state["average"]["values"])
    return sam.eval()


def _train(config: dict[str, _Work]) -> None:
    """One worker."""
    work = config["work"]
    torch.set_num_threads(work.threads)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    with tempfile.TemporaryDirectory() as folder:
        last = ray.train.get_checkpoint()
        if last is not None:
            last.to_directory(folder)

        def report(path: Path, metrics: dict[str, float]) -> None:
            # Only rank 0 writes; the others report without a checkpoint, since Ray waits for a report from each.
            checkpoint = ray.train.Checkpoint.from_directory(str(path)) if rank == 0 else None
            ray.train.report(metrics, checkpoint=checkpoint)

        train_sam(
            work.recipe,
            read_photos(work.shards),
            Path(folder),
            start=None if work.start is None else load_sam("tiny", work.start).state_dict(),
            checkpoint_every=work.checkpoint_every,
            rank=rank,
            device=str(get_device()),
            on_checkpoint=report,
        )

"""Train the prompt predictor on Ray Train: workers, checkpoints, resume."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ray.train
import torch
from ray.train.torch import TorchTrainer, get_device

from aopsam.predictor.network import PromptPredictor
from aopsam.training.checkpoint import load_checkpoint
from aopsam.training.predictor import PredictorRecipe, train_predictor
from stages.prompt_map_rows import PromptMapRows

HOLD_OUT = 10
"""One photo in this many is not trained on."""


@dataclass(frozen=True)
class _Work:
    """What every worker is told."""

    folders: tuple[str, ...]
    recipe: PredictorRecipe
    threads: int


def train_on_ray(
    folders: Sequence[str], recipe: PredictorRecipe, out: str, *, workers: int, threads: int, use_gpu: bool
) -> PromptPredictor:
    """Train, or go on from the last checkpoint in `out`.

    Args:
        folders: of prompt maps, reachable from every worker.
        recipe: hyper-parameters of one worker; more workers see more rows an update.
        out: folder or URI; checkpoints go below `out`/train.
        workers: processes.
        threads: CPU threads of each.
        use_gpu: one GPU a worker.

    Returns:
        The trained predictor, its `sampling` not yet calibrated.
    """
    each = {"CPU": threads} | ({"GPU": 1} if use_gpu else {})
    trainer = TorchTrainer(
        _train,
        train_loop_config={"work": _Work(tuple(folders), recipe, threads)},
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
    predictor = PromptPredictor(state["predictor"]["embedding.weight"].shape[1])
    predictor.load_state_dict(state["average"]["values"])
    return predictor.eval()


def _train(config: dict[str, _Work]) -> None:
    """One worker."""
    work = config["work"]
    torch.set_num_threads(work.threads)
    rows, _ = PromptMapRows(work.folders).split(HOLD_OUT)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    with tempfile.TemporaryDirectory() as folder:
        last = ray.train.get_checkpoint()
        if last is not None:
            last.to_directory(folder)

        def report(step: int, loss: float) -> None:
            # Only rank 0 writes; the others report without a checkpoint, since Ray waits for a report from each.
            checkpoint = ray.train.Checkpoint.from_directory(folder) if rank == 0 else None
            ray.train.report({"step": step, "loss": loss}, checkpoint=checkpoint)

        train_predictor(
            rows,
            work.recipe,
            Path(folder),
            rank=rank,
            world=context.get_world_size(),
            device=str(get_device()),
            on_checkpoint=report,
        )

"""Train a task on Ray Train: the options, plan, workers and progress line that all training pipelines share."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from aopsam.training.checkpoint import load_checkpoint
from aopsam.training.plan import clock, measure
from aopsam.training.task import Task
from aopsam.training.trainer import Reports, Worker, kept_weights, train
from stages.engine.resources import start
from stages.storage.location import redact
from stages.train.arguments import TrainingArguments

RETRIES = 3
"""Dead workers that a run survives; each time all go on from the last checkpoint."""
POLL_SECONDS = 2.0
HEARTBEAT_SECONDS = 30.0


def train_on_ray(
    name: str, make: Callable[[], Task], task: Task, arguments: TrainingArguments
) -> dict[str, torch.Tensor] | None:
    """Train on Ray Train, or go on from the last checkpoint below `arguments.out`.

    Args:
        name: name of the pipeline, for its messages.
        make: builds the task in each worker; picklable.
        task: what `make` builds, already built here, so that mistakes show before Ray starts.
        arguments: options of the run.

    Returns:
        The weights to keep; None where only a plan was wanted.

    Raises:
        SystemExit: training failed; the message names the cause.
    """
    out = arguments.out.rstrip("/")
    resources = start(arguments.workers, arguments.threads)
    gpu = resources.device == "cuda"
    each = "one GPU" if gpu else f"{resources.threads} CPU thread(s)"
    if arguments.plan:
        here = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(resources.threads)
        plan = measure(task, Worker(0, arguments.workers, here))
        print(f"{name}: {arguments.workers} worker(s), {each} each; on one {here} here: {plan}")
        return None
    print(
        f"{arguments.workers} worker(s), {each} each; curves: tensorboard --logdir {redact(out)}/tensorboard\n"
        f"a checkpoint every {arguments.checkpoint_every} steps: after a stop, the same command goes on from the last",
        file=sys.stderr,
    )
    board = _Board.remote()  # type: ignore[attr-defined]
    settings = _WorkerSettings(
        make, f"{out}/tensorboard", resources.threads, arguments.checkpoint_every, arguments.validate_every, board
    )
    with _ProgressLine(board, task.recipe.steps):
        state = fit(settings, out, arguments.workers, gpu, name)
    step, best = state["step"], state["best"]
    print(f"{step} steps done" + ("" if best is None else f", best at {best['step']} ({best['score']:.4f})"))
    return kept_weights(state)


@dataclass(frozen=True)
class _WorkerSettings:
    """Settings of every worker."""

    make: Callable[[], Task]
    curves: str
    threads: int
    checkpoint_every: int
    validate_every: int | None
    board: Any
    device: str | None = None
    """Device of the worker; None for the one that Ray assigns."""


def fit(settings: _WorkerSettings, out: str, workers: int, gpu: bool, name: str) -> dict[str, Any]:
    """Run the workers to the end and return the state of the last checkpoint.

    Raises:
        SystemExit: training failed or left no checkpoint.
    """
    trainer = TorchTrainer(
        _train,
        train_loop_config={"settings": settings},
        torch_config=TorchConfig(backend="gloo") if settings.device == "cpu" else None,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": settings.threads} | ({"GPU": 1} if gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=out,
            failure_config=ray.train.FailureConfig(max_failures=RETRIES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        checkpoint = trainer.fit().checkpoint
    except ray.train.TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {0: error})
        causes = {str(cause).strip().splitlines()[-1] for cause in failures.values()}
        raise SystemExit(f"{name}: training failed: {'; '.join(sorted(causes))}") from error
    except SystemExit:  # how Ray Train's own handler ends the run at ctrl-C
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupted)  # it leaves its handler, which would swallow a later ctrl-C
    if checkpoint is None:
        raise SystemExit(f"{name}: training ended without a checkpoint in {redact(out)}/train")
    with checkpoint.as_directory() as folder:
        state = load_checkpoint(Path(folder))
    assert state is not None
    return state


def _train(config: Mapping[str, _WorkerSettings]) -> None:
    """Train in one worker, from the last checkpoint if there is one."""
    settings = config["settings"]
    torch.set_num_threads(settings.threads)
    context = ray.train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), settings.device or str(get_device()))
    with tempfile.TemporaryDirectory() as folder:
        last = ray.train.get_checkpoint()
        if last is not None:
            last.to_directory(folder)

        def report(step: int, figures: Mapping[str, float]) -> None:
            # Only the first writes; the others report without a checkpoint, since Ray waits for a report from each.
            checkpoint = ray.train.Checkpoint.from_directory(folder) if worker.rank == 0 else None
            ray.train.report({"step": step, **figures}, checkpoint=checkpoint)

        train(
            settings.make(),
            Path(folder),
            worker=worker,
            checkpoint_every=settings.checkpoint_every,
            validate_every=settings.validate_every,
            reports=Reports(
                log=lambda step, figures: settings.board.write.remote(step, dict(figures)),
                checkpoint=report,
                # Waited for: what is on its way when a worker ends is lost.
                problem=lambda line: ray.get(settings.board.leave_out.remote(line)),
                curves=settings.curves,
            ),
        )


@ray.remote(num_cpus=0)
class _Board:
    """Step and figures that the first worker logged last, and problems in photos."""

    def __init__(self) -> None:
        self.line: tuple[int, dict[str, float]] | None = None
        self.problems: list[str] = []

    def write(self, step: int, figures: dict[str, float]) -> None:
        self.line = step, figures

    def leave_out(self, problem: str) -> None:
        self.problems.append(problem)

    def read(self) -> tuple[tuple[int, dict[str, float]] | None, list[str]]:
        """Return the last line, and the problems since the last call."""
        problems, self.problems = self.problems, []
        return self.line, problems


class _ProgressLine:
    """Progress of a training while it is open: one line, updated, on a terminal; a line every 30 s elsewhere."""

    def __init__(self, board: Any, steps: int) -> None:
        self._board, self._steps = board, steps
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _tell(self) -> None:
        first: tuple[int, float] | None = None
        told = time.monotonic()
        terminal = sys.stderr.isatty()
        begin = "\r\x1b[K" if terminal else ""
        ended = False
        while not ended:
            ended = self._end.wait(POLL_SECONDS)
            line, problems = ray.get(self._board.read.remote())
            for problem in problems:
                print(f"{begin}left out: {problem}", file=sys.stderr, flush=True)
            if line is None or ended:
                continue
            now, (step, figures) = time.monotonic(), line
            first = first or (step, now)
            if not terminal and now - told < HEARTBEAT_SECONDS:
                continue
            told = now
            rate = (step - first[0]) / (now - first[1]) if now > first[1] else 0.0
            left = clock((self._steps - step) / rate) if rate else "?"
            shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            text = f"step {step} of {self._steps}, {shown}, {left} left"
            print(f"{begin}{text}", end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal and first is not None:
            print(file=sys.stderr)

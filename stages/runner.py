"""The one file that uses Ray Data: start Ray, say what a run may use, and run one kind of actor over tables.

Takes tables, each a unit of work, and a class of callables; gives the tables that the actors return.
"""

from __future__ import annotations

import gc
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import psutil
import pyarrow as pa
import ray
import ray.data
import torch

Stage = Callable[[pa.Table], pa.Table | Iterator[pa.Table]]
"""What an actor does to a table."""

MEMORY_OF_AN_ACTOR = 2 * 2**30
"""Bytes that one of the default actors without a GPU may need: processes, model, masks of a large photo."""

SMALL_BLOCK = 2**16
"""Bytes after which what a reader has read goes on to an actor: about a photo, so that all actors have work soon."""


SECONDS_TO_END = 10.0
"""Seconds that a run waits, at most, for its actors to end."""


@dataclass(frozen=True)
class Resources:
    """How a run uses the machine or cluster.

    Attributes:
        actors: processes, each with its own copy of the model.
        threads: CPU threads of an actor's model; also the logical CPUs that the actor asks of Ray.
        device: `cpu`, or `cuda` for one GPU an actor.
        readers: threads of an actor that open photos ahead of its model.
    """

    actors: int
    threads: int
    device: str
    readers: int = 2

    def __str__(self) -> str:
        return (
            f"{self.actors} actor(s) on {self.device}, {self.threads} CPU thread(s) each and {self.readers} that open"
            " photos"
        )


def start(actors: int | None = None, threads: int | None = None, units: int | None = None) -> Resources:
    """Join the cluster that RAY_ADDRESS names (`ray job submit` sets it), else start Ray on this machine, quietly.

    Returns:
        What the run may use: `choose_resources` of the arguments.

    Raises:
        SystemExit: Ray does not start; the message says why.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if not ray.is_initialized():
        try:
            _connect(actors or 1, threads or 1)
        except Exception as error:  # of many kinds, Ray's plainest is a bare Exception
            reason = " ".join(str(error).split())
            raise SystemExit(
                f"Ray did not start: {reason}; is the machine overloaded, or RAY_ADDRESS wrong?"
            ) from error
    context = ray.data.DataContext.get_current()
    context.print_on_execution_start = False
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gc.collect()  # actors of an earlier run whose handles hang in a cycle would hold CPUs
    return choose_resources(actors, threads, units)


def _connect(actors: int, threads: int) -> None:
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.ERROR)
        return
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nothing but this process's own children connects
    ray.init(
        address="local",  # and not a cluster that happens to run on this machine
        num_cpus=max(os.cpu_count() or 1, actors * threads) + 1,  # and one for the tasks that feed the actors
        object_store_memory=500 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def choose_resources(actors: int | None = None, threads: int | None = None, units: int | None = None) -> Resources:
    """Fill in what the user left open, from the cluster that Ray joined or this machine.

    One actor a GPU, whose CPUs share the opening of photos; without GPUs one actor for every `threads` CPUs, as long
    as there is memory.

    Args:
        actors: as many, if given.
        threads: of each; by default 2.
        units: of work, where their number is known: more actors would have none.
    """
    gpus, cpus, memory = torch.cuda.device_count(), os.cpu_count() or 1, psutil.virtual_memory().total
    if ray.is_initialized():
        cluster = ray.cluster_resources()
        gpus = int(cluster.get("GPU", 0))
        if os.environ.get("RAY_ADDRESS"):
            cpus, memory = int(cluster.get("CPU", 1)), int(cluster.get("memory", memory))
    threads = threads or min(2, cpus)
    wanted = actors or gpus or max(1, min(cpus // threads, memory // MEMORY_OF_AN_ACTOR))
    return Resources(
        actors=wanted if units is None else min(wanted, max(1, units)),
        threads=threads,
        device="cuda" if gpus else "cpu",
        readers=max(2, cpus // gpus) if gpus else 2,
    )


class _Actor:
    """Calls a stage on rows that a reader gave, or on the table that a row holds."""

    def __init__(self, make: Callable[[], Stage], packed: bool) -> None:
        self.stage, self.packed = make(), packed

    def __call__(self, rows: pa.Table) -> pa.Table | Iterator[pa.Table]:
        return self.stage(_unpacked(rows) if self.packed else rows)


def run_actors(
    units: Sequence[pa.Table],
    make: Callable[[], Stage],
    resources: Resources,
    *,
    read: Callable[[pa.Table], Iterable[pa.Table]] | None = None,
    rows_at_once: int = 1,
    calls_at_once: int = 1,
    may_lose_units: bool = False,
) -> Iterator[pa.Table]:
    """Run one kind of actor over units of work; yield what it returns, as it is done, in any order.

    A native crash ends an actor; Ray starts another and tries once more what it was at.

    Args:
        units: tables, each a unit of work.
        make: builds the callable in each actor; picklable.
        resources: actors, their threads and device.
        read: opens a unit in a task of its own, as many at once as there are actors; its rows then are the actors'
            work, `rows_at_once` a call. Without it the actors are called with the units themselves.
        rows_at_once: rows of what was read in a call.
        calls_at_once: calls in an actor at the same time, in as many threads.
        may_lose_units: leave out what twice ended its actor; else that ends the run.

    Raises:
        Exception: of Ray, naming what an actor raised.
    """
    if not units:
        return
    free = _free_cpus()
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1 if may_lose_units else 0
    context.target_max_block_size = SMALL_BLOCK if read else 128 * 2**20
    # Only these bound the retries of a native crash, which by default go on for ever; Ray has no newer name for them.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    # Where a reader gives little, some of the actors have nothing to do; that is no news.
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
    # As items of bytes, one a unit: for tables Ray first starts a task each that looks at their schema, where there are
    # GPUs it wants a number of rows a batch, and it would join small units to fill one.
    packed = [{"table": _packed(unit)} for unit in units]
    work: ray.data.Dataset = ray.data.from_items(packed, override_num_blocks=len(units))
    if read is not None:
        work = work.map_batches(
            cast(Any, _read_unit),
            fn_kwargs={"read": read},
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=min(resources.actors, len(units))),
            num_cpus=0,  # actors that hold all CPUs cannot block reading then
        )
    done = work.map_batches(
        _Actor,
        fn_constructor_kwargs={"make": make, "packed": read is None},
        batch_size=rows_at_once,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=resources.actors if read else min(resources.actors, len(units)),
            max_tasks_in_flight_per_actor=calls_at_once if read is None else 2,
            max_concurrent_calls_per_actor=calls_at_once,
            enable_true_multi_threading=calls_at_once > 1,
        ),
        num_cpus=resources.threads,  # OMP_NUM_THREADS too
        num_gpus=1 if resources.device == "cuda" else 0,
        max_restarts=-1,
        max_task_retries=1,
    )
    # Nothing fetched ahead: each table is there as it is done, and not when the next one is.
    for table in done.iter_batches(prefetch_batches=0, batch_size=None, batch_format="pyarrow"):
        yield cast(pa.Table, table)
    del work, done
    _wait_for_actors_to_end(free)


def _free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def _wait_for_actors_to_end(free: float) -> None:
    """Wait some seconds until as many CPUs are free as before the run.

    Actors end with their handles, which hang in a cycle with the executor's thread: a later run, or a training, would
    wait for their CPUs until Python's collector comes by.
    """
    deadline = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < deadline:
        gc.collect()
        if _free_cpus() >= free:
            return
        time.sleep(0.2)


def _read_unit(packed: pa.Table, read: Callable[[pa.Table], Iterable[pa.Table]]) -> Iterator[pa.Table]:
    yield from read(_unpacked(packed))


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _unpacked(rows: pa.Table) -> pa.Table:
    (data,) = rows.column("table").to_pylist()
    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()

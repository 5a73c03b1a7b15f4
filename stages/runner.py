"""The one file that talks to Ray's scheduler: run a labeller over units of a manifest, on actors."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import torch

from schemas.labels import MODEL_STAGES, SCHEMA, Reason
from stages.label.finished import Finished
from stages.label.folder import done_images, write_unit
from stages.label.row import blank_row, with_reason

Labeller = Callable[[pa.Table], pa.Table]

MEMORY_OF_AN_ACTOR = 2 * 2**30
"""Bytes that one of the default actors without a GPU may need: processes, model, masks of a large photo."""


@dataclass(frozen=True)
class Resources:
    """How a run uses the machine or cluster.

    Attributes:
        actors: label actors, each with its own copy of the model.
        threads: CPU threads an actor's model uses; also the logical CPUs it asks of Ray.
        device: `cpu`, or `cuda` for one GPU an actor.
        rows_per_file: photos in one output file: the unit that a kill loses. The first files are smaller.
        readers: threads of an actor that read and decode photos ahead of its model.
    """

    actors: int
    threads: int
    device: str
    rows_per_file: int
    readers: int = 2

    def of_an_actor(self) -> dict[str, Any]:
        """What a labeller is told of them."""
        return {"device": self.device, "threads": self.threads, "readers": self.readers}

    def __str__(self) -> str:
        return (
            f"{self.actors} actor(s) on {self.device}, {self.threads} CPU thread(s) each and {self.readers} that open"
            f" photos, {self.rows_per_file} images a file"
        )


class _LabelAndWrite:
    """Labels one unit and writes it: masks never cross a process, only this short account of them does.

    Ray calls it for two units at once, so that one is written and another's photos are opened beside the model.
    """

    def __init__(self, make: Callable[..., Labeller], arguments: dict[str, Any], folder: str) -> None:
        self.labeller = make(**arguments)
        self.folder = folder

    def __call__(self, units: pa.Table) -> pa.Table:
        (unit,) = units.column("unit").to_pylist()
        with pa.ipc.open_stream(unit) as stream:
            rows = self.labeller(stream.read_all())
        began = time.perf_counter()
        write_unit(rows, self.folder)
        finished = Finished(
            rows=rows.num_rows,
            masks=pc.sum(pc.list_value_length(rows.column("masks"))).as_py(),
            failed=pc.sum(pc.equal(rows.column("status"), "failed")).as_py(),
            seconds_model=sum(pc.sum(rows.column(f"seconds_{stage}")).as_py() or 0.0 for stage in MODEL_STAGES),
            seconds_wait=pc.sum(rows.column("seconds_wait")).as_py() or 0.0,
            seconds_write=time.perf_counter() - began,
        )
        return pa.table({name: [value] for name, value in asdict(finished).items()})


def start_ray(actors: int | None = None, threads: int | None = None) -> None:
    """Join the cluster that RAY_ADDRESS names (`ray job submit` sets it), else start Ray on this machine, quietly."""
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


def choose_resources(images: int, actors: int | None, threads: int | None, rows_per_file: int | None) -> Resources:
    """Fill in what the user left open, from the cluster that Ray joined or this machine.

    One actor a GPU, whose CPUs share the opening of photos; without GPUs one actor for every `threads` CPUs, as long
    as there is memory. Files hold a twentieth of the photos, at least 4 and at most 256.
    """
    gpus, cpus, memory = torch.cuda.device_count(), os.cpu_count() or 1, psutil.virtual_memory().total
    if ray.is_initialized():
        cluster = ray.cluster_resources()
        gpus = int(cluster.get("GPU", 0))
        if os.environ.get("RAY_ADDRESS"):
            cpus, memory = int(cluster.get("CPU", 1)), int(cluster.get("memory", memory))
    threads = threads or min(2, cpus)
    unit = rows_per_file or min(256, max(4, images // 20))
    default_actors = gpus or max(1, min(cpus // threads, memory // MEMORY_OF_AN_ACTOR))
    return Resources(
        actors=actors or min(default_actors, -(-images // unit)),
        threads=threads,
        device="cuda" if gpus else "cpu",
        rows_per_file=unit,
        readers=max(2, cpus // gpus) if gpus else 2,
    )


def label_manifest(
    manifest: pa.Table, folder: str, make: Callable[..., Labeller], arguments: dict[str, Any], resources: Resources
) -> Iterator[Finished]:
    """Label every row of a manifest that has none yet in `folder`; yields as units finish.

    A native crash ends an actor; Ray starts another and tries the unit once more, then gives the unit up. Units given
    up are done again photo by photo, one at a time on an actor, as long as that gets any of them done: a photo that
    shared its actor with the one to blame gets another chance. What is left then becomes a row `worker_died`.

    Args:
        manifest: rows of schemas/listing.py, in listing order.
        folder: OUT/labels, reachable from every node.
        make: builds the labeller in the actor, from `arguments`. It is called for two units at once, in two threads.
        arguments: picklable.
        resources: actors, threads, device and rows a file.
    """
    yield from _run(_units(manifest, folder, resources.rows_per_file), folder, make, arguments, resources)
    before, left = manifest.num_rows + 1, manifest.filter(_todo(manifest, folder))
    while 0 < left.num_rows < before:
        one_by_one = [left.slice(place, 1) for place in range(left.num_rows)]
        yield from _run(one_by_one, folder, make, arguments, resources, in_flight=1)
        before, left = left.num_rows, left.filter(_todo(left, folder))
    for source in left.to_pylist():
        row = with_reason(blank_row(source), Reason.WORKER_DIED, "the worker process died on this photo")
        write_unit(pa.Table.from_pylist([row], schema=SCHEMA), folder)
        yield Finished(rows=1, masks=0, failed=1)


def _units(manifest: pa.Table, folder: str, rows: int) -> list[pa.Table]:
    """The manifest cut into units; of each, the rows that are not yet done. Cut first, so that a resumed run meets
    the units of the run before it and not others that overlap them.

    Of 1, 2, 4 … photos until they have `rows`: the first file is there early.
    """
    todo = _todo(manifest, folder)
    units, start, size = [], 0, 1
    while start < manifest.num_rows:
        units.append(manifest.slice(start, size).filter(todo.slice(start, size)))
        start, size = start + size, min(2 * size, rows)
    return [unit for unit in units if unit.num_rows]


def _todo(manifest: pa.Table, folder: str) -> pa.BooleanArray:
    """Of each row of the manifest, whether it has no label row yet."""
    done = done_images(folder)
    return pa.array([image_id not in done for image_id in manifest.column("image_id").to_pylist()], pa.bool_())


def _run(
    units: list[pa.Table],
    folder: str,
    make: Callable[..., Labeller],
    arguments: dict[str, Any],
    resources: Resources,
    in_flight: int = 2,
) -> Iterator[Finished]:
    if not units:
        return
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1  # what a dead actor loses is found by its missing rows
    # Only these bound the retries of a native crash, which by default go on for ever; Ray has no newer name for them.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    # One row a unit: Ray wants a number of rows a batch where there are GPUs, and would join small units to fill it.
    # As items, since for tables Ray first starts a task each that looks at their schema.
    packed = [{"unit": _serialised(unit)} for unit in units]
    rows = ray.data.from_items(packed, override_num_blocks=len(packed)).map_batches(
        _LabelAndWrite,
        fn_constructor_kwargs={"make": make, "arguments": arguments, "folder": folder},
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=min(resources.actors, len(units)),
            max_tasks_in_flight_per_actor=in_flight,
            max_concurrent_calls_per_actor=in_flight,
            enable_true_multi_threading=True,
        ),
        num_cpus=resources.threads,  # OMP_NUM_THREADS too
        num_gpus=1 if resources.device == "cuda" else 0,
        max_restarts=-1,
        max_task_retries=1,
    )
    # Nothing fetched ahead: each unit is told as it finishes, and not when the next one does.
    for batch in rows.iter_batches(prefetch_batches=0, batch_size=None, batch_format="pyarrow"):
        yield from (Finished(**row) for row in cast(pa.Table, batch).to_pylist())


def _serialised(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())

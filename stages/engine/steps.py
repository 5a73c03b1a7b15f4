"""The one file that uses Ray Data: stream units of work through the steps of a job.

A unit is a table. Between steps it travels as the bytes of one row, so that Ray neither cuts nor joins it, beside a
name that comes from its place in the run: the same when a node is lost and the unit is made again.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar, Protocol, cast

import pyarrow as pa
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from stages import collect_garbage_as_usual
from stages.engine.journal import Attempt, Journal, Lost
from stages.engine.resources import Resources, Room, looking, node_ids, used_cpus, wait_for_actors_to_end
from stages.storage.errors import RunFailed
from stages.storage.location import redact

STARTS_IN_VAIN = 20
"""Times that Ray starts a process again, while none is ready, before the run ends."""

Reader = Callable[[pa.Table], Iterable[pa.Table]]
"""Makes many units of one, in a task of its own; the same of the same, since Ray repeats it where a node is lost."""


class Stage(Protocol):
    """Work of an actor on units."""

    def __call__(self, unit: pa.Table, /) -> pa.Table:
        """Return the result of a unit, of any number of rows."""
        ...

    def give_up(self, item: pa.Table, why: Lost, /) -> pa.Table:
        """Return the result of one row that ends its worker, or takes too long, without touching what it names."""
        ...


@dataclass(frozen=True)
class Actors:
    """A pool of processes that each hold a stage, and make one unit of one.

    Attributes:
        make: builds the stage in each; picklable.
        least, most: number of processes; `most` is None for as many as the cluster has room for, now or later.
        cpus, gpus: that each asks of Ray; `OMP_NUM_THREADS` is its CPUs.
        finish: made of the results of a unit, all together, in the same process, such as a file.
        calls_at_once: units in a process at the same time, in as many threads.
        seconds_an_item: longest time without a sign of life (`alive`), after which a process is ended; None for ever.
    """

    make: Callable[[], Stage]
    least: int
    most: int | None
    cpus: float
    gpus: float = 0
    finish: Callable[[pa.Table], pa.Table] | None = None
    calls_at_once: int = 1
    seconds_an_item: float | None = None


@dataclass(frozen=True)
class Tasks:
    """Tasks that each make any number of units of one; they hold no CPU, so that actors that hold all block none.

    Attributes:
        read: what a task does.
        at_once: the most that run at the same time.
    """

    read: Reader
    at_once: int


@dataclass(frozen=True)
class Gather:
    """Tasks that each make any number of units of several; see `Tasks`.

    Attributes:
        write: what a task does.
        at_once: the most that run at the same time.
        units: that a task gets; the last may get fewer.
    """

    write: Callable[[Sequence[pa.Table]], Iterable[pa.Table]]
    at_once: int
    units: int


def pool(
    make: Callable[[], Stage],
    resources: Resources,
    finish: Callable[[pa.Table], pa.Table] | None = None,
    seconds_an_item: float | None = None,
    calls_at_once: int = 1,
) -> Actors:
    """Return the actors that resources allow."""
    gpus = 1 if resources.device == "cuda" else 0
    at_once = resources.threads, gpus, finish, calls_at_once, seconds_an_item
    return Actors(make, resources.actors, resources.most, *at_once)


def run_steps(units: Sequence[pa.Table], steps: Sequence[Tasks | Actors | Gather]) -> Iterator[pa.Table]:
    """Stream units through steps that all run at the same time; yield what the last returns, in any order.

    A native crash, a node that goes away or a lack of memory ends a process; Ray starts another and tries its units
    again. There the items of such a unit come one at a time, and one that ends its process (`DEATHS`) is given up.

    Args:
        units: tables, each a unit of the first step.
        steps: the last one gives the results; each before it units of the next.

    Raises:
        RunFailed: a step raised what it names, or its processes end before they are ready (`STARTS_IN_VAIN`).
    """
    if not units:
        return
    # The deaths that it mends fill the user's standard output; Ray has no option against that, only this switch.
    ray._private.worker._worker_logs_enabled = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what a step raised is said once, by `RunFailed`
    context = ray.data.DataContext.get_current()
    context.print_on_execution_start = False
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = -1  # a unit may take an hour, and a node may come tomorrow
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # grow where all calls are taken
    context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.25  # and shrink where three in four are not
    context.op_resource_reservation_ratio = 0.2  # what Ray holds back for a step whose GPUs are all taken stays idle
    context.target_max_block_size = 1  # each unit goes on alone, as soon as it is there
    # Only these bound the retries; Ray has no newer names for them.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    # Where a step gets little, some of its processes have nothing to do; that is no news.
    warnings.filterwarnings("ignore", message="The m.* number of concurrent")
    before = used_cpus()
    journal = _start_journal()
    # Not `from_arrow`, whose tasks wait for a CPU.
    given = [{"name": str(number), "unit": pack(unit).to_pybytes()} for number, unit in enumerate(units)]
    work: ray.data.Dataset = ray.data.from_items(given, override_num_blocks=len(given))
    for place, step in enumerate(steps):
        if not isinstance(step, Actors):
            work = work.map_batches(
                cast(Any, _in_task),
                fn_kwargs={"step": step},
                batch_size=step.units if isinstance(step, Gather) else 1,
                batch_format="pyarrow",
                compute=ray.data.TaskPoolStrategy(size=step.at_once),
                num_cpus=0,
                max_retries=10 + place,  # steps of unlike options stay apart: one that lists must not wait for the next
            )
        else:
            work = work.map_batches(
                _Actor,
                fn_constructor_kwargs={"step": step, "place": place, "journal": journal},
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    min_size=step.least,
                    max_size=step.most,
                    max_tasks_in_flight_per_actor=step.calls_at_once + 1,  # one comes over the network meanwhile
                    max_concurrent_calls_per_actor=step.calls_at_once,
                    enable_true_multi_threading=True,
                ),
                num_cpus=step.cpus,
                num_gpus=step.gpus,
                scheduling_strategy="DEFAULT",  # which leaves nodes with GPUs to those who ask for some
                max_restarts=-1,
                max_task_retries=-1,  # the journal ends what would go on for ever
            )
    # Nothing fetched ahead: each table is there as it is done, and not when the next one is.
    results = work.iter_batches(prefetch_batches=0, batch_size=None, batch_format="pyarrow")
    room, starts = Room([(step.cpus, step.gpus) for step in steps if isinstance(step, Actors)]), _Starts(journal)
    try:
        with starts.ending_the_run(), looking(room.look), looking(starts.look):
            for table in results:
                for _, unit in _opened(table):
                    yield unit
    except ray.exceptions.RayError as error:
        raise RunFailed(f"{_said(error)}; the same command again goes on from what is written") from error
    del results, work
    wait_for_actors_to_end(before)


def _said(error: BaseException) -> str:
    """Return in one line what was raised first, without the secrets of URIs in it.

    Ray keeps that of an actor in the text of its own error alone: the first line of it that is no place in a program.
    """
    lines = (line for line in str(error).splitlines() if line and not line.startswith((" ", "ray::")))
    first = next((line for line in lines if ": " in line), type(error).__name__)
    return " ".join(redact(word) for word in first.split())


class _Starts:
    """Ends a run whose processes end again and again before one is ready: Ray starts them for ever, without a word."""

    def __init__(self, journal: Any) -> None:
        self._journal, self._begun = journal, 0
        self._starts: dict[str, int] = {}
        self._in_vain = 0
        self._others = set(self._actors())

    @contextmanager
    def ending_the_run(self) -> Iterator[None]:
        """Let `look` end the block, which may wait for Ray for ever, by an exception, if it is the main thread's."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Not SIGINT: a program in a shell's background ignores it.
        before = signal.signal(signal.SIGUSR1, self._end)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)

    def _end(self, *_: object) -> None:
        raise RunFailed(
            f"processes ended {self._in_vain} times before one was ready: too little memory (Ray ends some where nearly"
            " all is in use), or weights, a driver or a library that end them? The same command again goes on from what"
            " is written"
        )

    def _actors(self) -> dict[str, dict[str, Any]]:
        """Return Ray's table of actors of this kind; Ray's public tool for it asks a dashboard."""
        job = ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
        table = ray._private.state.state.actor_table(None, job)
        return {actor: row for actor, row in table.items() if f"({_Actor.__name__})" in row["ActorClassName"]}

    def look(self) -> None:
        """Count the starts since one was ready, or took up a unit; end the run where they are too many."""
        actors = {actor: row for actor, row in self._actors().items() if actor not in self._others}
        starts = {actor: row["NumRestarts"] for actor, row in actors.items() if row["State"] != "DEAD"}
        begun = self._begun
        with suppress(ray.exceptions.RayError):  # the journal may have ended, too
            begun = ray.get(self._journal.begun.remote(), timeout=1.0)
        if begun != self._begun or any(row["State"] == "ALIVE" for row in actors.values()):
            self._begun, self._starts = begun, starts
        worst = max((number - self._starts.get(actor, 0) for actor, number in starts.items()), default=0)
        if worst >= STARTS_IN_VAIN and not self._in_vain and signal.getsignal(signal.SIGUSR1) == self._end:
            self._in_vain = worst
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _start_journal() -> Any:
    """Start the journal beside the driver: a node that is lost takes it along no sooner than the run itself."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Journal)
    return actor.options(scheduling_strategy=here).remote(node_ids)


def alive(spent: float = 0.0) -> None:
    """Give a sign of life: the stage of this process goes on to its next item, or with one of several that it works on
    in turns, which has taken `spent` seconds so far."""
    _Watch.sign(spent)


class _Watch:
    """Ends this process when a thread that has work gave no sign of life for too long."""

    _seen: ClassVar[dict[int, float]] = {}
    """When a thread that has work gave its last sign of life."""

    def __init__(self, limit: float, late: Callable[[], None]) -> None:
        self._limit, self._late = limit, late
        threading.Thread(target=self._look, daemon=True).start()

    @classmethod
    def sign(cls, spent: float) -> None:
        me = threading.get_ident()
        for thread in [me] if me in cls._seen else list(cls._seen):  # a helper's sign is one of all that may use it
            cls._seen[thread] = time.monotonic() - spent

    @contextmanager
    def work(self) -> Iterator[None]:
        me = threading.get_ident()
        self._seen[me] = time.monotonic()
        try:
            yield
        finally:
            del self._seen[me]

    def _look(self) -> None:
        while True:
            time.sleep(min(1.0, self._limit / 4))
            if time.monotonic() - min(list(self._seen.values()), default=math.inf) > self._limit:
                self._late()
                os._exit(1)


class _Actor:
    """Calls a stage on units; on one that ended a process before, item by item, with nothing beside it."""

    def __init__(self, step: Actors, place: int, journal: Any) -> None:
        self._stage, self._finish, self._place, self._journal = step.make(), step.finish, place, journal
        self._node = ray.get_runtime_context().get_node_id()
        self._calls, self._alone = 0, False
        self._changed = threading.Condition()
        self._unit: str | None = None
        self._watch = None if step.seconds_an_item is None else _Watch(step.seconds_an_item, self._late)
        gc.freeze()  # what is there now stays: neither while units are made nor at the end is it looked through again
        collect_garbage_as_usual()

    def __call__(self, packed: pa.Table) -> pa.Table:
        ((called, unit),) = _opened(packed)
        name = f"{self._place}/{called}"
        attempt = ray.get(self._journal.begin.remote(name, self._node))
        with self._room(alone=attempt.number > 1), self._watch.work() if self._watch else nullcontext():
            result = self._stage(unit) if attempt.number == 1 else self._one_by_one(name, unit, attempt)
        if self._finish is not None:
            result = self._finish(result)
        self._journal.end.remote(name)
        return _packed(result, called)

    def _one_by_one(self, name: str, unit: pa.Table, attempt: Attempt) -> pa.Table:
        results = {place: unpack(data) for place, data in attempt.results.items()}
        # One that may end this process comes first: then least is lost.
        for place in sorted(range(unit.num_rows), key=lambda place: place != attempt.suspect):
            if place in results:
                continue
            item = unit.slice(place, 1)
            if place in attempt.lost:
                results[place] = self._stage.give_up(item, attempt.lost[place])
                continue
            ray.get(self._journal.at.remote(name, place))
            self._unit = name
            alive()
            results[place] = self._stage(item)
            ray.get(self._journal.keep.remote(name, place, pack(results[place]).to_pybytes()))
        self._unit = None
        return pa.concat_tables(results[place] for place in range(unit.num_rows))

    def _late(self) -> None:
        if self._unit is not None:
            ray.get(self._journal.slow.remote(self._unit))

    @contextmanager
    def _room(self, alone: bool) -> Iterator[None]:
        """Wait until no call that must be alone is in this process, and for one that must, until none is."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not (alone and self._calls))
            self._calls, self._alone = self._calls + 1, alone
        try:
            yield
        finally:
            with self._changed:
                self._calls, self._alone = self._calls - 1, False
                self._changed.notify_all()


def _in_task(packed: pa.Table, step: Tasks | Gather) -> Iterator[pa.Table]:
    names, units = zip(*_opened(packed), strict=True)
    name = names[0] if len(names) == 1 else blake2b(",".join(names).encode(), digest_size=16).hexdigest()
    made = step.write(units) if isinstance(step, Gather) else step.read(units[0])
    for number, unit in enumerate(made):
        yield _packed(unit, f"{name}.{number}")


def _packed(table: pa.Table, name: str) -> pa.Table:
    """Return a table as the one row that travels, without a copy of its bytes."""
    data = pack(table)
    ends = pa.py_buffer(struct.pack("<qq", 0, data.size))
    return pa.table({"name": [name], "unit": pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])})


def _opened(packed: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield the name and the table of each row, over the very bytes that travelled."""
    for name, data in zip(packed.column("name"), packed.column("unit"), strict=True):
        yield name.as_py(), unpack(data.as_buffer())


def pack(table: pa.Table) -> pa.Buffer:
    """Return the bytes of a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def unpack(data: pa.Buffer | bytes) -> pa.Table:
    """Return the table of `pack`, over the same memory."""
    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()

"""Start Ray, or join a cluster, and say what a run may use of it."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import ray

from stages.storage.errors import BadInput

MEMORY_OF_AN_ACTOR = 2 * 2**30
"""Bytes that one of the default actors without a GPU may need: processes, model, masks of a large photo."""

SECONDS_TO_END = 10.0
"""Seconds that a run waits, at most, for its actors to end."""

MANY_NODES = 1000
"""Nodes that an autoscaler without a limit, -1, is said to start at most."""

SECONDS_BETWEEN_LOOKS = 5.0
"""Seconds between two looks at the nodes of a cluster."""

NO_ERROR = re.compile(rb"\[[-\d]+ [\d:,]+ [DIW] \d+ \d+\] \w+\.(cc|h):\d+: ")
"""Beginning of a line of Ray's C++ that is a detail, an information or a warning."""


@dataclass(frozen=True)
class Resources:
    """Processes, threads and devices that a run uses of the machine or cluster.

    Attributes:
        actors: processes to begin with, each with its own copy of the model.
        threads: CPU threads of an actor's model; also the logical CPUs that the actor asks of Ray.
        device: `cpu`, `cuda` for one GPU an actor, or `mps` for the Apple GPU of this machine.
        readers: threads of a process that open photos ahead of its model.
        most: actors that there may become as the cluster grows; None for as many as it has room for.
        openers: processes, of one CPU each, that open photos apart from the actors; 0 where each actor opens its own.
    """

    actors: int
    threads: int
    device: str
    readers: int = 2
    most: int | None = None
    openers: int = 0

    def __str__(self) -> str:
        more = "" if self.most == self.actors else " or more" if self.most is None else f" to {self.most}"
        apart = f", {self.openers} process(es) that open photos apart" if self.openers else ""
        return (
            f"{self.actors}{more} actor(s) on {self.device}, {self.threads} CPU thread(s) each and {self.readers} that"
            f" open photos{apart}"
        )


def start(
    actors: int | None = None,
    threads: int | None = None,
    units: int | None = None,
    device: str = "auto",
    openers: int | None = None,
) -> Resources:
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
            with _quiet_logging():
                _connect(actors or 1, threads or 1)
            _joined.set()
        except Exception as error:  # of many kinds, Ray's plainest is a bare Exception
            reason = " ".join(str(error).split())
            raise SystemExit(
                f"Ray did not start: {reason}; is the machine overloaded, or RAY_ADDRESS wrong?"
            ) from error
    gc.collect()  # actors of an earlier run whose handles hang in a cycle would hold CPUs
    return choose_resources(actors, threads, units, device, openers)


_joined = threading.Event()
"""Set while this process is in a cluster that `start` joined or started, and not its caller."""


def leave() -> None:
    """Leave the cluster that `start` joined, and end the one that it started, which takes a second; what is done
    beside it must not use Ray."""
    if _joined.is_set():
        _joined.clear()
        ray.shutdown()


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """Hold back what this process writes to its standard error, and drop what Ray's C++ says there that is no error.

    One such line is that it will say nothing, `logging.cc`: there is no setting against that.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not NO_ERROR.match(line)))


def _connect(actors: int, threads: int) -> None:
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
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


@dataclass(frozen=True)
class Machines:
    """Nodes that a run may work on: resources by Ray's names (`CPU`, `GPU`, `memory` in bytes).

    Attributes:
        nodes: that are there.
        coming: kinds of nodes that an autoscaler may start, and how many of each at most.
        grows: whether nodes may come, by an autoscaler or by hand.
    """

    nodes: Sequence[Mapping[str, float]]
    coming: Sequence[tuple[Mapping[str, float], int]] = ()
    grows: bool = False

    @property
    def kinds(self) -> list[Mapping[str, float]]:
        """Every node that is there or may come, one of each kind."""
        return [*self.nodes, *(node for node, _ in self.coming)]


def machines() -> Machines:
    """Return this machine, or the nodes of the cluster that was joined and what its autoscaler may add."""
    if ray.is_initialized() and os.environ.get("RAY_ADDRESS"):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        known = ray._private.state.state.get_cluster_config()  # as Ray Data itself asks
        groups = known.node_group_configs if known else []
        most = [(dict(group.resources), group.max_count) for group in groups if group.max_count]
        return Machines(nodes, [(node, many if many > 0 else MANY_NODES) for node, many in most], grows=True)
    import torch  # here, since processes that only read would carry it along

    gpus = ray.cluster_resources().get("GPU", 0) if ray.is_initialized() else torch.cuda.device_count()
    return Machines([{"CPU": os.cpu_count() or 1, "GPU": gpus, "memory": psutil.virtual_memory().total}])


def choose_resources(
    actors: int | None = None,
    threads: int | None = None,
    units: int | None = None,
    device: str = "auto",
    openers: int | None = None,
    on: Machines | None = None,
) -> Resources:
    """Fill in what the user left open, from the cluster that Ray joined or this machine.

    One actor a GPU, whose CPUs share the opening of photos; without GPUs one actor for every `threads` CPUs, as long
    as there is memory. A cluster may grow, from nothing too: what its autoscaler may start decides whether there are
    GPUs, and actors come with the nodes.

    Args:
        actors: the most, if given; on this machine as many.
        threads: of each; by default 2, or 1 where no node has more.
        units: of work, where their number is known: more actors would have none.
        device: `cpu`, `cuda`, `mps`, or `auto` for CUDA's GPUs where there are or can be some.
        openers: processes that open photos apart from the actors; by default one for each CPU on nodes without a GPU,
            there or to come, where there are GPUs, else none.
        on: what to choose from; None to look (`machines`).

    Raises:
        BadInput: `cuda` where there is no GPU and none can come; `mps` on a cluster, or without an Apple GPU.
    """
    on = on or machines()
    with_gpu = [node for node in on.kinds if node.get("GPU")]
    device = ("cuda" if with_gpu else "cpu") if device == "auto" else device
    gpu = device == "cuda"
    if gpu and not with_gpu and not on.grows:
        raise BadInput("--device cuda: there is no GPU that torch can use here; give cpu or auto")
    if device == "mps":
        _check_apple_gpu(on)
        actors = actors or 1  # they would share the one there is
    usable = with_gpu if gpu else on.kinds
    threads = threads or max(1, min(2, int(max((node.get("CPU", 0) for node in usable), default=0))))
    fit = sum(_room(node, threads, gpu) for node in on.nodes)
    begin = max(1, fit) if actors is None else max(1, min(actors, fit)) if on.grows else actors
    if openers is None:
        beside = [(node, 1) for node in on.nodes], on.coming
        openers = max(sum(int(n.get("CPU", 0)) * many for n, many in some if not n.get("GPU")) for some in beside)
        openers = openers if gpu else 0
    return Resources(
        actors=begin if units is None else min(begin, max(1, units)),
        threads=threads,
        device=device,
        readers=max([2, *(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpu)]) if gpu else 2,
        most=actors if on.grows else begin,
        openers=openers,
    )


def _check_apple_gpu(on: Machines) -> None:
    """Refuse `mps` where models would not run on an Apple GPU."""
    import torch

    if on.grows:
        raise BadInput("--device mps: Ray's clusters know no Apple GPUs; give cpu, cuda or auto, or run on one machine")
    if not torch.backends.mps.is_available():
        raise BadInput("--device mps: torch finds no Apple GPU here; give cpu or auto")


def _room(node: Mapping[str, float], threads: int, gpu: bool) -> int:
    """Return how many actors a node has room for."""
    return int(
        min(node.get("CPU", 0) // threads, node.get("GPU", 0) if gpu else node.get("memory", 0) // MEMORY_OF_AN_ACTOR)
    )


def node_ids() -> set[str]:
    """Return the ids of the nodes that are there."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


@contextmanager
def looking(look: Callable[[], None]) -> Iterator[None]:
    """Call a function every few seconds (`SECONDS_BETWEEN_LOOKS`), in a thread, while the block lasts."""
    ended = threading.Event()

    def look_again_and_again() -> None:
        while not ended.is_set():
            look()
            ended.wait(SECONDS_BETWEEN_LOOKS)

    thread = threading.Thread(target=look_again_and_again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Room:
    """Says on stderr, once each time, when no node there is, even empty, could take one of some processes."""

    def __init__(self, needs: Sequence[tuple[float, float]]) -> None:
        """Begin with nothing said; `needs` are CPUs and GPUs of a process of each kind."""
        self._needs = needs
        self._said: set[tuple[float, float]] = set()

    def look(self) -> None:
        """Look at the nodes, and say what they lack if that was not said the last time."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        lacking = {need for need in self._needs if not any(_fits(need, node) for node in nodes)}
        for cpus, gpus in sorted(lacking - self._said):
            gpu = f" and {gpus:g} GPU(s)" if gpus else ""
            print(f"no node of the cluster has {cpus:g} CPU(s){gpu}: waiting for one", file=sys.stderr, flush=True)
        self._said = lacking


def _fits(need: tuple[float, float], node: Mapping[str, float]) -> bool:
    cpus, gpus = need
    return cpus <= node.get("CPU", 0) and gpus <= node.get("GPU", 0)


def used_cpus() -> float:
    """Return the logical CPUs that something holds."""
    return float(ray.cluster_resources().get("CPU", 0.0) - ray.available_resources().get("CPU", 0.0))


def wait_for_actors_to_end(before: float) -> None:
    """Wait some seconds until no more CPUs are held than before the run.

    Actors end with their handles, which hang in a cycle with the executor's thread: a later run, or a training, would
    wait for their CPUs until Python's collector comes by.
    """
    deadline = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < deadline:
        gc.collect()
        if used_cpus() <= before:
            return
        time.sleep(0.2)

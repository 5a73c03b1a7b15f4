"""Run the engine on clusters of several nodes on this machine: scaling, growth, a mixed cluster, nodes that are killed.

    python benchmarks/cluster.py --what scaling growth mixed lost-node kills --json cluster.json

Nodes are raylets with logical CPUs and GPUs; the work is sleep, so that two cores show what forty do. Each situation
runs in a process of its own and is judged by a ratio within itself or by a count of items. Exit status: 0 where all
hold, 1 where not.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import ray
from ray.cluster_utils import Cluster

from benchmarks.cluster_stages import Open, Sleep, SleepOnTwoNodes, Use, keep, shards, split
from stages.engine.resources import start
from stages.engine.steps import Actors, Tasks, run_steps

HEALTH = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
"""A node that is lost is missed after three seconds, not fifteen."""

STORE = 300 * 2**20
"""Bytes of the object store of a node."""

Row = dict[str, Any]
Check = tuple[str, Any, bool]
"""Measurement: its name, its figure, and whether it holds."""


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start a head without room for work on this machine, which a driver finds by RAY_ADDRESS."""
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "object_store_memory": STORE,
            "include_dashboard": False,
            "_system_config": HEALTH,
        },
    )
    os.environ["RAY_ADDRESS"] = made.address
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def add(made: Cluster, number: int = 1, cpus: int = 2, gpus: int = 0) -> list[Any]:
    """Add nodes and return them."""
    return [made.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=STORE) for _ in range(number)]


class Run:
    """A run of steps in a thread, since only the main thread can add and remove nodes."""

    def __init__(self, units: Sequence[pa.Table], steps: Sequence[Tasks | Actors]) -> None:
        self.rows: list[Row] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(units, steps), daemon=True)
        self._thread.start()

    def _run(self, units: Sequence[pa.Table], steps: Sequence[Tasks | Actors]) -> None:
        try:
            for table in run_steps(units, steps):
                self.rows.extend(table.to_pylist())
        except BaseException as error:
            self.error = error

    @property
    def over(self) -> bool:
        """Tell whether the run ended."""
        return not self._thread.is_alive()

    def wait_for(self, there: Callable[[list[Row]], bool], seconds: float) -> None:
        """Wait until the rows that came out are so.

        Raises:
            TimeoutError: they do not become so.
        """
        deadline = time.monotonic() + seconds
        while not there(list(self.rows)):
            if time.monotonic() > deadline or self.over:
                raise TimeoutError(f"not so after {seconds:.0f} s; {len(self.rows)} items came out") from self.error
            time.sleep(0.2)

    def wait(self, seconds: float) -> None:
        """Wait until it ends.

        Raises:
            TimeoutError: it does not.
        """
        self._thread.join(seconds)
        if not self.over:
            raise TimeoutError(f"no end after {seconds:.0f} s; {len(self.rows)} items came out")
        if self.error is not None:
            raise self.error


def rate(rows: Sequence[Row]) -> float:
    """Return items a second while every process works: from the last one's first item to the first one's last."""
    processes = {(row["node"], row["process"]) for row in rows}
    times = [
        [(row["began"], row["ended"]) for row in rows if (row["node"], row["process"]) == which] for which in processes
    ]
    begin = max(min(began for began, _ in some) for some in times)
    end = min(max(ended for _, ended in some) for some in times)
    return sum(begin <= row["began"] and row["ended"] <= end for row in rows) / max(end - begin, 1e-9)


def scaling(items_an_actor: int = 96, seconds: float = 0.2) -> Iterator[Check]:
    """Run 1, 2, 4 and 8 actors of one CPU on four nodes, with units of 16 items."""
    rates = {}
    with cluster() as made:
        add(made, 4)
        start(threads=1)
        for actors in (1, 2, 4, 8):
            items = items_an_actor * actors
            step = Actors(partial(Sleep, seconds), least=actors, most=actors, cpus=1)
            run = Run(shards(items, 4), [Tasks(partial(split, size=16), at_once=4), step])
            run.wait(300)
            rates[actors] = rate(run.rows)
            nodes = len({row["node"] for row in run.rows})
            efficiency = rates[actors] / (actors * rates[1])
            yield f"items/s of {actors} actor(s) on {nodes} node(s)", round(rates[actors], 2), len(run.rows) == items
            yield f"efficiency of {actors}", round(efficiency, 3), efficiency >= 0.9


def growth(items: int = 2400) -> Iterator[Check]:
    """Start on a cluster without any room, add a node, then three more; the actors come with them."""
    said = io.StringIO()
    with cluster() as made, redirect_stderr(said):
        resources = start(threads=1)
        step = Actors(partial(Sleep, 0.1), least=resources.actors, most=resources.most, cpus=1)
        run = Run(shards(items, 4), [Tasks(partial(split, size=8), at_once=4), step])
        time.sleep(15)
        yield "lines that say that it waits", said.getvalue().count("waiting"), said.getvalue().count("\n") == 1
        yield "items done without a node", len(run.rows), not run.rows
        added = time.time()
        add(made)
        run.wait_for(lambda rows: bool(rows), 60)
        first = min(row["began"] for row in run.rows) - added
        yield "seconds from the first node to the first item", round(first, 1), first < 30
        added = time.time()
        add(made, 3)
        run.wait_for(lambda rows: len({row["node"] for row in rows}) == 4, 90)
        began = [min(row["began"] for row in run.rows if row["node"] == node) for node in {r["node"] for r in run.rows}]
        grown = max(began) - added
        yield "seconds from three more to work on each", round(grown, 1), grown < 60
        run.wait(300)
        actors = len({(row["node"], row["process"]) for row in run.rows})
        yield "actors at the end, of 8 that fit", actors, actors == 8
        yield "items lost or doubled", items - len({row["id"] for row in run.rows}), len(run.rows) == items


def mixed(items: int = 1920, item_bytes: int = 2 * 2**20) -> Iterator[Check]:
    """Open items on four CPU nodes, six times as quickly as two GPU actors can use them, in units of 16."""
    with cluster() as made:
        with_gpu = {node.node_id for node in add(made, 2, gpus=1)}
        add(made, 4)
        resources = start(threads=1, device="cuda")
        openers = Actors(partial(Open, 0.03, item_bytes), least=1, most=resources.openers, cpus=1)
        users = Actors(partial(Use, 0.05), least=resources.actors, most=resources.most, cpus=1, gpus=1, calls_at_once=2)
        run = Run(shards(items, 4), [Tasks(partial(split, size=16), 4), openers, users])
        run.wait(300)
    rows = sorted(run.rows, key=lambda row: float(row["began"]))
    yield "items done", len(rows), len(rows) == len({row["id"] for row in rows}) == items
    apart = sum(row["opener"].split()[0] not in with_gpu for row in rows) / items
    yield "share of items opened on CPU nodes", round(apart, 3), apart > 0.99
    opened = {who: [row["opened"] for row in rows if row["opener"] == who] for who in {row["opener"] for row in rows}}
    at_once = max(sum(min(some) <= now <= max(some) for some in opened.values()) for now in map(min, opened.values()))
    yield f"openers at the same time, of {resources.openers} that fit", at_once, at_once >= resources.openers / 2
    yield "openers that were started", len(opened), len(opened) <= 2 * resources.openers
    waits = waiting(rows)
    yield f"share of time that {len(waits)} GPU actors wait, the worst", round(max(waits), 3), max(waits) <= 0.05
    most = max(sum(row["opened"] <= now < row["ended"] for row in rows) for now in {row["opened"] for row in rows})
    share = most * item_bytes / (6 * STORE)
    yield "bytes opened and not yet used, of the nodes' stores", round(share, 3), share <= 0.6


def waiting(rows: Sequence[Row]) -> list[float]:
    """Return the share of time that each process does not work; the first fifth of the run does not count."""
    processes = {(row["node"], row["process"]) for row in rows}
    times = {which: [row for row in rows if (row["node"], row["process"]) == which] for which in processes}
    begin, last = min(row["began"] for row in rows), max(row["ended"] for row in rows)
    begin += (last - begin) / 5
    end = min(max(row["ended"] for row in some) for some in times.values())
    busy = [sum(max(0.0, min(r["ended"], end) - max(r["began"], begin)) for r in some) for some in times.values()]
    return [1 - seconds / (end - begin) for seconds in busy]


def lost_node(items: int = 160) -> Iterator[Check]:
    """Kill one of two nodes as soon as work on it is done, with actors and units on it; every item comes out once."""
    with cluster() as made, tempfile.TemporaryDirectory() as out:
        nodes = add(made, 2)
        start(threads=1)
        run = _frail_run(items, Path(out), most=4)
        run.wait_for(lambda rows: len({row["node"] for row in rows}) == 2, 240)
        node = next(node for node in nodes if node.node_id == run.rows[0]["node"])
        made.remove_node(node, allow_graceful=False)
        done = len(run.rows)
        run.wait(120)
        yield "items done when the node was lost", done, done < items
        yield from _outcome(run, items, Path(out))


def kills(seed: int = 0, items: int = 3000) -> Iterator[Check]:
    """Kill nodes and actors at random moments while others come; every item comes out once."""
    rng, counts = random.Random(seed), Counter[str]()
    with cluster() as made, tempfile.TemporaryDirectory() as out:
        nodes = add(made, 3)
        start(threads=1)
        run = _frail_run(items, Path(out), most=6)
        while not run.over:
            time.sleep(rng.uniform(4, 10))
            workers = [each for each in psutil.Process().children(recursive=True) if "MapWorker" in _name(each)]
            if rng.random() < 0.5:
                made.remove_node(nodes.pop(rng.randrange(len(nodes))), allow_graceful=False)
                nodes += add(made)
                counts["nodes"] += 1
            elif workers:
                rng.choice(workers).send_signal(signal.SIGKILL)
                counts["actors"] += 1
            print(f"{dict(counts)} killed, {len(run.rows)} items", file=sys.stderr, flush=True)
        run.wait(1)
        yield "nodes killed", counts["nodes"], counts["nodes"] > 0
        yield "actors killed", counts["actors"], counts["actors"] > 0
        yield from _outcome(run, items, Path(out))


def _frail_run(items: int, out: Path, most: int) -> Run:
    """Start a run of units of 8 items, each of which leaves a file in `out`."""
    stage = partial(SleepOnTwoNodes, 0.1, out)
    actors = Actors(stage, least=1, most=most, cpus=1, finish=partial(keep, folder=out))
    return Run(shards(items, 12), [Tasks(partial(split, size=8), at_once=3), actors])


def _outcome(run: Run, items: int, out: Path) -> Iterator[Check]:
    """Yield what became of the items of a run, in its results and in its files."""
    seen = Counter(row["id"] for row in run.rows)
    files = Counter(item for path in out.glob("*.json") for item in json.loads(path.read_text(encoding="utf-8")))
    yield "items lost", items - len(seen), len(seen) == items
    yield "items doubled", seen.total() - len(seen), seen.total() == len(seen)
    yield "items given up", sum(not row["process"] for row in run.rows), all(row["process"] for row in run.rows)
    yield "items in files, once each", len(files), len(files) == files.total() == items


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


WHAT: dict[str, Callable[[], Iterator[Check]]] = {
    "scaling": scaling,
    "growth": growth,
    "mixed": mixed,
    "lost-node": lost_node,
    "kills": kills,
}


def main() -> int:
    """Run the situations, print a line for each figure, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    if len(arguments.what) == 1:
        figures = measure(arguments.what[0])
    else:
        figures = [figure for what in arguments.what for figure in measure_apart(what)]
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if all(figure["holds"] for figure in figures) else 1


def measure(what: str) -> list[Row]:
    """Run one situation in this process."""
    figures = []
    for name, figure, holds in WHAT[what]():
        figures.append({"what": what, "name": name, "figure": figure, "holds": holds, "load": os.getloadavg()[0]})
        print(f"{what:9} {name:55} {figure!s:>10} {'' if holds else 'NOT AS IT SHOULD BE'}", flush=True)
    return figures


def measure_apart(what: str) -> list[Row]:
    """Run one situation in a process of its own; one that ends without figures has failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        done = subprocess.run([sys.executable, __file__, "--what", what, "--json", str(path)], check=False)
        if path.exists():
            return list(json.loads(path.read_text(encoding="utf-8")))
    return [{"what": what, "name": f"ended with status {done.returncode}", "figure": None, "holds": False, "load": 0.0}]


if __name__ == "__main__":
    sys.exit(main())

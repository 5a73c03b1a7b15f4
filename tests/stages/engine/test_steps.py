"""Units that flow through steps on Ray: nothing lost, nothing twice, and what ends its process is given up alone."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from stages.engine import resources, steps
from stages.engine.journal import Lost
from stages.engine.steps import Actors, Gather, Tasks, alive, run_steps
from stages.storage.errors import RunFailed

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

SIZE = 4
"""Items in a unit."""


class _Frail:
    """Squares items; some end its process, some never end, and for some it lacks its temper."""

    def __init__(self, deadly: Sequence[int] = (), endless: Sequence[int] = (), wrong: Sequence[int] = ()) -> None:
        self._deadly, self._endless, self._wrong = deadly, endless, wrong

    def __call__(self, unit: pa.Table) -> pa.Table:
        items = unit["id"].to_pylist()
        for item in items:
            alive()
            time.sleep(0.05)
            if item in self._deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            if item in self._endless:
                time.sleep(600)
            if item in self._wrong:
                raise ValueError(f"item {item} is not for me")
        return pa.table({"id": items, "what": [str(item**2) for item in items]}).replace_schema_metadata(
            unit.schema.metadata
        )

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        return pa.table({"id": item["id"], "what": [why.value]})


def _cut(corpus: pa.Table) -> Iterator[pa.Table]:
    for first in corpus["first"].to_pylist():
        for begin in range(first, first + 20, SIZE):
            items = range(begin, begin + SIZE)
            yield pa.table({"id": list(items)}).replace_schema_metadata({"begin": str(begin)})


def _note(result: pa.Table, folder: Path) -> pa.Table:
    items = result["id"].to_pylist()
    (folder / f"{items[0]}-{time.time_ns()}").write_text(" ".join(map(str, items)), encoding="utf-8")
    return result


def _corpus(shards: int) -> list[pa.Table]:
    return [pa.table({"first": [20 * shard]}) for shard in range(shards)]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few starts in vain end a run, and it is looked for them often."""
    monkeypatch.setattr(steps, "STARTS_IN_VAIN", 3)
    monkeypatch.setattr(resources, "SECONDS_BETWEEN_LOOKS", 0.2)


@pytest.mark.usefixtures("soon")
def test_items_that_end_their_process_are_given_up_alone(tmp_path: Path) -> None:
    """One alone in its unit, two in one unit, one that never ends; two units in a process at a time."""
    lost = {5: "died", 16: "died", 18: "died", 30: "slow"}
    make = partial(_Frail, deadly=(5, 16, 18), endless=(30,))
    finish = partial(_note, folder=tmp_path)
    actors = Actors(make, 2, 2, cpus=1, finish=finish, calls_at_once=2, seconds_an_item=4.0)
    results = list(run_steps(_corpus(2), [Tasks(_cut, 2), actors]))
    assert Counter(result.num_rows for result in results) == {SIZE: 10}
    assert {row["id"]: row["what"] for result in results for row in result.to_pylist()} == {
        item: lost.get(item, str(item**2)) for item in range(40)
    }
    finished = [path.read_text(encoding="utf-8").split() for path in tmp_path.iterdir()]
    assert {tuple(map(int, items)) for items in finished} == {
        tuple(range(begin, begin + SIZE)) for begin in range(0, 40, SIZE)
    }


def _join(units: Sequence[pa.Table]) -> Iterator[pa.Table]:
    yield pa.table({"begins": [[unit.schema.metadata[b"begin"].decode() for unit in units]]})
    yield pa.table({"rows": [sum(unit.num_rows for unit in units)]})


def test_units_go_through_steps_whole_with_their_metadata_and_are_gathered() -> None:
    steps = [Tasks(_cut, 2), Actors(_Frail, 1, 1, cpus=1), Actors(_Frail, 1, 1, cpus=1), Gather(_join, 2, units=4)]
    results = [table.to_pydict() for table in run_steps(_corpus(3), steps)]
    gathered = [table["begins"][0] for table in results if "begins" in table]
    assert sorted(map(len, gathered)) == [3, 4, 4, 4]
    assert Counter(int(begin) for begins in gathered for begin in begins) == Counter(range(0, 60, SIZE))
    assert sorted(table["rows"][0] for table in results if "rows" in table) == [12, 16, 16, 16]


def test_what_a_stage_raises_ends_the_run_and_is_named() -> None:
    actors = Actors(partial(_Frail, wrong=(7,)), 1, 1, cpus=1)
    with pytest.raises(RunFailed, match=r"^ValueError: item 7 is not for me; the same command again"):
        list(run_steps(_corpus(1), [Tasks(_cut, 1), actors]))


class _Stillborn(_Frail):
    """Ends its process while it is built."""

    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("soon")
def test_processes_that_end_before_one_is_ready_end_the_run() -> None:
    actors = Actors(_Stillborn, 1, 1, cpus=1)
    with pytest.raises(RunFailed, match=r"^processes ended \d times before one was ready: too little memory .* again"):
        list(run_steps(_corpus(1), [Tasks(_cut, 1), actors]))


def test_no_units_no_run() -> None:
    assert list(run_steps([], [Tasks(_cut, 1)])) == []

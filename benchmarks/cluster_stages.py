"""Stages that sleep in place of work, and units of numbered items for them: what cluster.py runs on its nodes.

A file of its own, since Ray's workers import them by name.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray

from stages.engine.journal import Lost


class Sleep:
    """A stage that sleeps some seconds an item, and returns when and where each unit was worked on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._node = ray.get_runtime_context().get_node_id()

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Return `id`, `began`, `ended`, `node` and `process` of each item."""
        rows = []
        for item in unit["id"].to_pylist():
            began = time.time()
            time.sleep(self._seconds)
            rows.append({"id": item, "began": began, "ended": time.time(), "node": self._node, "process": os.getpid()})
        return pa.Table.from_pylist(rows)

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Return the row of an item that is given up; none should be."""
        gone = {"id": item["id"][0].as_py(), "began": 0.0, "ended": 0.0, "node": why.value, "process": 0}
        return pa.Table.from_pylist([gone])


class SleepOnTwoNodes(Sleep):
    """A stage that sleeps some seconds an item as soon as processes of two nodes are there, however late one starts."""

    def __init__(self, seconds: float, folder: Path) -> None:
        super().__init__(seconds)
        self._folder = folder
        (folder / f"{self._node}.node").touch()

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Return what `Sleep` does."""
        while len(list(self._folder.glob("*.node"))) < 2:
            time.sleep(0.05)
        return super().__call__(unit)


class Open:
    """A stage that sleeps some seconds an item and returns it with so many bytes of pixels."""

    def __init__(self, seconds: float, item_bytes: int) -> None:
        self._seconds, self._bytes = seconds, item_bytes
        self._node = ray.get_runtime_context().get_node_id()

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Return the items with `pixels`, and when and where they were opened."""
        time.sleep(self._seconds * unit.num_rows)
        pixels = [np.full(self._bytes, item % 251, np.uint8).data for item in unit["id"].to_pylist()]
        opened = unit.append_column("pixels", pa.array(pixels, pa.large_binary()))
        opened = opened.append_column("opener", pa.array([f"{self._node} {os.getpid()}"] * unit.num_rows))
        return opened.append_column("opened", pa.array([time.time()] * unit.num_rows))

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Raise: nothing here ends a process."""
        raise RuntimeError(f"an item was given up: {why}")


class Use(Sleep):
    """A stage that sleeps some seconds an item on a GPU, for one of its calls at a time, as the label actor does."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._one_call = threading.Lock()

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Return what `Sleep` does, with the opener of each item and the time when it was opened."""
        for item, pixels in zip(unit["id"].to_pylist(), unit["pixels"], strict=True):
            seen = np.frombuffer(pixels.as_buffer(), np.uint8)
            if not seen[0] == seen[-1] == item % 251:
                raise ValueError(f"item {item}: pixels of another")
        with self._one_call:
            done = super().__call__(unit)
        return done.append_column("opener", unit["opener"]).append_column("opened", unit["opened"])


def split(corpus: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yield units of `size` items of `first` up to `end`."""
    for first, end in zip(corpus["first"].to_pylist(), corpus["end"].to_pylist(), strict=True):
        for begin in range(first, end, size):
            yield pa.table({"id": list(range(begin, min(begin + size, end)))})


def shards(items: int, number: int) -> list[pa.Table]:
    """Return units that each stand for a shard of items."""
    bounds = np.linspace(0, items, number + 1).astype(int).tolist()
    return [pa.table({"first": [first], "end": [end]}) for first, end in pairwise(bounds)]


def keep(result: pa.Table, folder: Path) -> pa.Table:
    """Write the items of a unit to a file that is there whole or not at all."""
    items = result["id"].to_pylist()
    path = folder / f"{min(items)}.json"
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(items), encoding="utf-8")
    part.replace(path)
    return result

"""Ray's part of a run, done in this process: the same calls, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest

from stages.engine.resources import Resources


def run_here(units: Sequence[pa.Table], make: Callable[[], Any], _: Resources, **how: Any) -> Iterator[pa.Table]:
    """Run the stage here as `stages.runner.run_actors` does; a `MemoryError` stands for a worker that dies."""
    if not units:
        return
    stage = make()
    for unit in units:
        for rows in how["read"](unit) if how.get("read") else [unit]:
            try:
                made = stage(rows)
                yield from [made] if isinstance(made, pa.Table) else made
            except MemoryError:
                assert how.get("may_lose_units")


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every job of stages/ run here."""
    for module in (
        "label.run",
        "label.retry",
        "curate.run",
        "evaluate.run",
        "prompt_maps.run",
        "edge_maps.run",
        "train.scorer",
    ):
        monkeypatch.setattr(f"stages.{module}.run_actors", run_here)
    pipelines = ("curate", "evaluate", "build_prompt_maps", "build_edge_maps", "train_scorer")
    for name in ("stages.label.job", *(f"pipelines.{name}" for name in pipelines)):
        monkeypatch.setattr(f"{name}.start", lambda *_: Resources(1, 1, "cpu"))

"""Every benchmark can still be started: what it imports is there."""

from __future__ import annotations

import importlib

import pytest

from tests.helpers import ROOT


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_a_benchmark_imports(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")

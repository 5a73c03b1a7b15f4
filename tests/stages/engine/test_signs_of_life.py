"""Signs of life of a stage, read from the record that ends a process without them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident

import pytest

from stages.engine.steps import _Watch, alive


def test_a_sign_counts_what_its_item_has_taken_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count a helper's items too: those of the threads that have work."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    monkeypatch.setitem(_Watch._seen, get_ident(), 0.0)
    alive()
    assert _Watch._seen[get_ident()] == 1000.0
    with ThreadPoolExecutor(1) as helper:
        helper.submit(alive, 30.0).result()
    assert _Watch._seen[get_ident()] == 970.0

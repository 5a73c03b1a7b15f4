"""Mutations can still be applied: code that moved would leave them out."""

from __future__ import annotations

from benchmarks.mutations import MUTATIONS, changed
from tests.helpers import ROOT


def test_every_mutation_fits_the_code() -> None:
    for mutation in MUTATIONS:
        text = (ROOT / mutation.file).read_text(encoding="utf-8")
        assert changed(text, mutation) != text
        assert all((ROOT / test).exists() for test in mutation.tests), mutation

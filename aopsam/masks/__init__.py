"""Masks as runs of pixels."""

from __future__ import annotations

from functools import cache
from types import ModuleType


@cache
def kernels() -> ModuleType | None:
    """Return the compiled loops (`aopsam.masks.compiled`); None without Numba, or where it can keep nothing on disk."""
    try:
        from aopsam.masks import compiled
    except (ImportError, RuntimeError):
        return None
    return compiled

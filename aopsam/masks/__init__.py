"""Masks as runs of pixels."""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from aopsam._cache_dir import cache_dir


@cache
def kernels() -> ModuleType | None:
    """Return the compiled loops (`aopsam.masks.compiled`); None without Numba, or with a warning where it fails.

    They are compiled here, or read from disk: from where Numba was told to keep them ($NUMBA_CACHE_DIR), else from the
    package's own folder, else, where nothing can be written there, from the cache folder.
    """
    if find_spec("numba") is None:
        return None
    try:
        import numba

        config: Any = numba.config  # it has its names at run time
        told = config.CACHE_DIR
        if not told and not os.access(Path(__file__).parent, os.W_OK):
            config.CACHE_DIR = str(cache_dir() / "numba")
        try:
            from aopsam.masks import compiled
        finally:
            config.CACHE_DIR = told
    except Exception as error:  # it compiles: whatever goes wrong there, NumPy makes the same masks
        warnings.warn(f"masks are made without Numba, slower: {error}", RuntimeWarning, stacklevel=2)
        return None
    return compiled

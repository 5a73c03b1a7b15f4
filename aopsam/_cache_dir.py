"""The folder where the library keeps what it downloads and compiles."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return $AOPSAM_CACHE, else $XDG_CACHE_HOME/aopsam, else ~/.cache/aopsam."""
    if chosen := os.environ.get("AOPSAM_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "aopsam"

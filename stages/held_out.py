"""Which photos no training sees: a function of their ids alone, so that every pipeline agrees."""

from __future__ import annotations

import zlib

HOLD_OUT = 10
"""One photo in this many."""


def is_held_out(image_id: str) -> bool:
    """Whether a photo is kept for validation."""
    return zlib.crc32(image_id.encode()) % HOLD_OUT == 0

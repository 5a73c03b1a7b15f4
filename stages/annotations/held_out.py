"""Which photos no training sees: a function of their ids alone, so that every pipeline agrees."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

from aopsam.training.annotated import StoredPhotos, load_photos
from stages.annotations.read import read_annotated

HOLD_OUT = 10
"""One photo in this many."""


def is_held_out(image_id: str) -> bool:
    """Whether a photo is kept for validation."""
    return zlib.crc32(image_id.encode()) % HOLD_OUT == 0


def split_photos(
    shards: Iterable[str], judged: int, on_problem: Callable[[str], None]
) -> tuple[StoredPhotos, StoredPhotos]:
    """The annotated photos of the shards: those to train on, and of those held out at most `judged`, evenly taken.

    Args:
        shards: as `stages.annotations.shards.list_shards` gives them.
        judged: how many to judge by.
        on_problem: told one line for whatever is broken; the rest is used.

    Raises:
        ValueError: no photo to train on.
    """
    photos = load_photos(shards, on_problem, read_annotated)
    training = [number for number, name in enumerate(photos.ids) if not is_held_out(name)]
    held_out = [number for number, name in enumerate(photos.ids) if is_held_out(name)]
    if not training:
        raise ValueError(f"no annotated photo to train on ({len(held_out)} held out)")
    every = max(1, len(held_out) // judged)
    return photos.take(training), photos.take(held_out[::every][:judged])

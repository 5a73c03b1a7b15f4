"""Hold annotated photos out of training, by their ids alone, so that every pipeline holds out the same."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

from aopsam.training.annotated import StoredPhotos, load_photos
from stages.annotations.read import read_annotated

HOLD_OUT = 10
"""One photo in this many is held out."""


def is_held_out(image_id: str) -> bool:
    """Return whether a photo is held out of training, for validation."""
    return zlib.crc32(image_id.encode()) % HOLD_OUT == 0


def split_photos(
    shards: Iterable[str], judged: int, on_problem: Callable[[str], None], least: Sequence[float] = (0.0,)
) -> tuple[StoredPhotos, StoredPhotos]:
    """Return the annotated photos of the shards: those to train on, and at most `judged` held-out ones, evenly taken.

    Args:
        shards: as `stages.annotations.shards.list_shards` gives them.
        judged: the most photos to validate on.
        on_problem: called with one line for whatever is broken; the rest is used.
        least: of each kind of windows that are trained on, the least share of its photo's padded square that a mask
            must cover (`aopsam.training.windows.least_share`); photos without a mask for any are left out.

    Raises:
        ValueError: no photo to train on, or for one of the kinds none with a mask that is large enough.
    """
    photos = load_photos(shards, on_problem, read_annotated)
    training = [number for number, name in enumerate(photos.ids) if not is_held_out(name)]
    held_out = [number for number, name in enumerate(photos.ids) if is_held_out(name)]
    if not training:
        raise ValueError(f"no annotated photo to train on ({len(held_out)} held out)")
    largest = photos.largest[training]
    if largest.max() < max(least):
        raise ValueError(
            f"none of {len(training)} photos to train on has a mask that is large enough: one must cover "
            f"{max(least):.4%} of its photo's padded square, the largest covers {largest.max():.4%}"
        )
    if small := [number for number, share in zip(training, largest, strict=True) if share < min(least)]:
        on_problem(
            f"{len(small)} photos to train on have only masks too small for the model, such as {photos.ids[small[0]]}: "
            f"one must cover {min(least):.4%} of its photo's padded square"
        )
    training = [number for number, share in zip(training, largest, strict=True) if share >= min(least)]
    every = max(1, len(held_out) // judged)
    return photos.take(training), photos.take(held_out[::every][:judged])

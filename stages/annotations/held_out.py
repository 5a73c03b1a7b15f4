"""Hold annotated photos out of training, by their ids alone, so that every pipeline holds out the same."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from aopsam.training.annotated import StoredPhotos, load_photos
from stages.annotations.read import read_annotated

HOLD_OUT = 10
"""One photo in this many is held out."""


def is_held_out(image_id: str) -> bool:
    """Return whether a photo is held out of training, for validation."""
    return zlib.crc32(image_id.encode()) % HOLD_OUT == 0


def is_listed_held_out(file_name: str) -> bool:
    """Return whether a photo of a listing is held out, by its own name as in annotated shards."""
    return is_held_out(PurePosixPath(file_name.rpartition("#")[2]).stem)


def split_photos(
    shards: Iterable[str], judged: int, on_problem: Callable[[str], None], least: Sequence[float] = (0.0,)
) -> tuple[StoredPhotos, StoredPhotos]:
    """Return the annotated photos of the shards: those to train on, and at most `judged` held-out ones.

    Args:
        shards: as `stages.annotations.shards.list_shards` gives them.
        judged: as for `split_sources`; so are the rest, and the errors.
        on_problem: called with one line for whatever is broken.
        least: least shares of masks.
    """
    (training,), (held_out,) = split_sources([shards], judged, on_problem, least)
    return training, held_out


def split_sources(
    sources: Sequence[Iterable[str]],
    judged: int,
    on_problem: Callable[[str], None],
    least: Sequence[float] = (0.0,),
) -> tuple[list[StoredPhotos], list[StoredPhotos]]:
    """Return the annotated photos of each source: those to train on, and held-out ones, evenly taken.

    Args:
        sources: of each its shards, as `stages.annotations.shards.list_shards` gives them.
        judged: the most photos to validate on, of all sources together.
        on_problem: called with one line for whatever is broken; the rest is used.
        least: of each kind of windows that are trained on, the least share of its photo's padded square that a mask
            must cover (`aopsam.training.windows.least_share`); photos without a mask for any are left out.

    Raises:
        ValueError: no photo to train on, or for one of the kinds none with a mask that is large enough.
    """
    loaded = [load_photos(shards, on_problem, read_annotated) for shards in sources]
    apart = [np.array([is_held_out(name) for name in photos.ids], bool) for photos in loaded]
    training = [photos.take(np.flatnonzero(~out).tolist()) for photos, out in zip(loaded, apart, strict=True)]
    held_out = [photos.take(np.flatnonzero(out).tolist()) for photos, out in zip(loaded, apart, strict=True)]
    if not any(map(len, training)):
        raise ValueError(f"no annotated photo to train on ({sum(map(len, held_out))} held out)")
    return _large_enough(training, on_problem, least), _evenly(held_out, judged)


def _large_enough(
    training: list[StoredPhotos], on_problem: Callable[[str], None], least: Sequence[float]
) -> list[StoredPhotos]:
    """Leave out photos whose masks are all too small, see `split_sources`."""
    largest = np.concatenate([photos.largest for photos in training])
    if largest.max() < max(least):
        raise ValueError(
            f"none of {len(largest)} photos to train on has a mask that is large enough: one must cover "
            f"{max(least):.4%} of its photo's padded square, the largest covers {largest.max():.4%}"
        )
    if small := [photos.ids[n] for photos in training for n in np.flatnonzero(photos.largest < min(least))]:
        on_problem(
            f"{len(small)} photos to train on have only masks too small for the model, such as {small[0]}: "
            f"one must cover {min(least):.4%} of its photo's padded square"
        )
    return [photos.take(np.flatnonzero(photos.largest >= min(least)).tolist()) for photos in training]


def _evenly(held_out: list[StoredPhotos], most: int) -> list[StoredPhotos]:
    """Take at most so many photos of all sources together."""
    places = [(source, n) for source, photos in enumerate(held_out) for n in range(len(photos))]
    taken = places[:: max(1, len(places) // most)][:most]
    return [photos.take([n for place, n in taken if place == source]) for source, photos in enumerate(held_out)]

"""Hold annotated photos out of training, by their ids alone, so that every pipeline holds out the same."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from aopsam.photos.sa1b import Sample
from aopsam.training.annotated import Annotated, Findings, StoredPhotos, checked, largest_share
from aopsam.training.stream import First, PhotoStream, StreamedPhotos, read_first
from stages.annotations.read import read_annotated

HOLD_OUT = 10
"""One photo in this many is held out."""

TOO_SMALL = "{} photos to train on have only masks too small for the model, such as {}: one must cover "


def is_held_out(image_id: str) -> bool:
    """Return whether a photo is held out of training, for validation."""
    return _draw(image_id) % HOLD_OUT == 0


def _draw(image_id: str) -> int:
    return zlib.crc32(image_id.encode())


def held_out_ids(ids: Iterable[str]) -> frozenset[str]:
    """Return which of some photos are held out: one in ten by its id, and one where that gives none of several."""
    distinct = set(ids)
    held_out = frozenset(filter(is_held_out, distinct))
    return held_out or frozenset(sorted(distinct, key=lambda name: (_draw(name), name))[: len(distinct) > 1])


def listed_id(file_name: str) -> str:
    """Return the id that a photo of a listing has in annotated shards: its own name."""
    return PurePosixPath(file_name.rpartition("#")[2]).stem


def split_photos(
    shards: Iterable[str],
    judged: int,
    on_problem: Callable[[str], None],
    least: Sequence[float] = (0.0,),
    seed: int = 0,
) -> tuple[StreamedPhotos, StoredPhotos]:
    """Return the annotated photos of the shards: those to train on, and at most `judged` held-out ones.

    Args:
        shards: as `stages.annotations.shards.list_shards` gives them.
        judged: as for `split_sources`; so are the rest, and the errors.
        on_problem: called with one line for whatever is broken.
        least: least shares of masks.
        seed: seed of the order of the shards.
    """
    (training,), (held_out,) = split_sources([shards], judged, on_problem, least, seed)
    return training, held_out


def split_sources(
    sources: Sequence[Iterable[str]],
    judged: int,
    on_problem: Callable[[str], None],
    least: Sequence[float] = (0.0,),
    seed: int = 0,
) -> tuple[list[StreamedPhotos], list[StoredPhotos]]:
    """Return the annotated photos of each source: those to train on, and held-out ones, evenly taken.

    Of a source larger than `aopsam.training.stream.WINDOW_BYTES` that much is read now; held-out photos are of that.

    Args:
        sources: of each its shards, as `stages.annotations.shards.list_shards` gives them.
        judged: the most photos to validate on, of all sources together.
        on_problem: called with one line for whatever is broken; the rest is used. One more line names the photo that is
            held out where none is by its id.
        least: of each kind of windows that are trained on, the least share of its photo's padded square that a mask
            must cover (`aopsam.training.windows.least_share`); photos without a mask for any are left out.
        seed: seed of the order in which the shards of a large source are read.

    Raises:
        ValueError: no photo to train on, or for one of the kinds none with a mask that is large enough.
    """
    streams = [PhotoStream(list(shards), read_annotated, seed) for shards in sources]
    firsts = [read_first(stream, checked) for stream in streams]
    for line in (line for stream in streams for line in stream.findings.lines()):
        on_problem(line)
    held_out = _held_out(firsts, max(least), on_problem)
    apart = [np.array([name in held_out for name in first.photos.ids], bool) for first in firsts]
    if all(out.all() for out in apart):
        raise ValueError(f"no annotated photo to train on ({sum(map(len, apart))} held out)")
    chosen = _large_enough([first.photos for first in firsts], apart, on_problem, least)

    def check(sample: Sample, findings: Findings) -> Annotated | None:
        """Check a photo that the run comes to later; windows of every kind must find a mask in it."""
        if is_held_out(sample.id) or sample.id in held_out:
            return None
        photo = checked(sample, findings)
        if photo is not None and largest_share(photo) < max(least):
            findings.count(TOO_SMALL + f"{max(least):.4%} of its photo's padded square", photo.id)
            return None
        return photo

    training = [StreamedPhotos(*each, check) for each in zip(firsts, chosen, streams, strict=True)]
    return training, _evenly([f.photos.take(np.flatnonzero(out)) for f, out in zip(firsts, apart, strict=True)], judged)


def _held_out(firsts: Sequence[First], least: float, on_problem: Callable[[str], None]) -> frozenset[str]:
    """Return the ids of held-out photos; where it is none by the rule, one that has a mask large enough."""
    ids = [name for first in firsts for name in first.photos.ids]
    if any(map(is_held_out, ids)):
        return held_out_ids(ids)
    held_out = held_out_ids(
        first.photos.ids[n] for first in firsts for n in np.flatnonzero(first.photos.largest >= least)
    )
    for name in held_out:
        on_problem(
            f"{name}, to validate on: no id of {len(ids)} photos falls to the tenth that is held out, its is closest"
        )
    return held_out


def _large_enough(
    photos: Sequence[StoredPhotos],
    apart: Sequence[np.ndarray],
    on_problem: Callable[[str], None],
    least: Sequence[float],
) -> list[list[int]]:
    """Return the numbers of the photos to train on, without those whose masks are all too small; see `split_sources`.

    Args:
        photos: photos of each source.
        apart: of each source, which are held out.
        on_problem: called with one line.
        least: least shares of masks.
    """
    training = [np.flatnonzero(~out) for out in apart]
    largest = [each.largest[numbers] for each, numbers in zip(photos, training, strict=True)]
    count, most = sum(map(len, largest)), max(shares.max(initial=0.0) for shares in largest)
    if most < max(least):
        raise ValueError(
            f"none of {count} photos to train on has a mask that is large enough: one must cover "
            f"{max(least):.4%} of its photo's padded square, the largest covers {most:.4%}"
        )
    findings = Findings()
    for each, numbers, shares in zip(photos, training, largest, strict=True):
        for number in numbers[shares < min(least)]:
            findings.count(TOO_SMALL + f"{min(least):.4%} of its photo's padded square", each.ids[number])
    for line in findings.lines():
        on_problem(line)
    return [numbers[shares >= min(least)].tolist() for numbers, shares in zip(training, largest, strict=True)]


def _evenly(held_out: list[StoredPhotos], most: int) -> list[StoredPhotos]:
    """Take at most so many photos of all sources together."""
    places = [(source, n) for source, photos in enumerate(held_out) for n in range(len(photos))]
    taken = places[:: max(1, len(places) // most)][:most]
    return [photos.take([n for place, n in taken if place == source]) for source, photos in enumerate(held_out)]

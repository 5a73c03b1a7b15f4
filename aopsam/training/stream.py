"""Read annotated photos shard after shard without end, so that training begins before the corpus has been read.

The first photos of a source, up to `WINDOW_BYTES` of them, are read and checked before training. Where there are no
more, that is all that a run reads. Otherwise it goes on from there, part by part (`aopsam.training.pool`).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np

from aopsam.photos.sa1b import Sample
from aopsam.training.annotated import Annotated, Findings, Problem, StoredPhotos

WINDOW_BYTES = 256 << 20
"""Bytes of a source's photos, stored with their masks, that batches draw from at one time: 250 of SA-1B, 1,500 of COCO.
"""
PARTS = 4
"""Parts of a window, which moves on by one of them."""

Reader = Callable[[Any, Problem], Iterable[Sample]]
"""Reader of one shard, the same samples at every call; it calls back with one line for each problem."""
Check = Callable[[Sample, Findings], Annotated | None]
"""Function that makes a photo of a sample, or notes why there is none to train on."""


class Cursor(NamedTuple):
    """Place in an endless stream of samples.

    Attributes:
        epoch: number of the pass over the shards.
        place: place of the shard in that pass.
        behind: samples of the shard that have been read.
    """

    epoch: int = 0
    place: int = 0
    behind: int = 0


class PhotoStream:
    """Samples of shards without end, each pass over the shards in another order; they depend on seed and cursor alone.

    May be forked: a process that did not open the current shard opens it again.

    Attributes:
        shards: names of the shards, or whatever else `Reader` takes.
        at: cursor behind the last sample.
        findings: problems of what is read; replace it at will.
    """

    def __init__(self, shards: Sequence[Any], read: Reader, seed: int = 0) -> None:
        self.shards = list(shards)
        self.at = Cursor()
        self.findings = Findings()
        self._read, self._seed = read, seed
        self._process = 0
        self._samples: Generator[Sample | None] | None = None

    def seek(self, at: Cursor) -> None:
        """Go to a cursor; its shard will be read from the start, without decoding what is behind."""
        if at != self.at:
            self.at, self._samples = at, None

    def next(self) -> Sample | None:
        """Return the next sample; None at the end of each pass."""
        if self._samples is None or self._process != os.getpid():
            # A file that was opened before a fork would share its position with the other process.
            self._samples, self._process = self._walk(self.at), os.getpid()
        return next(self._samples)

    def _walk(self, at: Cursor) -> Generator[Sample | None]:
        epoch, first, behind = at
        while True:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self.shards)).tolist()
            for place in range(first, len(order)):
                yield from self._shard(order[place], Cursor(epoch, place, behind))
                behind = 0
            epoch, first = epoch + 1, 0
            self.at = Cursor(epoch)
            yield None

    def _shard(self, number: int, at: Cursor) -> Generator[Sample]:
        """Yield the samples of a shard from a cursor on."""
        passed = 0
        self.findings.shard = number

        def report(line: str) -> None:
            if passed >= at.behind:
                self.findings.say(line)

        for sample in self._read(self.shards[number], report):
            passed += 1
            if passed > at.behind:
                self.findings.shard = number
                self.at = at._replace(behind=passed)
                yield sample


@dataclass(frozen=True)
class First:
    """Photos at the start of a stream.

    Attributes:
        photos: those that can be used; in the order of the shards where they are all.
        parts: number of the window's part in which each of them is.
        looked_at: number of samples that were read.
        shards: number of shards that were opened for them.
        of_shards: number of all shards.
        is_all: whether the shards hold no more.
    """

    photos: StoredPhotos
    parts: list[int]
    looked_at: int
    shards: int
    of_shards: int
    is_all: bool


def read_first(stream: PhotoStream, check: Check) -> First:
    """Read the start of a stream, up to `WINDOW_BYTES` of photos or one pass."""
    photos, places, parts = StoredPhotos(), list[tuple[int, int]](), list[int]()
    looked_at, shards = 0, set[int]()
    sample: Sample | None = None
    while photos.stored_bytes < WINDOW_BYTES and (sample := stream.next()) is not None:
        looked_at += 1
        shards.add(stream.findings.shard)
        if (photo := check(sample, stream.findings)) is not None:
            places.append((stream.findings.shard, len(places)))
            parts.append(photos.stored_bytes * PARTS // WINDOW_BYTES)
            photos.add(sample.jpeg, photo)
    if sample is not None:
        return First(photos, parts, looked_at, len(shards), len(stream.shards), is_all=False)
    in_order = [number for _, number in sorted(places)]
    every = len(stream.shards)
    return First(photos.take(in_order), parts, looked_at, every, every, is_all=True)


class StreamedPhotos(Sequence[Annotated]):
    """Photos of one source to train on: as a sequence those that a run begins with, and the stream of all others.

    Attributes:
        first: what was read before training.
        photos: those of its photos that are trained on.
        stream: stream of the source; None where the first photos are all.
        check: check of later samples.
        after: cursor behind the first photos.
        edges: edges by the digests of photos.
    """

    def __init__(self, first: First, indices: Sequence[int], stream: PhotoStream, check: Check) -> None:
        """Train on some of the first photos.

        Args:
            first: start of the stream.
            indices: numbers of the photos among those that are trained on.
            stream: the stream, behind these photos.
            check: as `read_first` takes it; for later samples.
        """
        self.first, self.photos, self.check = first, first.photos.take(indices), check
        self.stream = None if first.is_all else stream
        self.after = stream.at
        self.edges: Mapping[str, np.ndarray] = {}
        self._parts = [first.parts[index] for index in indices]

    def with_edges(self, edges: Mapping[str, np.ndarray]) -> StreamedPhotos:
        """Return the same photos with the edges that a mapping has under their digests."""
        same = copy.copy(self)
        same.photos, same.edges = self.photos.with_edges(edges), edges
        return same

    def part(self, number: int) -> StoredPhotos:
        """Return the photos of one of the first window's parts."""
        return self.photos.take(place for place, part in enumerate(self._parts) if part == number)

    def __len__(self) -> int:
        return len(self.photos)

    @overload
    def __getitem__(self, index: int) -> Annotated: ...
    @overload
    def __getitem__(self, index: slice) -> StoredPhotos: ...
    def __getitem__(self, index: int | slice) -> Annotated | StoredPhotos:
        return self.photos[index]

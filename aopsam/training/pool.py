"""Move the window of photos that batches draw from, as a function of the update's number."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from aopsam.training import stream
from aopsam.training.annotated import Annotated, Findings, StoredPhotos
from aopsam.training.joined import Joined
from aopsam.training.stream import PARTS, Cursor, PhotoStream, StreamedPhotos


class Pool:
    """Photos that batches draw from: all of a small source, a window of a large one that moves on with the updates.

    A window is four parts of `WINDOW_BYTES` / 4. After as many updates as one worker needs to see a part's photos about
    once, the oldest part goes and the next one comes. So the photos of an update depend on the seed and the update's
    number alone, and all workers draw from the same. A run that goes on finds its place by the checkpoint's cursor.

    Batches are made in forked processes. They leave the cursors that they pass, and the problems that they meet, in a
    file that this process reads.

    Attributes:
        sources: photos by source, for the last number given to `move`.
    """

    def __init__(self, sources: Sequence[Sequence[Annotated]], photos_a_batch: int) -> None:
        """Begin with the first photos of all sources.

        Args:
            sources: photos by source; all but `StreamedPhotos` stay.
            photos_a_batch: number of photos that a batch draws.
        """
        self.sources: list[Sequence[Annotated]] = list(sources)
        self._given = list(sources)
        self._moving = {
            place: photos
            for place, photos in enumerate(sources)
            if isinstance(photos, StreamedPhotos) and photos.stream is not None
        }
        self._updates = max(1, -(-sum(map(len, sources)) // (PARTS * photos_a_batch)))
        self._batches, self._skipped = 1, 0
        self._cursors = {PARTS: [photos.after for photos in self._moving.values()]}
        self._notes = _Notes()
        self._lines: list[str] = []
        self._tellers: dict[int, int] = {}
        self._number = 0
        self._parts: dict[int, list[StoredPhotos]] = {}
        self._restart(0)

    def begin(self, update: int, batches: int, state: dict[str, Any] | None = None) -> None:
        """Prepare for a run that begins with an update.

        Args:
            update: number of the update.
            batches: number of batches of an update, of all workers together.
            state: what `state` returned for this update; without it, this update has the first photos.
        """
        self._batches = batches
        self._skipped = update // self._updates if state is None else 0
        if state is not None and state["at"] is not None:
            self._cursors[state["part"]] = [Cursor(*at) for at in state["at"]]

    def state(self, update: int) -> dict[str, Any] | None:
        """Return what a run needs that goes on with an update; None where all photos stay."""
        if not self._moving:
            return None
        self._read_notes()
        part = update // self._updates - self._skipped
        return {"part": part, "at": [list(at) for at in self._cursors[part]] if part > PARTS else None}

    def news(self) -> list[str]:
        """Return a line for each problem that was met since the last call, in photos that were not seen before."""
        self._read_notes()
        lines, self._lines = self._lines, []
        return lines

    def _read_notes(self) -> None:
        for part, process, at, found in self._notes.read():
            if self._tellers.setdefault(part, process) == process:  # others make the same parts
                self._lines += found
            if at is not None:
                self._cursors[part + 1] = [Cursor(*each) for each in at]

    def describe(self) -> str:
        """Say how many photos a run begins with, how many were looked at to find them, and how it goes on."""
        firsts = [photos.first for photos in self._given if isinstance(photos, StreamedPhotos)]
        count, looked_at = sum(map(len, self._given)), sum(first.looked_at for first in firsts)
        opened, shards = sum(first.shards for first in firsts), sum(first.of_shards for first in firsts)
        if not self._moving:
            return f"{count} photos to train on, of all {looked_at} in {shards} shard(s)"
        return (
            f"{count} photos to begin with, of {looked_at} looked at in {opened} of {shards} shard(s); the others are"
            f" read while the run goes on, {stream.WINDOW_BYTES >> 20} MiB of a source at a time"
        )

    def move(self, index: int) -> list[int] | None:
        """Bring `sources` to a batch; its number may be any, and increasing ones cost least.

        Returns:
            How many of the first photos of each source are gone since the last call; None where nothing has moved.

        Raises:
            ValueError: a whole pass over a source's shards gave no photo to train on.
        """
        if not self._moving:
            return None
        update = index // self._batches
        number = max(0, update // self._updates - self._skipped)
        before = self._number
        sizes = {part: list(map(len, self._parts[part])) for part in range(before, before + PARTS)}
        known = max(part for part in self._cursors if part <= max(number, PARTS))
        restart = number < before or self._process != os.getpid() or known > self._next
        if restart:
            self._restart(number)
        while self._next < number + PARTS:
            self._grow(1.0)
            self._parts = {part: photos for part, photos in self._parts.items() if part >= number}
        if self._next == number + PARTS:
            self._grow((update % self._updates + 1) / self._updates)
        if number == before and not restart:
            return None
        self._number = number
        self._parts = {part: photos for part, photos in self._parts.items() if part >= number}
        gone = [0] * len(self.sources)
        for row, place in enumerate(self._moving):
            gone[place] = sum(size[row] for part, size in sizes.items() if part < number or number < before)
            self.sources[place] = Joined([self._parts[part][row] for part in range(number, number + PARTS)])
        return gone

    def _restart(self, number: int) -> None:
        """Go to the last known cursor that comes before a part, or to the first photos."""
        self._process = os.getpid()
        firsts = list(self._moving.values())
        self._next = max(part for part in self._cursors if part <= max(number, PARTS))
        self._parts = {part: [photos.part(part) for photos in firsts] for part in range(number, PARTS)}
        self._making = [StoredPhotos() for _ in firsts]
        self._barren = [False] * len(firsts)
        for photos, at in zip(firsts, self._cursors[self._next], strict=True):
            assert photos.stream is not None
            photos.stream.seek(at)
            photos.stream.findings = Findings()

    def _grow(self, share: float) -> None:
        """Read on until a share of the next part is there."""
        for row, photos in enumerate(self._moving.values()):
            while self._making[row].stored_bytes < share * stream.WINDOW_BYTES / PARTS:
                self._take(row, photos)
        if share < 1:
            return
        self._parts[self._next] = [
            part.with_edges(photos.edges) for part, photos in zip(self._making, self._moving.values(), strict=True)
        ]
        at = []
        for photos in self._moving.values():
            assert photos.stream is not None
            self._tell(photos.stream, photos.stream.at.epoch)
            at.append(photos.stream.at)
        self._notes.write([self._next, self._process, at, []])
        self._next += 1
        self._making = [StoredPhotos() for _ in self._moving]

    def _take(self, row: int, photos: StreamedPhotos) -> None:
        """Read one more sample of a source."""
        assert photos.stream is not None
        sample = photos.stream.next()
        if sample is None:
            self._tell(photos.stream, photos.stream.at.epoch - 1)
            if self._barren[row]:
                raise ValueError(
                    f"a whole pass over {len(photos.stream.shards)} shard(s) gave no photo that can be trained on,"
                    f" after the first {len(photos)}"
                )
            self._barren[row] = True
        elif (photo := photos.check(sample, photos.stream.findings)) is not None:
            self._barren[row] = False
            self._making[row].add(sample.jpeg, photo)

    def _tell(self, source: PhotoStream, epoch: int) -> None:
        """Note the problems of the photos that were read, if it was for the first time."""
        if epoch == 0 and (lines := source.findings.lines()):
            self._notes.write([self._next, self._process, None, lines])
        source.findings = Findings()


class _Notes:
    """JSON values that this process and those forked from it write, and this one reads."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as this does
        self._read = 0

    def write(self, note: Any) -> None:
        """Append a value, in one piece."""
        self._file.write(f"{json.dumps(note)}\n".encode())

    def read(self) -> list[Any]:
        """Return the values that were written since the last call."""
        size = os.fstat(self._file.fileno()).st_size
        whole = os.pread(self._file.fileno(), size - self._read, self._read).rpartition(b"\n")[0]
        self._read += len(whole) + (1 if whole else 0)
        return [json.loads(line) for line in whole.splitlines()]

"""A job over annotated photos, in parts: checked before the work, done where it is not yet, and finished once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from stages.annotations.count import count_photos
from stages.annotations.each_photo import EachPhoto, Outcome, Work, WritePart, accounts
from stages.annotations.samples import ReadSamples, Source
from stages.config.manifest import check_configuration, finished_manifest, write_manifest
from stages.engine.progress import Progress
from stages.engine.resources import Resources
from stages.engine.steps import Tasks, pool, run_steps
from stages.storage.atomic import check_writable
from stages.storage.location import redact
from stages.storage.parts import Part, by_source, digest_of, is_complete, list_parts, read_parts

PARTS = "parts"
"""Folder in OUT of the parts of most jobs."""


@dataclass(frozen=True)
class Done:
    """Photos, problems and rows that a job left in OUT.

    Attributes:
        photos: number of them, and of shards of which something cannot be read.
        outcomes: of those of which there is something to say.
        tables: rows of the parts, where they were asked for.
    """

    photos: int
    outcomes: list[Outcome]
    tables: list[pa.Table] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Number of photos without rows."""
        return sum(outcome.failed for outcome in self.outcomes)

    @property
    def used(self) -> int:
        """Number of photos with rows."""
        return self.photos - self.failed

    @property
    def problems(self) -> list[str]:
        """Lines about photos and shards, sorted."""
        return sorted(line for outcome in self.outcomes for line in outcome.lines())

    def exit_status(self, max_failed: float | None) -> int:
        """Return 3 where no photo could be used or a larger share failed than was accepted, else 0."""
        return status_of(self.photos, self.failed, max_failed)


def status_of(photos: int, failed: int, max_failed: float | None) -> int:
    """Return 3 where no photo could be used or a larger share failed than was accepted, else 0."""
    return 3 if photos == failed or (max_failed is not None and failed > max_failed * photos) else 0


@dataclass(frozen=True)
class PhotoJob:
    """A job before its first photo.

    Attributes:
        out: folder or URI, without a slash at its end.
        sources: the photos.
        reading: how they are read.
        schema: of the rows that are made of them.
        configuration: all that decides which rows are made, as values of JSON.
        folder: of the parts, in OUT; empty for OUT itself.
        how: options of `pyarrow.parquet.write_table`.
    """

    out: str
    sources: Sequence[Source]
    reading: ReadSamples
    schema: pa.Schema
    configuration: Mapping[str, Any]
    folder: str = PARTS
    how: Mapping[str, Any] = field(default_factory=lambda: {"compression": "zstd"})

    @property
    def parts(self) -> str:
        """Folder of the parts."""
        return f"{self.out}/{self.folder}".rstrip("/")

    def check(self, *names: str) -> None:
        """Check before the work that OUT is of this configuration and can be written.

        Args:
            names: what will be written beside the parts, as `stages.storage.atomic.check_writable` takes it.

        Raises:
            ValueError: it is not, or cannot.
        """
        if self.finished() is None:  # a finished run may lie where nothing can be written
            folders = (f"{self.folder}/",) if self.folder else ()
            check_writable(self.out, "manifest.json", *folders, *names)
        check_configuration(self.out, self.configuration, self.folder or PARTS)

    def finished(self) -> dict[str, Any] | None:
        """Return the manifest where OUT is finished, of the same shards; else None."""
        manifest = finished_manifest(self.out)
        return manifest if manifest is not None and manifest.get("shards") == self._shards() else None

    def nothing_to_do(self, noun: str, max_failed: float | None) -> int | None:
        """Say so where OUT is finished, and where its `noun` are; return the exit status then, else None."""
        manifest = self.finished()
        if manifest is None:
            return None
        photos, failed = manifest["photos"], manifest["failed"]
        print(f"nothing to do: {photos} photos done, {failed} of them failed; {noun} in {redact(self.out)}")
        return status_of(photos, failed, max_failed)

    def _shards(self) -> str:
        return digest_of("\0".join(redact(shard) for source in self.sources for shard in source.shards))

    def run(self, make: Callable[[], Work], resources: Resources, max_seconds: float, rows: bool = True) -> Done:
        """Do the work on the photos that have none in OUT; say on stderr how it goes and what is left out.

        Args:
            make: builds what is done to a photo, in each actor; picklable.
            resources: actors, threads and device.
            max_seconds: longest time for a photo.
            rows: read the rows of all parts at the end.

        Returns:
            All that is in OUT then, of this run and those before it.
        """
        write_manifest(self.out, self.configuration, "running", {})
        before = by_source(list_parts(self.parts))
        done = {source: before.get(digest_of(source.name), []) for source in self.sources}
        units = [source.unit(parts) for source, parts in done.items() if not is_complete(parts)]
        steps = (
            Tasks(self.reading, max(2, resources.actors)),
            pool(
                partial(EachPhoto, make, self.schema),
                resources,
                WritePart(self.parts, self.schema, self.how),
                max_seconds,
            ),
        )
        progress, unread = Progress("photos"), list[Outcome]()
        for table in run_steps(units, steps):
            for account in accounts(table):
                self._expect(progress, account.photos, account.bytes, done)
                progress.add(account.photos, account.failed)
                lines = [line for outcome in account.outcomes for line in outcome.lines()]
                print("".join(f"left out: {line}\n" for line in lines), end="", file=sys.stderr, flush=True)
                unread += [] if account.in_part else account.outcomes
        if progress.items:
            progress.expect(progress.items - progress.expected, all_known=True)  # no more came
            progress.add(0)
        progress.close()
        return self._done(unread, rows)

    def _expect(self, progress: Progress, photos: int, size: int, done: Mapping[Source, list[Part]]) -> None:
        """Estimate from the first photos how many there are; count on where there are more."""
        if not progress.all_known and size:
            known = sum(part.items for parts in done.values() for part in parts)
            left = count_photos(self.sources, size / photos, self.reading.chosen()).photos - known - progress.items
            progress.expect(max(0, left), all_known=True)
        progress.expect(max(0, progress.items + photos - progress.expected))

    def _done(self, unread: list[Outcome], rows: bool) -> Done:
        ours = {digest_of(source.name) for source in self.sources}
        parts = [part for part in list_parts(self.parts) if part.source in ours]
        read = read_parts(self.parts, parts, None if rows else [])
        outcomes = [Outcome(*values) for _, noted in read for values in noted]
        photos = sum(part.items for part in parts) + len(unread)
        return Done(photos, outcomes + unread, [table for table, _ in read] if rows else [])

    def finish(self, done: Done, facts: Mapping[str, Any] | None = None) -> None:
        """Write that OUT is finished, last of all."""
        counts = {"photos": done.photos, "failed": done.failed, "problems": len(done.problems)}
        write_manifest(self.out, self.configuration, "finished", {"shards": self._shards(), **counts, **(facts or {})})

"""Read annotated photos as units of work: sources in, tables of `SAMPLES` out, one for each part (storage/parts.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple

import pyarrow as pa

from aopsam.photos.sa1b import Sample
from schemas.column import column
from stages.annotations.chosen import chosen_photos
from stages.annotations.read import read_annotated
from stages.storage.location import redact
from stages.storage.parts import Part

SAMPLES = pa.schema(
    [
        column("source", pa.string(), "name of the source", nullable=False),
        column("shard", pa.string(), "where in the source it is, without credentials", nullable=False),
        column("part", pa.string(), "file name of the part that it belongs to; null where there is a problem"),
        column("image_id", pa.string(), "the member's path without suffix; null where there is a problem"),
        column("place", pa.int64(), "number of photos before it in its source"),
        column("jpeg", pa.large_binary(), "the photo as stored"),
        column("width", pa.int64(), "as its JSON says", unit="px"),
        column("height", pa.int64(), "as its JSON says", unit="px"),
        column("annotations", pa.string(), "JSON, records of SA-1B's layout"),
        column("crowds", pa.string(), "JSON, RLEs of many objects that are not told apart"),
        column("problem", pa.string(), "what of the shard cannot be read; all else is null then"),
    ],
    metadata={"table": "samples"},
)
"""A row is a photo and its annotations, or a problem."""

SOURCES = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("shards", pa.list_(pa.string())),
        pa.field("limit", pa.int64()),
        pa.field("done", pa.list_(pa.string())),
    ]
)


class Source(NamedTuple):
    """Photos that are read one after the other.

    Attributes:
        name: tells it apart, without credentials.
        shards: as `stages.annotations.shards.list_shards` gives them.
        limit: the first so many photos; None for all.
    """

    name: str
    shards: tuple[str, ...]
    limit: int | None = None

    @classmethod
    def of_shard(cls, shard: str) -> Source:
        """Return one shard as a source."""
        return cls(redact(shard), (shard,))

    def unit(self, done: Sequence[Part] = ()) -> pa.Table:
        """Return it as a unit for `ReadSamples`, which passes over the parts that are done."""
        row = {"source": self.name, "shards": self.shards, "limit": self.limit, "done": [part.name for part in done]}
        return pa.Table.from_pylist([row], schema=SOURCES)


@dataclass(frozen=True)
class ReadSamples:
    """Reader of `Source` units; what it yields follows from the unit and the source alone.

    Attributes:
        rows: photos of a part.
        images: where the photos of labels are, if not where they were labelled.
        only: URI of a table of schemas/curation.py; the photos that it chose are read and no others.
    """

    rows: int
    images: str | None = None
    only: str | None = None

    def chosen(self) -> frozenset[str] | None:
        """Return the ids that `only` chose; None where all photos are read.

        Raises:
            ValueError: it is no table of a curation, or chose nothing.
        """
        return None if self.only is None else chosen_photos(self.only)

    def __call__(self, sources: pa.Table) -> Iterator[pa.Table]:
        """Yield the photos of each part that is not done, a table a part; then what could not be read."""
        for row in sources.to_pylist():
            source = Source(row["source"], tuple(row["shards"]), row["limit"])
            problems: list[dict[str, Any]] = []
            done = {part.number: part for part in map(Part.parse, row["done"] or ()) if part is not None}
            yield from self._parts(source, done, problems)
            if problems:
                yield pa.Table.from_pylist(problems, schema=SAMPLES)

    def _parts(self, source: Source, done: dict[int, Part], problems: list[dict[str, Any]]) -> Iterator[pa.Table]:
        photos = islice(self._photos(source, problems), source.limit)
        following = next(photos, None)
        first = 0
        for number in count():
            if following is None:
                return
            shard = following[0]
            before = done.get(number)
            some = [following, *islice(photos, (before.items if before else self.rows) - 1)]
            following = next(photos, None)
            part = Part.of(source.name, number, [sample.id for _, sample in some], following is None and not problems)
            if before is None:
                yield _table(source.name, part.name, first, some)
            elif before.digest != part.digest:
                said = f"{shard}: has other photos than when OUT was begun, from number {first} on; give another --out"
                problems.append({"source": source.name, "shard": shard, "problem": said})
                return
            first += len(some)

    def _photos(self, source: Source, problems: list[dict[str, Any]]) -> Iterator[tuple[str, Sample]]:
        chosen = self.chosen()
        for uri in source.shards:
            about = {"source": source.name, "shard": redact(uri)}

            def report(line: str, about: dict[str, str] = about) -> None:
                problems.append(about | {"problem": line})

            for sample in read_annotated(uri, report, self.images):
                if chosen is None or sample.id in chosen:
                    yield about["shard"], sample


def sample_of(row: Mapping[str, Any]) -> Sample:
    """Return the photo of a row of `SAMPLES`."""
    annotations, crowds = (json.loads(row[name]) for name in ("annotations", "crowds"))
    return Sample(row["image_id"], row["jpeg"], row["width"], row["height"], annotations, crowds)


def _table(source: str, part: str, first: int, some: Sequence[tuple[str, Sample]]) -> pa.Table:
    rows = [
        {
            "source": source,
            "shard": shard,
            "part": part,
            "image_id": sample.id,
            "place": first + place,
            "jpeg": sample.jpeg,
            "width": sample.width,
            "height": sample.height,
            "annotations": json.dumps(sample.annotations),
            "crowds": json.dumps(sample.crowds),
        }
        for place, (shard, sample) in enumerate(some)
    ]
    return pa.Table.from_pylist(rows, schema=SAMPLES)

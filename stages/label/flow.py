"""From the name of a corpus to units of work, in tasks: find what there is, list archives, cut, leave out what is done.

Tables of three kinds go on from here, told apart by their schema's metadata: units of photos, archives to be listed,
and news of how many photos there are, which go through all later steps untouched.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

import pyarrow as pa

from schemas.listing import SCHEMA
from stages.corpus.index import OF_FILES, count_part, key_of, read_part, remove_parts_of_files, write_part
from stages.corpus.listing import Corpus, Listed, Row, open_corpus, parts_of
from stages.corpus.walk import Found
from stages.label.folder import DoneIds, count_rows
from stages.storage.location import locate
from stages.storage.tables import AT_ONCE

MOST_ROWS = 256
"""Photos in a unit, unless told otherwise."""

SHARE = 4
"""A unit holds one in this many of the photos that are left, at most."""

LOT = 1024
"""Members of an archive that go on together, at most."""

FILES_A_FILE = 1 << 16
"""Rows of a part of the listing that holds files."""


class Kind(StrEnum):
    """Kind of a table of this flow."""

    UNIT = "unit"
    ARCHIVE = "archive"
    NEWS = "news"


def kind_of(table: pa.Table) -> Kind:
    """Return what a table of this flow is."""
    return Kind((table.schema.metadata or {}).get(b"flow", b"unit").decode())


def key_of_unit(table: pa.Table) -> str:
    """Return the key of the archive that a unit's photos are in; empty for files."""
    return (table.schema.metadata or {}).get(b"key", b"").decode()


def _marked(table: pa.Table, kind: Kind, key: str = "") -> pa.Table:
    return table.replace_schema_metadata({b"flow": kind.encode(), b"key": key.encode()})


@dataclass(frozen=True)
class News:
    """Counts of what was found since the last news.

    Attributes:
        listed: photos.
        undone: of them without a row.
        archives: that are listed to their end.
        others: files that are not looked at, by suffix.
        archives_in_all: number of archives, once all are found.
    """

    listed: int = 0
    undone: int = 0
    archives: int = 0
    others: Mapping[str, int] = field(default_factory=dict)
    archives_in_all: int | None = None

    def table(self) -> pa.Table:
        """Return the news as a table of this flow."""
        return _marked(pa.table({"news": [json.dumps(self.__dict__)]}), Kind.NEWS)

    @classmethod
    def of(cls, table: pa.Table) -> News:
        """Return the news that a table holds."""
        return cls(**json.loads(table.column("news")[0].as_py()))


@dataclass(frozen=True)
class Flow:
    """Corpus and folder of a run, as the tasks that find and cut its photos know them.

    Attributes:
        images: the run's --images.
        out: folder of the run.
        done: label files when the run began, by the key of the archive whose photos they hold; "" for files.
        old: whether an older run left labels of archives among those of files.
        rows_a_unit: photos in a unit at most; None for `MOST_ROWS`, fewer in a small corpus.
        bytes_a_unit: encoded bytes in a unit at most; None for any.
        least_a_unit: photos in a unit at least, if there are as many.
    """

    images: str
    out: str
    done: Mapping[str, list[str]]
    old: bool = False
    rows_a_unit: int | None = None
    bytes_a_unit: int | None = None
    least_a_unit: int = 1

    def few(self) -> list[pa.Table] | None:
        """Return at once what `find` yields, where the corpus is one part of files, or None for a larger one.

        None as well where it cannot be found: the task meets the same, and the run says so.
        """
        try:
            corpus, found = open_corpus(self.images, exclude=self.out)
            parts = list(islice(parts_of(corpus, found, Counter[str]()), 2))
            if len(parts) > 1 or any(isinstance(part, Found) for part in parts):
                return None
            return list(self.find(pa.table({})))
        except (ValueError, OSError):
            return None

    def find(self, _: pa.Table) -> Iterator[pa.Table]:
        """Yield units of files and the archives of the corpus, as they are found."""
        corpus, found = open_corpus(self.images, exclude=self.out)
        done = DoneIds(f"{self.out}/labels", self.done.get("", []))
        cutter, others = _Cutter(self, "", done), Counter[str]()
        archives = written = 0
        held: list[pa.Table] = []
        for part in parts_of(corpus, found, others):
            if isinstance(part, Found):
                archives += 1
                yield _archive_table(corpus, part)
                continue
            rows = corpus.table(part)
            yield News(listed=rows.num_rows, undone=done.lacks(rows).true_count).table()
            yield from cutter.cut(rows)
            held.append(rows)
            if sum(table.num_rows for table in held) >= FILES_A_FILE:
                self._write_files(held, written)
                held, written = [], written + 1
        if held:
            self._write_files(held, written)
            written += 1
        remove_parts_of_files(self.out, written)
        yield from cutter.rest()
        yield News(others=others, archives_in_all=archives).table()

    def _write_files(self, held: list[pa.Table], number: int) -> None:
        write_part(self.out, f"{OF_FILES}-{number:05d}", pa.concat_tables(held))

    def list(self, given: pa.Table) -> Iterator[pa.Table]:
        """Yield the units of an archive, as it is read; anything else as it is."""
        if kind_of(given) is not Kind.ARCHIVE:
            yield given
            return
        corpus, archive = _archive_of(given, self.images)
        key = key_of(archive.relative)
        names = [*self.done.get(key, []), *(self.done.get("", []) if self.old else [])]
        done = DoneIds(f"{self.out}/labels", names)
        cutter, others = _Cutter(self, key, done), Counter[str]()
        for rows in self._lots(corpus, archive, key, others):
            yield News(listed=rows.num_rows, undone=done.lacks(rows).true_count).table()
            yield from cutter.cut(rows)
        yield from cutter.rest()
        yield News(archives=1, others=others).table()

    def _lots(self, corpus: Corpus, archive: Found, key: str, others: Counter[str]) -> Iterator[pa.Table]:
        """Yield the rows of an archive, in the same lots whether they come from OUT's index or make it."""
        known = read_part(self.out, key, archive.stamp)
        if known is not None:
            others.update(known.others)
            start, size = 0, 1
            while start < known.rows.num_rows:
                yield known.rows.slice(start, size)
                start, size = start + size, min(2 * size, LOT)
            return
        listed, lots = Listed(), [SCHEMA.empty_table()]
        rows, size = _sound(corpus.rows_of_archive(archive, others, listed), archive), 1
        while lot := list(islice(rows, size)):
            lots.append(corpus.table(lot))
            yield lots[-1]
            size = min(2 * size, LOT)
        write_part(self.out, key, pa.concat_tables(lots), archive.stamp if listed.whole else None, others)


def _sound(rows: Iterator[Row], archive: Found) -> Iterator[Row]:
    """Yield the rows of an archive; where it was named outright and cannot be used, the row that says so."""
    try:
        yield from rows
    except ValueError:
        yield Row(archive.relative, "special", size=archive.size)


def is_undone(flow: Flow) -> tuple[int, bool]:
    """Count the photos of a corpus, and tell whether one of them has no row, without listing known archives again.

    Of an archive that is what its index says, rows are counted alone: a run writes none that are not in the index.
    """
    corpus, found = open_corpus(flow.images, exclude=flow.out)
    done = DoneIds(f"{flow.out}/labels", flow.done.get("", []))
    photos, undone, archives = 0, False, list[Found]()
    for part in parts_of(corpus, found, Counter[str]()):
        if isinstance(part, Found):
            archives.append(part)
            continue
        rows = corpus.table(part)
        photos, undone = photos + rows.num_rows, undone or done.lacks(rows).true_count > 0

    def of_archive(archive: Found) -> tuple[int, bool]:
        key = key_of(archive.relative)
        listed, names = count_part(flow.out, key, archive.stamp), flow.done.get(key, [])
        if listed is not None and not flow.old:
            return listed, count_rows(f"{flow.out}/labels", names) < listed
        rows = corpus.table(_sound(corpus.rows_of_archive(archive, Counter[str]()), archive))
        left = rows.filter(DoneIds(f"{flow.out}/labels", names).lacks(rows))
        return rows.num_rows, (left.filter(done.lacks(left)) if flow.old else left).num_rows > 0

    with ThreadPoolExecutor(AT_ONCE) as threads:
        counted = list(threads.map(of_archive, archives))
    return photos + sum(listed for listed, _ in counted), undone or any(left for _, left in counted)


def unit_size(grown: int, left: int, least: int = 1) -> int:
    """Return how many photos a unit has, if there are as many.

    Args:
        grown: that it would have with many more behind it (`next_grown`).
        left: that are not in units yet; it holds one in `SHARE` of them at most, down to a sixteenth of `grown`, so
            that actors, which hold two units each, end together.
        least: as for `Flow`.
    """
    return max(least, min(grown, left // SHARE), grown // 16)


def next_grown(grown: int, cut: int, most: int | None) -> int:
    """Return how many photos the next unit has with many more behind it, after one of `grown`, where `cut` are in
    units: few at first, so that the first file is there early, then `most`, or else a twentieth of what came before."""
    return min(2 * grown, most) if most else min(MOST_ROWS, max(min(2 * grown, 4), cut // 20))


class _Cutter:
    """Cuts rows into units, and leaves in each those that are not done.

    Cut first, so that a resumed run meets the units of the run before it and not others that overlap them.
    """

    def __init__(self, flow: Flow, key: str, done: DoneIds) -> None:
        self._flow, self._key, self._done = flow, key, done
        self._held = SCHEMA.empty_table()
        self._cut = 0
        self._grown = 1

    def cut(self, rows: pa.Table) -> Iterator[pa.Table]:
        """Yield the units that would be the same whatever rows come behind."""
        self._held = pa.concat_tables([self._held, rows])
        while self._held.num_rows >= SHARE * max(self._grown, self._flow.least_a_unit):
            yield from self._take()
        self._held = self._held.combine_chunks()

    def rest(self) -> Iterator[pa.Table]:
        while self._held.num_rows:
            yield from self._take()

    def _take(self) -> Iterator[pa.Table]:
        rows = min(unit_size(self._grown, self._held.num_rows, self._flow.least_a_unit), self._held.num_rows)
        unit, self._held = self._held.slice(0, rows), self._held.slice(rows)
        self._cut += rows
        self._grown = next_grown(self._grown, self._cut, self._flow.rows_a_unit)
        undone = unit.filter(self._done.lacks(unit))
        for part in _of_size(undone, self._flow.bytes_a_unit):
            yield _marked(part, Kind.UNIT, self._key)


def _of_size(rows: pa.Table, most: int | None) -> Iterator[pa.Table]:
    """Cut rows so that none of the parts has more encoded bytes, or one row alone."""
    if most is None:
        if rows.num_rows:
            yield rows
        return
    start, held = 0, 0
    for place, size in enumerate(rows.column("bytes").to_pylist()):
        if place > start and held + (size or 0) > most:
            yield rows.slice(start, place - start)
            start, held = place, 0
        held += size or 0
    if start < rows.num_rows:
        yield rows.slice(start)


_ARCHIVE = pa.schema(
    [
        pa.field("root", pa.binary()),
        pa.field("relative", pa.binary()),
        pa.field("size", pa.int64()),
        pa.field("stamp", pa.string()),
        pa.field("explicit", pa.bool_()),
    ]
)


def _archive_table(corpus: Corpus, found: Found) -> pa.Table:
    row = {"root": corpus.root, "explicit": corpus.explicit}
    row |= {"relative": found.relative, "size": found.size, "stamp": found.stamp}
    return _marked(pa.Table.from_pylist([row], schema=_ARCHIVE), Kind.ARCHIVE)


def _archive_of(table: pa.Table, images: str) -> tuple[Corpus, Found]:
    (row,) = table.to_pylist()
    corpus = Corpus(locate(images), row["root"], row["explicit"])
    return corpus, Found(row["relative"], size=row["size"], stamp=row["stamp"])


def join_news(news: Iterable[News]) -> News:
    """Return all news as one."""
    total, others, archives_in_all = Counter[str](), Counter[str](), None
    for one in news:
        total.update(listed=one.listed, undone=one.undone, archives=one.archives)
        others.update(one.others)
        archives_in_all = one.archives_in_all if one.archives_in_all is not None else archives_in_all
    return News(total["listed"], total["undone"], total["archives"], others, archives_in_all)

"""Run the work of a job on annotated photos, one at a time, on the engine: results in parts, problems beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from aopsam.photos.decode import PhotoError
from schemas.conform import conform
from stages.engine.journal import Lost
from stages.engine.steps import alive
from stages.storage.parts import write_part

Work = Callable[[Mapping[str, Any], Callable[[str], None]], Iterable[dict[str, Any]]]
"""Makes the rows of a photo, a row of `SAMPLES`; tells a line of what of it cannot be used.

It raises PhotoError or ValueError where nothing can be.
"""

WHY = {
    Lost.DIED: "worker_died: it ended its worker process, alone in it too",
    Lost.SLOW: "too_slow: it took longer than --max-seconds allows",
}
"""Messages of photos that are given up."""

_PHOTO = pa.struct(
    [
        ("part", pa.string()),
        ("source", pa.string()),
        ("shard", pa.string()),
        ("image_id", pa.string()),
        ("bytes", pa.int64()),
        ("failed", pa.bool_()),
        ("problems", pa.list_(pa.string())),
    ]
)


class Outcome(NamedTuple):
    """Remarks on a photo beside its rows.

    Attributes:
        source: name of its source.
        shard: where in the source it is.
        image_id: of the photo; None for something of the shard that cannot be read.
        failed: True if it has no rows.
        problems: lines.
    """

    source: str
    shard: str
    image_id: str | None
    failed: bool
    problems: list[str]

    def lines(self) -> list[str]:
        """Return the problems with shard and photo."""
        if self.image_id is None:
            return self.problems
        return [f"{self.shard}: {self.image_id}: {problem}" for problem in self.problems]


@dataclass(frozen=True)
class Account:
    """Sum over a unit of photos.

    Attributes:
        photos: number of them, and of shards of which something cannot be read.
        bytes: of the photos and their annotations, as read.
        outcomes: of those of which there is something to say.
        in_part: False for problems of shards, which no part holds.
    """

    photos: int
    bytes: int
    outcomes: list[Outcome]
    in_part: bool

    @property
    def failed(self) -> int:
        """Number of photos without rows."""
        return sum(outcome.failed for outcome in self.outcomes)


@dataclass
class EachPhoto:
    """Stage: tables of `SAMPLES` to rows of a table, and a row of `_PHOTO` for each photo.

    Attributes:
        make: builds what is done to a photo.
        schema: of its rows.
    """

    make: Callable[[], Work]
    schema: pa.Schema
    _work: Work = field(init=False)

    def __post_init__(self) -> None:
        self._work = self.make()

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Do the work on each photo; a photo of which nothing can be used fails alone."""
        return self._table(row for sample in unit.to_pylist() for row in self._rows(sample))

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Return the row of a photo that ends its worker, or takes too long."""
        return self._table(_photo(sample, [WHY[why]], failed=True) for sample in item.to_pylist())

    def _table(self, rows: Iterable[dict[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist(list(rows), schema=results_schema(self.schema))

    def _rows(self, sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
        alive()
        if sample["problem"] is not None:
            yield _photo(sample, [sample["problem"]], failed=True)
            return
        problems: list[str] = []
        rows: list[dict[str, Any]] = []
        try:
            rows = list(self._work(sample, problems.append))
        except (PhotoError, ValueError) as error:
            problems.append(str(error))
        except Exception as error:  # whatever is odd about one photo, the run goes on
            problems.append(f"{type(error).__name__}: {error}")
        yield _photo(sample, problems, failed=not rows)
        yield from rows


def results_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of what `EachPhoto` makes: nothing of the table's where a row is of `_PHOTO`."""
    return pa.schema([pa.field("outcome", _PHOTO), *(entry.with_nullable(True) for entry in schema)])


def _photo(sample: Mapping[str, Any], problems: list[str], *, failed: bool) -> dict[str, Any]:
    size = sum(len(sample[name] or "") for name in ("jpeg", "annotations"))
    given = {name: sample[name] for name in ("part", "source", "shard", "image_id")}
    return {"outcome": given | {"bytes": size, "failed": failed, "problems": problems}}


@dataclass(frozen=True)
class WritePart:
    """Writes the rows of a unit of `EachPhoto` as its part; returns a row for `accounts`.

    Attributes:
        folder: of the parts.
        schema: of the rows.
        how: options of `pyarrow.parquet.write_table`.
    """

    folder: str
    schema: pa.Schema
    how: Mapping[str, Any]

    def __call__(self, results: pa.Table) -> pa.Table:
        """Write one file, unless the results are problems of a shard."""
        photos = results.column("outcome").drop_null().to_pylist()
        noted = [photo for photo in photos if photo["failed"] or photo["problems"]]
        outcomes = [[photo[name] for name in Outcome._fields] for photo in noted]
        if (part := photos[0]["part"]) is not None:
            rows = results.filter(results.column("outcome").is_null()).select(self.schema.names)
            write_part(self.folder, part, conform(rows, self.schema), outcomes, **self.how)
        size = sum(photo["bytes"] for photo in photos)
        return pa.table(
            {"photos": [len(photos)], "bytes": [size], "in_part": [part is not None], "outcomes": [noted]},
            schema=_ACCOUNT,
        )


_ACCOUNT = pa.schema(
    [("photos", pa.int64()), ("bytes", pa.int64()), ("in_part", pa.bool_()), ("outcomes", pa.list_(_PHOTO))]
)


def accounts(table: pa.Table) -> Iterator[Account]:
    """Yield the accounts of what `WritePart` returns."""
    for row in table.to_pylist():
        outcomes = [Outcome(*(photo[name] for name in Outcome._fields)) for photo in row["outcomes"]]
        yield Account(row["photos"], row["bytes"], outcomes, row["in_part"])

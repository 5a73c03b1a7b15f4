"""Label a corpus on actors: files of label rows come out, and an account of each unit as it finishes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas import labels
from schemas.labels import MODEL_STAGES
from stages.engine.journal import Lost
from stages.engine.resources import Resources
from stages.engine.steps import Actors, Gather, Stage, Tasks, pool, run_steps
from stages.label.account import Account
from stages.label.flow import Flow, Kind, News, key_of_unit, kind_of
from stages.label.folder import write_unit
from stages.storage.errors import CannotWrite

TRIES = 3
"""Attempts to write a file, some seconds apart."""

LISTED_AT_ONCE = 4
"""Archives that are listed at the same time, at least; one for each actor where there are more. Each is read once."""

UNITS_A_FILE = 16
"""Units of opened photos whose rows go into one file."""


@dataclass(frozen=True)
class Labelling:
    """Stages that label units, in one process or in two.

    Attributes:
        label: builds the labeller of rows of the listing in an actor, which is called for two units at once, in two
            threads; picklable.
        open: builds what opens them in processes of their own, and `label_opened` the labeller of what these give;
            used where the resources have openers.
        max_seconds: longest time for a photo.
    """

    label: Callable[[], Stage]
    open: Callable[[], Stage]
    label_opened: Callable[[], Stage]
    max_seconds: float | None = None


class _PassNews:
    """Stage that lets news through, and keeps in what its stage makes of a unit whose photos those were."""

    def __init__(self, make: Callable[[], Stage]) -> None:
        self._stage = make()

    def __call__(self, unit: pa.Table) -> pa.Table:
        return unit if kind_of(unit) is Kind.NEWS else self._marked(self._stage(unit), unit)

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        return self._marked(self._stage.give_up(item, why), item)

    @staticmethod
    def _marked(made: pa.Table, unit: pa.Table) -> pa.Table:
        return made.replace_schema_metadata({**(made.schema.metadata or {}), b"key": key_of_unit(unit).encode()})


def label_corpus(flow: Flow, labelling: Labelling, resources: Resources) -> Iterator[Account | News]:
    """Label every photo of a corpus that has no row yet.

    Args:
        flow: the corpus, and what is done.
        labelling: what is done to its photos.
        resources: actors, threads and device; processes that open photos, if apart.

    Yields:
        An account of each file as it is written, and news of how many photos there are.

    Raises:
        CannotWrite: rows could not be written, after several attempts.
    """
    at_once = max(LISTED_AT_ONCE, resources.actors, resources.most or 0)
    steps: list[Tasks | Actors | Gather] = []
    units = flow.few()  # each task that need not start spares seconds
    if units is None:
        units, steps = [pa.table({"corpus": ["all"]})], [Tasks(flow.find, 1), Tasks(flow.list, at_once)]
    folder = f"{flow.out}/labels"
    actors = partial(pool, resources=resources, seconds_an_item=labelling.max_seconds, calls_at_once=2)
    if resources.openers:
        opening = Actors(
            partial(_PassNews, labelling.open),
            least=1,
            most=resources.openers,
            cpus=1,
            calls_at_once=2,
            seconds_an_item=labelling.max_seconds,
        )
        steps += [opening, actors(partial(_PassNews, labelling.label_opened))]
        steps.append(Gather(partial(_write_units, folder=folder), at_once=at_once, units=UNITS_A_FILE))
    else:
        steps.append(actors(partial(_PassNews, labelling.label), finish=partial(_write, folder=folder)))
    yield from _told(run_steps(units, steps))


_TOLD = pa.schema([pa.field("account", pa.string()), pa.field("news", pa.string()), pa.field("unwritten", pa.string())])
"""Schema of what comes out: JSON of an `Account` or of `News`, or why rows could not be written."""


def _told(tables: Iterator[pa.Table]) -> Iterator[Account | News]:
    unwritten = ""
    for table in tables:
        for row in table.to_pylist():
            if row["news"] is not None:
                yield News(**json.loads(row["news"]))
            elif row["account"] is not None:
                yield Account(**json.loads(row["account"]))
            unwritten = row["unwritten"] or unwritten
            if unwritten:
                raise CannotWrite(f"{unwritten}, all rows in OUT/labels: the same command again goes on from there")


def _telling(**what: Any) -> pa.Table:
    return pa.Table.from_pylist([what], schema=_TOLD)


def _write(rows: pa.Table, folder: str) -> pa.Table:
    """Write label rows of one unit; return a row of `_TOLD`."""
    if kind_of(rows) is Kind.NEWS:
        return _telling(news=json.dumps(asdict(News.of(rows))))
    began = time.perf_counter()
    key, rows = key_of_unit(rows), rows.replace_schema_metadata(labels.SCHEMA.metadata)
    for attempt in range(1, TRIES + 1):
        try:
            write_unit(rows, folder, key)
        except CannotWrite as error:
            if attempt == TRIES:
                return _telling(unwritten=str(error))
            time.sleep(attempt)
        else:
            break
    return _telling(account=json.dumps(asdict(account_of(rows, time.perf_counter() - began))))


def _write_units(units: Sequence[pa.Table], folder: str) -> Iterator[pa.Table]:
    """Write label rows of some units, those of an archive into one file; yield tables of `_TOLD`."""
    by_key: dict[str, list[pa.Table]] = {}
    for unit in units:
        if kind_of(unit) is Kind.NEWS:
            yield _write(unit, folder)
        else:
            by_key.setdefault(key_of_unit(unit), []).append(unit)
    for parts in by_key.values():
        yield _write(pa.concat_tables(parts), folder)


def account_of(rows: pa.Table, seconds_write: float) -> Account:
    """Return the account of label rows."""
    return Account(
        rows=rows.num_rows,
        masks=pc.sum(pc.list_value_length(rows.column("masks"))).as_py(),
        failed=pc.sum(pc.equal(rows.column("status"), "failed")).as_py(),
        seconds_model=sum(pc.sum(rows.column(f"seconds_{stage}")).as_py() or 0.0 for stage in MODEL_STAGES),
        seconds_wait=pc.sum(rows.column("seconds_wait")).as_py() or 0.0,
        seconds_write=seconds_write,
    )

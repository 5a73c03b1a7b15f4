"""Label a listing on actors: its rows in, files of label rows out, and an account of each unit as it finishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from schemas.labels import MODEL_STAGES, Reason
from stages.engine.resources import Resources, run_actors
from stages.label.account import Account
from stages.label.folder import done_images, write_unit
from stages.label.row import blank_row, labels_table, with_reason
from stages.storage.atomic import CannotWrite

Labeller = Callable[[pa.Table], pa.Table]

MOST_UNWRITTEN = 3
"""Units in a row that cannot be written, after which a run ends: one alone is tried again at the end."""


class LabelAndWrite:
    """Labels one unit and writes it: masks never cross a process, only a short account of them does.

    Ray calls it for two units at once, so that the model works on one while another is written and its photos opened.
    """

    def __init__(self, make: Callable[[], Labeller], folder: str) -> None:
        self.labeller = make()
        self.folder = folder

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Label and write a unit; returns one row, of `Account` and why the unit could not be written."""
        rows = self.labeller(unit)
        began = time.perf_counter()
        try:
            write_unit(rows, self.folder)
        except CannotWrite as error:
            return pa.Table.from_pylist([asdict(Account()) | {"unwritten": str(error)}])
        return pa.Table.from_pylist([asdict(account_of(rows, time.perf_counter() - began)) | {"unwritten": ""}])


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


def choose_rows_per_file(photos: int) -> int:
    """Return how many photos a file of labels holds: a twentieth of all, at least 4 and at most 256."""
    return min(256, max(4, photos // 20))


def label_listing(
    listing: pa.Table,
    folder: str,
    make: Callable[[], Labeller],
    resources: Resources,
    rows_per_file: int | None = None,
) -> Iterator[Account]:
    """Label every row of a listing that has none yet in a folder; yield an account of each unit as it finishes.

    Units that twice ended their actor are done again photo by photo, one at a time on an actor, as long as that gets
    any of them done: a photo that shared its actor with the one to blame gets another chance. What is left then becomes
    a row `worker_died`.

    Args:
        listing: rows of schemas/listing.py, in listing order.
        folder: OUT/labels, reachable from every node.
        make: builds the labeller in the actor, which is called for two units at once, in two threads; picklable.
        resources: actors, threads and device.
        rows_per_file: photos in one output file, the unit that a kill loses; by default `choose_rows_per_file`.
    """
    actor = partial(LabelAndWrite, make, folder)
    todo = listing.filter(_todo(listing, folder))
    accounted = 0
    units = _units(listing, folder, rows_per_file or choose_rows_per_file(listing.num_rows))
    for account in _accounts(units, actor, resources, calls_at_once=2):
        accounted += account.rows
        yield account
    before, left = todo.num_rows + 1, todo.filter(_todo(todo, folder))
    while 0 < left.num_rows < before:
        one_by_one = [left.slice(place, 1) for place in range(left.num_rows)]
        for account in _accounts(one_by_one, actor, resources, calls_at_once=1):
            accounted += account.rows
            yield account
        before, left = left.num_rows, left.filter(_todo(left, folder))
    if unheard := todo.num_rows - left.num_rows - accounted:  # written by actors that died before they could say so
        yield Account(rows=unheard)
    for source in left.to_pylist():
        row = with_reason(blank_row(source), Reason.WORKER_DIED, "the worker process died on this photo")
        write_unit(labels_table([row]), folder)
        yield Account(rows=1, masks=0, failed=1)


def _accounts(
    units: list[pa.Table], make: Callable[[], LabelAndWrite], resources: Resources, calls_at_once: int
) -> Iterator[Account]:
    unwritten = 0
    for table in run_actors(units, make, resources, calls_at_once=calls_at_once, may_lose_units=True):
        for row in table.to_pylist():
            reason = row.pop("unwritten")
            unwritten = unwritten + 1 if reason else 0
            if unwritten == MOST_UNWRITTEN:
                raise CannotWrite(f"{reason}, all rows in OUT/labels: the same command again goes on from there")
            if not reason:
                yield Account(**row)


def _units(listing: pa.Table, folder: str, rows: int) -> list[pa.Table]:
    """Cut the listing into units, and leave in each the rows that are not yet done.

    Cut first, so that a resumed run meets the units of the run before it and not others that overlap them. Of 1, 2, 4 …
    photos until they have `rows`: the first file is there early.
    """
    todo = _todo(listing, folder)
    units, start, size = [], 0, 1
    while start < listing.num_rows:
        units.append(listing.slice(start, size).filter(todo.slice(start, size)))
        start, size = start + size, min(2 * size, rows)
    return [unit for unit in units if unit.num_rows]


def _todo(listing: pa.Table, folder: str) -> pa.BooleanArray:
    """Tell of each row of the listing whether it has no label row yet."""
    done = done_images(folder)
    return pa.array([image_id not in done for image_id in listing.column("image_id").to_pylist()], pa.bool_())

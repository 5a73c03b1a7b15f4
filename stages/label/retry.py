"""Label photos again whose rows say that they failed; each row is replaced in its file."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa

from schemas.conform import conform
from schemas.labels import SCHEMA, Reason
from stages.engine.resources import Resources, run_actors
from stages.label.account import Account
from stages.label.folder import FailedRow, replace_rows
from stages.label.row import blank_row, labels_table, with_reason
from stages.label.run import Labeller, account_of


def label_again(
    listing: pa.Table,
    folder: str,
    failed: Mapping[str, FailedRow],
    make: Callable[[], Labeller],
    resources: Resources,
) -> Iterator[Account]:
    """Label photos again that have failed; yield an account of each part as it is written.

    A row is replaced in its own file, by this process alone: whatever is killed, each photo has one row, the former or
    the new one. The photos of a file go together; those that end their actor, now or before, one at a time, as long as
    that gets any of them done.

    Args:
        listing: rows of schemas/listing.py.
        folder: OUT/labels.
        failed: rows by image id, as `stages.label.folder.passing_failures` gives them.
        make: builds the labeller in the actor; picklable.
        resources: actors, threads and device.
    """
    ids = listing.column("image_id").to_pylist()
    left = {image_id: listing.slice(place, 1) for place, image_id in enumerate(ids) if image_id in failed}

    def label(units: list[pa.Table], calls_at_once: int) -> Iterator[Account]:
        for rows in run_actors(units, make, resources, calls_at_once=calls_at_once, may_lose_units=True):
            began = time.perf_counter()
            _replace(conform(rows, SCHEMA), folder, failed)
            for image_id in rows.column("image_id").to_pylist():
                left.pop(image_id, None)
            yield account_of(rows, time.perf_counter() - began)

    by_file: dict[str, list[pa.Table]] = defaultdict(list)
    for image_id, photo in left.items():
        if failed[image_id].reason != Reason.WORKER_DIED:
            by_file[failed[image_id].file].append(photo)
    yield from label([pa.concat_tables(photos) for photos in by_file.values()], 2)
    before = len(left) + 1
    while 0 < len(left) < before:
        before = len(left)
        yield from label(list(left.values()), 1)
    for photo in left.values():
        row = with_reason(blank_row(photo.to_pylist()[0]), Reason.WORKER_DIED, "the worker process died on this photo")
        _replace(labels_table([row]), folder, failed)
        yield Account(rows=1, masks=0, failed=1)


def _replace(rows: pa.Table, folder: str, failed: Mapping[str, FailedRow]) -> None:
    """Replace rows in their files; a table may hold those of several."""
    files = pa.array([failed[image_id].file for image_id in rows.column("image_id").to_pylist()])
    for name in files.unique().to_pylist():
        replace_rows(rows.filter(pa.array([file == name for file in files.to_pylist()])), folder, name)

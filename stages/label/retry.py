"""Label photos again whose rows say that they failed; each row is replaced in its file."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from schemas.conform import conform
from schemas.labels import SCHEMA
from stages.engine.resources import Resources
from stages.engine.steps import pool, run_steps
from stages.label.account import Account
from stages.label.flow import MOST_ROWS
from stages.label.folder import FailedRow, replace_rows
from stages.label.run import Labelling, account_of


def label_again(
    listing: Iterable[pa.Table],
    folder: str,
    failed: Mapping[str, FailedRow],
    labelling: Labelling,
    resources: Resources,
) -> Iterator[Account]:
    """Label photos again that have failed; yield an account of each part as it is written.

    A row is replaced in its own file, by this process alone: whatever is killed, each photo has one row, the former or
    the new one.

    Args:
        listing: tables of schemas/listing.py, in which the photos are; those in none of them keep their rows.
        folder: OUT/labels.
        failed: rows by image id, as `stages.label.folder.passing_failures` gives them.
        labelling: what is done to each photo.
        resources: actors, threads and device.
    """
    ids = pa.array(failed, pa.string())
    by_file: dict[str, list[pa.Table]] = defaultdict(list)
    for part in listing:
        found = part.filter(pc.is_in(part.column("image_id"), ids))
        for place, image_id in enumerate(found.column("image_id").to_pylist()):
            by_file[failed[image_id].file].append(found.slice(place, 1))
    units = [
        pa.concat_tables(photos[start : start + MOST_ROWS])
        for photos in by_file.values()
        for start in range(0, len(photos), MOST_ROWS)
    ]
    actors = pool(labelling.label, resources, seconds_an_item=labelling.max_seconds, calls_at_once=2)
    for rows in run_steps(units, [actors]):
        began = time.perf_counter()
        replace_rows(conform(rows, SCHEMA), folder, failed[rows.column("image_id")[0].as_py()].file)
        yield account_of(rows, time.perf_counter() - began)

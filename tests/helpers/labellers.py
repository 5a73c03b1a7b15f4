"""Labellers without a model, importable by Ray's workers: for tests of the scheduling alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.labels import SCHEMA, Reason
from stages.engine.journal import Lost
from stages.label.opened import OpenPhotos, photos_of
from stages.label.row import blank_row, given_up, with_reason

if TYPE_CHECKING:  # stand-ins need no torch
    from stages.label.actor import LabelPhotos


class Blank:
    """Every photo is empty; one whose name is in `fatal` ends the worker process, as a native crash would."""

    def __init__(self, fatal: tuple[str, ...] = ()) -> None:
        self.fatal = fatal

    def __call__(self, manifest: pa.Table) -> pa.Table:
        sources = manifest.to_pylist()
        if any(source["file_name"] in self.fatal for source in sources):
            os._exit(11)
        return pa.Table.from_pylist([with_reason(blank_row(s), Reason.NO_MASK, "") for s in sources], schema=SCHEMA)

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        return given_up(blank_row(item.to_pylist()[0]), why)


class Opener(OpenPhotos):
    """Opens no photo; one of the name `kills.jpg` ends its process."""

    def __init__(self, images: str) -> None:
        super().__init__(images, 1)

    def __call__(self, listing: pa.Table) -> pa.Table:
        if "kills.jpg" in listing.column("file_name").to_pylist():
            os._exit(11)
        return super().__call__(listing)


class BlankOpened:
    """Photos that could not be opened are empty, those without a worker are what they are."""

    def __call__(self, opened: pa.Table) -> pa.Table:
        rows = [photo.row for photo in photos_of(opened)]
        died = Reason.WORKER_DIED
        rows = [row if row["reason"] == died else with_reason(row, Reason.NO_MASK, "") for row in rows]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        raise NotImplementedError


class InPairs(Blank):
    """A call returns once there is a second one."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = threading.Barrier(2, timeout=60)

    def __call__(self, manifest: pa.Table) -> pa.Table:
        self.pair.wait()
        return super().__call__(manifest)


class _Deadly:
    """Labels as another does; a photo of the name `kills.jpg` ends the process."""

    def __init__(self, label: LabelPhotos) -> None:
        self.label, self.give_up = label, label.give_up

    def __call__(self, listing: pa.Table) -> pa.Table:
        if "kills.jpg" in listing.column("file_name").to_pylist():
            os._exit(11)
        return self.label(listing)


def deadly(make: Callable[..., LabelPhotos], *arguments: Any) -> _Deadly:
    return _Deadly(make(*arguments))

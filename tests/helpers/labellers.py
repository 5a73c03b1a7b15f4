"""Labellers without a model, importable by Ray's workers: for tests of the scheduling alone."""

from __future__ import annotations

import os
import threading

import pyarrow as pa

from schemas.labels import SCHEMA, Reason
from stages.label.row import blank_row, with_reason


class Blank:
    """Every photo is empty; one whose name is in `fatal` ends the worker process, as a native crash would."""

    def __init__(self, fatal: tuple[str, ...] = ()) -> None:
        self.fatal = fatal

    def __call__(self, manifest: pa.Table) -> pa.Table:
        sources = manifest.to_pylist()
        if any(source["file_name"] in self.fatal for source in sources):
            os._exit(11)
        return pa.Table.from_pylist([with_reason(blank_row(s), Reason.NO_MASK, "") for s in sources], schema=SCHEMA)


class InPairs(Blank):
    """A call returns once there is a second one."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = threading.Barrier(2, timeout=60)

    def __call__(self, manifest: pa.Table) -> pa.Table:
        self.pair.wait()
        return super().__call__(manifest)

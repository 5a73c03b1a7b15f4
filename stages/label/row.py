"""Rows of the labels table: the one place that fills them, and holds them to the schema."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from aopsam.everything.ledger import Labelled
from aopsam.photos.decode import Photo
from schemas import labels
from schemas.labels import Reason, Status
from stages.engine.journal import Lost

if TYPE_CHECKING:  # who opens photos needs no torch
    from aopsam.prompting.fates import Trace

_STATUS_OF: dict[Reason, Status] = {
    Reason.TOO_MANY_PIXELS: Status.REJECTED,
    Reason.TOO_SLOW: Status.REJECTED,
    Reason.HIDDEN_NAME: Status.REJECTED,
    Reason.NO_MASK: Status.EMPTY,
    Reason.NONE: Status.OK,
}
"""Reasons that are no failure."""


def blank_row(source: dict[str, Any]) -> dict[str, Any]:
    """Return a label row for a row of the listing, before anything was done to it."""
    return {
        "image_id": source["image_id"],
        "uri": source["uri"],
        "file_name": source["file_name"],
        "masks": [],
        "prompts_proposed": 0,
        "prompts_decoded": 0,
    }


def fetched(row: dict[str, Any], sha256: str, seconds: float) -> dict[str, Any]:
    """Fill in the digest of a photo's bytes, and how long it took to read them."""
    return row | {"content_sha256": sha256, "seconds_read": seconds}


def opened(row: dict[str, Any], photo: Photo, seconds: float) -> dict[str, Any]:
    """Fill in the size of a decoded photo, what is to be said of it, and how long it took to decode."""
    height, width = photo.rgb.shape[:2]
    return row | {"height": height, "width": width, "message": photo.note, "seconds_photo": seconds}


def taken(row: dict[str, Any], seconds_wait: float) -> dict[str, Any]:
    """Fill in how long the model waited for a photo, opened or not."""
    return row | {"seconds_wait": seconds_wait}


def labelled(row: dict[str, Any], found: Labelled) -> dict[str, Any]:
    """Fill in the masks of an opened photo, and what they took."""
    row = row | {f"seconds_{stage}": seconds for stage, seconds in found.seconds.items()}
    row |= {
        "masks": found.records,
        "prompts_proposed": found.prompts_proposed,
        "prompts_decoded": found.prompts_decoded,
        "refinements": found.refinements,
        "masks_dropped": sum(found.masks_dropped.values()),
        "trace": None if found.trace is None else _traced(found.trace),
    }
    return with_reason(row, Reason.NONE if found.records else Reason.NO_MASK, row["message"])


def _traced(trace: Trace) -> dict[str, Any]:
    """Return a trace as the schema has it: maps as small PNGs."""
    maps = [{"crop_box": one.crop_box} | _as_png(one.confidence) for one in trace.maps]
    return {"prompts": trace.prompts, "maps": maps}


def _as_png(confidence: np.ndarray) -> dict[str, Any]:
    """Return a map as a grey PNG that uses all 256 values, and the confidence of the highest."""
    highest, buffer = float(confidence.max()), io.BytesIO()
    grey = np.rint(confidence * (255 / highest if highest > 0 else 0)).astype(np.uint8)
    Image.fromarray(grey).save(buffer, "PNG")
    return {"png": buffer.getvalue(), "highest": highest}


def with_reason(row: dict[str, Any], reason: Reason, message: str) -> dict[str, Any]:
    """Return the row with its reason, the status that follows from it, and a message of one line."""
    status = _STATUS_OF.get(reason, Status.FAILED)
    return row | {"status": status.value, "reason": reason.value, "message": " ".join(message.split())}


def reason_of(why: Lost) -> tuple[Reason, str]:
    """Return reason and message of a photo that is given up."""
    if why is Lost.SLOW:
        return Reason.TOO_SLOW, "took longer than --max-seconds"
    return Reason.WORKER_DIED, "the worker process died on this photo"


def given_up(row: dict[str, Any], why: Lost) -> pa.Table:
    """Make the table of one photo that is given up, of its label row so far."""
    return labels_table([with_reason(row, *reason_of(why))])


def labels_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Make a labels table of rows; null is allowed only where a photo could not be labelled, or was not traced.

    Raises:
        ValueError: a row has a column that the schema does not know, or a labelled photo's row lacks one; it says which
            and where columns are filled.
    """
    for row in rows:
        if unknown := row.keys() - set(labels.SCHEMA.names):
            raise ValueError(f"{min(unknown)!r} is no column of schemas/labels.py")
        lacking = [name for name in labels.SCHEMA.names if row.get(name) is None and name != "trace"]
        if lacking and row["status"] in (Status.OK, Status.EMPTY):
            raise ValueError(f"column {lacking[0]!r} of schemas/labels.py is filled nowhere in stages/label/row.py")
    return pa.Table.from_pylist(list(rows), schema=labels.SCHEMA)


def check_columns() -> None:
    """Check that every column of the schema is filled for a labelled photo, before there is one.

    Raises:
        ValueError: as for `labels_table`.
    """
    blank = blank_row(dict.fromkeys(("image_id", "uri", "file_name"), ""))
    photo = opened(fetched(blank, "", 0.0), Photo(np.zeros((1, 1, 3), np.uint8)), 0.0)
    labels_table([labelled(taken(photo, 0.0), Labelled())])

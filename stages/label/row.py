"""One row of the labels table as it comes about: blank, then with its reason and the status that follows from it."""

from __future__ import annotations

from typing import Any

from schemas.labels import Reason, Status

_STATUS_OF: dict[Reason, Status] = {
    Reason.TOO_MANY_PIXELS: Status.REJECTED,
    Reason.HIDDEN_NAME: Status.REJECTED,
    Reason.NO_MASK: Status.EMPTY,
    Reason.NONE: Status.OK,
}
"""Reasons that are no failure."""


def blank_row(source: dict[str, Any]) -> dict[str, Any]:
    """A label row for a manifest row, before anything was done to it."""
    return {
        "image_id": source["image_id"],
        "uri": source["uri"],
        "file_name": source["file_name"],
        "masks": [],
        "prompts_proposed": 0,
        "prompts_decoded": 0,
    }


def with_reason(row: dict[str, Any], reason: Reason, message: str) -> dict[str, Any]:
    """The row with its reason, the status that follows from it, and a message of one line."""
    status = _STATUS_OF.get(reason, Status.FAILED)
    return row | {"status": status.value, "reason": reason.value, "message": " ".join(message.split())}

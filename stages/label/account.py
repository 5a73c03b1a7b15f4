"""Sum of finished units of a run: rows, masks, seconds; and the stage that bounds the run's speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Account:
    """Rows, masks and time of finished units.

    Attributes:
        rows: label rows.
        masks: in them.
        failed: rows of status `failed`.
        seconds_model: that the model worked.
        seconds_wait: that it waited for a photo.
        seconds_write: to encode and store the files, while the model works on.
    """

    rows: int = 0
    masks: int = 0
    failed: int = 0
    seconds_model: float = 0.0
    seconds_wait: float = 0.0
    seconds_write: float = 0.0

    def __add__(self, other: Account) -> Account:
        return Account(**{entry.name: getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)})

    @property
    def seconds(self) -> float:
        """Seconds that the units took in their actors."""
        return self.seconds_model + self.seconds_wait + self.seconds_write


def bound_by(stages: Mapping[str, float], reading: Mapping[str, float]) -> dict[str, Any]:
    """Name the stage that bounds a run's speed, and its share of the time.

    The model's thread is never without a photo or waiting for one, so what it spends most time on bounds the run.
    Where that is waiting, the stage it waits for does: the longer one of reading and opening.

    Args:
        stages: `wait` and what the model's thread does → mean seconds an image.
        reading: what the threads that open photos do at the same time → mean seconds an image.
    """
    longest = max(stages, key=lambda stage: stages[stage])
    share = stages[longest] / (sum(stages.values()) or 1.0)
    return {"stage": max(reading, key=lambda stage: reading[stage]) if longest == "wait" else longest, "share": share}

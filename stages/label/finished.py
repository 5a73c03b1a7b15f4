"""What finished units of a run add up to: rows, masks, and where the actors' time went."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Finished:
    """What finished units add.

    Attributes:
        rows: label rows.
        masks: in them.
        failed: rows of status `failed`.
        seconds_model: that the model worked.
        seconds_wait: that it waited for a photo.
        seconds_write: to encode and store the files; beside the model.
    """

    rows: int = 0
    masks: int = 0
    failed: int = 0
    seconds_model: float = 0.0
    seconds_wait: float = 0.0
    seconds_write: float = 0.0

    def __add__(self, other: Finished) -> Finished:
        return Finished(
            **{entry.name: getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(self)}
        )

    @property
    def seconds(self) -> float:
        """How long a unit took in its actor."""
        return self.seconds_model + self.seconds_wait + self.seconds_write

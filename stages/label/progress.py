"""Progress of a run: one line kept up to date on a terminal, heartbeat lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from stages.label.account import Account

HEARTBEAT_SECONDS = 10.0


class Progress:
    """Adds up finished units and says how long the rest will take, from the rate since the first result.

    Attributes:
        done: what is finished.
        seconds_start: from the start until the first unit's work began: processes, imports, the model.
        seconds_first: from the start until the first unit was done.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        """Count from now; `total` is the number of images of this run."""
        self.total = total
        self.done = Account()
        self.seconds_start = self.seconds_first = 0.0
        self._first_images = 0
        self._stream = stream or sys.stderr
        self._start = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock time since the start."""
        return time.monotonic() - self._start

    def add(self, finished: Account) -> None:
        """Add finished units; print a line now and then."""
        if self.done.rows == 0:
            self._first_images, self.seconds_first = finished.rows, self.seconds
            self.seconds_start = max(0.0, self.seconds_first - finished.seconds)
        self.done += finished
        now = time.monotonic()
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{self._line()}")
            self._stream.flush()
        elif now - self._last >= HEARTBEAT_SECONDS or self.done.rows == self.total:
            self._stream.write(self._line() + "\n")
            self._stream.flush()
        else:
            return
        self._last = now

    def close(self) -> None:
        """End the line on a terminal."""
        if self._stream.isatty() and self.done.rows:
            self._stream.write("\n")

    def _rate(self) -> float:
        """Return images a second since the first result; until the second one, since the start."""
        if self.done.rows > self._first_images:
            return (self.done.rows - self._first_images) / max(self.seconds - self.seconds_first, 1e-9)
        return self.done.rows / max(self.seconds, 1e-9)

    def _line(self) -> str:
        rate = self._rate()
        left = round((self.total - self.done.rows) / rate) if self.done.rows else 0
        failed = f", {self.done.failed} failed" if self.done.failed else ""
        return (
            f"{self.done.rows}/{self.total} images, {self.done.masks} masks{failed}, {rate:.2f} images/s,"
            f" {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        )

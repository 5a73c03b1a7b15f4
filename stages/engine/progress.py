"""Progress of a run: one line kept up to date on a terminal, heartbeat lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

HEARTBEAT_SECONDS = 10.0


class Progress:
    """Counts items that are done and says how long the rest will take, from the rate since the first result.

    Attributes:
        items: that are done.
        failed: of them.
        expected: items of this run, as far as they are known.
        all_known: whether `expected` counts all of them.
        seconds_first: from the start until the first items were done.
    """

    def __init__(self, noun: str, stream: TextIO | None = None) -> None:
        """Count from now; `noun` names the items, in the plural."""
        self.items = self.failed = self.expected = 0
        self.all_known = False
        self.seconds_first = 0.0
        self._noun = noun
        self._first_items = 0
        self._stream = stream or sys.stderr
        self._start = self._last = time.monotonic()
        self._said = ""

    @property
    def seconds(self) -> float:
        """Wall-clock time since the start."""
        return time.monotonic() - self._start

    def expect(self, items: int, *, all_known: bool = False) -> None:
        """Add items to those that are expected; `all_known` where no more will come."""
        self.expected += items
        self.all_known |= all_known

    def add(self, items: int, failed: int = 0, note: str = "") -> None:
        """Count items as done; print a line now and then.

        Args:
            items: that are done now.
            failed: of them.
            note: said in the line after their number.
        """
        if self.items == 0:
            self._first_items, self.seconds_first = items, self.seconds
        self.items, self.failed = self.items + items, self.failed + failed
        now = time.monotonic()
        ended = self.all_known and self.items >= self.expected
        if self._stream.isatty() or ended or now - self._last >= HEARTBEAT_SECONDS:
            self._last = now
            self._say(note)

    def close(self) -> None:
        """End the line on a terminal."""
        if self._stream.isatty() and self._said:
            self._stream.write("\n")

    def _say(self, note: str) -> None:
        line = self._line(note)
        if line != self._said:
            self._stream.write(f"\r\x1b[K{line}" if self._stream.isatty() else f"{line}\n")
            self._stream.flush()
        self._said = line

    def _rate(self) -> float:
        """Return items a second since the first result; until the second one, since the start."""
        if self.items > self._first_items:
            return (self.items - self._first_items) / max(self.seconds - self.seconds_first, 1e-9)
        return self.items / max(self.seconds, 1e-9)

    def _line(self, note: str) -> str:
        rate = self._rate()
        failed = f", {self.failed} failed" if self.failed else ""
        said = f"{f', {note}' if note else ''}{failed}, {rate:.2f} {self._noun}/s"
        if not self.all_known or self.items > self.expected:  # what is done can be told before what was found
            return f"{self.items} {self._noun}, at least {max(self.items, self.expected)} in all{said}"
        left = round((self.expected - self.items) / rate) if rate else 0
        time_left = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
        return f"{self.items}/{self.expected} {self._noun}{said}, {time_left} left"

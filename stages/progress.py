"""Progress of a run: one line kept up to date on a terminal, heartbeat lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

HEARTBEAT_SECONDS = 10.0


class Progress:
    """Counts images and masks and says how long the rest will take, from the rate since the first result."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        """`total` is the number of images of this run."""
        self.total = total
        self.images = self.masks = self.failed = 0
        self._stream = stream or sys.stderr
        self._start = self._last = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock time since the start."""
        return time.monotonic() - self._start

    def add(self, images: int, masks: int, failed: int) -> None:
        """Take in finished work and, now and then, say so."""
        self.images += images
        self.masks += masks
        self.failed += failed
        now = time.monotonic()
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{self._line()}")
            self._stream.flush()
        elif now - self._last >= HEARTBEAT_SECONDS or self.images == self.total:
            self._stream.write(self._line() + "\n")
            self._stream.flush()
        else:
            return
        self._last = now

    def close(self) -> None:
        """End the line on a terminal."""
        if self._stream.isatty() and self.images:
            self._stream.write("\n")

    def _line(self) -> str:
        rate = self.images / max(self.seconds, 1e-9)
        left = round((self.total - self.images) / rate) if self.images else 0
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.images}/{self.total} images, {self.masks} masks{failed}, {rate:.2f} images/s,"
            f" {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        )

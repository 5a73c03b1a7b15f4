"""Photos opened ahead of the model: bytes read and decoded in threads, in order, within a budget of pixels."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from aopsam.photos.decode import PhotoError, open_photo
from schemas.labels import Reason
from stages.corpus.fetch import FetchError, fetch_each
from stages.label.row import blank_row, fetched, opened, with_reason

AHEAD_PX = 32_000_000
"""Pixels that are decoded ahead of the model, by default: 96 MB of RGB."""


class PixelBudget:
    """Lets photos in by their numbers, in order, as long as those inside hold few enough pixels.

    In order, because whoever takes the photos out takes them in order: a later photo that took the room of an earlier
    one would wait for ever.
    """

    def __init__(self, limit_px: int) -> None:
        """Admit at most `limit_px` pixels at once; a photo with more comes in alone."""
        self.limit_px = limit_px
        self.held_px = 0
        self._next = 0
        self._changed = threading.Condition()

    def admit(self, number: int, pixels: int) -> None:
        """Wait until all photos before `number` were let in and there is room for this one."""
        with self._changed:
            self._changed.wait_for(lambda: number == self._next and self._has_room(pixels))
            self._next += 1
            self.held_px += pixels
            self._changed.notify_all()

    def release(self, pixels: int) -> None:
        """Give back the pixels of a photo that was taken out."""
        with self._changed:
            self.held_px -= pixels
            self._changed.notify_all()

    def _has_room(self, pixels: int) -> bool:
        return self.held_px == 0 or self.held_px + pixels <= self.limit_px


@dataclass
class Opened:
    """One photo, or why there is none.

    Attributes:
        row: its label row so far; with a reason where there is no photo.
        rgb: (H, W, 3) uint8, or None.
        pixels: that the budget counts for it.
    """

    row: dict[str, Any]
    rgb: npt.NDArray[np.uint8] | None
    pixels: int


class Prefetch:
    """Opens the photos of a listing's rows in threads; whatever happens to one, it becomes a row."""

    def __init__(self, images: str, max_pixels: int, threads: int, ahead_px: int = AHEAD_PX) -> None:
        """Set up the threads; none starts before there is a photo.

        Args:
            images: the run's --images, from which storage credentials are read again.
            max_pixels: photos with more are rejected from their header.
            threads: photos that are read and decoded at once; as many encoded files are held.
            ahead_px: decoded pixels that wait for the model; a larger photo waits alone.
        """
        self.images = images
        self.max_pixels = max_pixels
        self._budget = PixelBudget(ahead_px)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="open-photo")
        self._numbers = count()
        self._in_order = threading.Lock()

    def open(self, sources: Sequence[dict[str, Any]]) -> Iterator[Opened]:
        """Begin to open photos, behind those of earlier calls.

        Args:
            sources: rows of schemas/listing.py.

        Returns:
            One `Opened` a source, in order. It must be read to its end, and those of earlier calls before it.
        """
        with self._in_order:
            futures = deque(
                self._threads.submit(self._open, next(self._numbers), source, read)
                for source, read in zip(sources, fetch_each(sources, self.images), strict=True)
            )
        return self._opened(futures)

    def _opened(self, futures: deque[Future[Opened]]) -> Iterator[Opened]:
        while futures:
            photo = futures.popleft().result()
            self._budget.release(photo.pixels)
            yield photo
            del photo

    def _open(self, number: int, source: dict[str, Any], read: Callable[[], bytes]) -> Opened:
        admitted: list[int] = []
        waited = 0.0

        def admit(pixels: int) -> None:
            nonlocal waited
            began = time.perf_counter()
            admitted.append(pixels)
            self._budget.admit(number, pixels)
            waited += time.perf_counter() - began

        row, rgb = blank_row(source), None
        try:
            start = time.perf_counter()
            data = read()
            row = fetched(row, hashlib.sha256(data).hexdigest(), time.perf_counter() - start)
            start = time.perf_counter()
            photo = open_photo(data, self.max_pixels, before_decoding=admit)
            row, rgb = opened(row, photo, time.perf_counter() - start - waited), photo.rgb
        except FetchError as error:
            row = with_reason(row, error.reason, str(error))
        except PhotoError as error:
            row = with_reason(row, Reason(error.kind), str(error))
        except Exception as error:
            row = with_reason(row, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        if not admitted:
            admit(0)  # the next ones wait for this one's turn
        return Opened(row, rgb, admitted[0])

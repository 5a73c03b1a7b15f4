"""What is known of one photo as its masks are made: counts, times, and in the end the records."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from aopsam.prompting import Trace
from aopsam.sam.encode import EncodedPhoto


@dataclass
class Labelled:
    """The masks of one photo and how they came about.

    Attributes:
        records: SAM's records (see `AutoMaskGenerator.generate`).
        prompts_proposed: prompts that the strategy came up with.
        prompts_decoded: prompts that reached the mask decoder.
        refinements: prompts decoded a second time, for Adaptive Mask Refinement.
        dropped: prompts proposed and not decoded, by reason.
        masks_dropped: masks that passed and are no record all the same, by reason; duplicates are not counted.
        seconds: wall-clock time by stage: encode, prompt, decode, filter, rle.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    prompts_proposed: int = 0
    prompts_decoded: int = 0
    refinements: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    masks_dropped: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Adds up wall-clock time by stage; on a GPU it waits for the stage's work."""

    def __init__(self, device: torch.device) -> None:
        self._wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The time until it is left belongs to this stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            self.seconds[name] += time.perf_counter() - start


@dataclass
class Work:
    """One photo on its way through the generator, and what is counted on it."""

    image: np.ndarray
    encoded: EncodedPhoto | None
    watch: Stopwatch
    trace: Trace = field(default_factory=Trace)
    decoded: int = 0
    refinements: int = 0
    masks_dropped: Counter[str] = field(default_factory=Counter)
    tiled: bool = False

    @property
    def hw(self) -> tuple[int, int]:
        """Rows and columns of the photo."""
        return self.image.shape[0], self.image.shape[1]

"""Counts and times of one photo, kept by the loop as its masks are made; the photo's records with them in the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:  # who reads records needs none
    import torch

    from aopsam.prompting.fates import Fates, Trace

STAGES = ("encode", "prompt", "decode", "filter", "rle")
"""Stages of labelling a photo, in this order."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Request = TypeVar("Request")
Answer = TypeVar("Answer")


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
        seconds: wall-clock time by stage of `STAGES`.
        trace: fate of each prompt, and confidence maps; None unless asked for.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    prompts_proposed: int = 0
    prompts_decoded: int = 0
    refinements: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    masks_dropped: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    trace: Trace | None = None


class Ledger:
    """Counts prompts and masks of one photo, and adds up wall-clock time by stage; on a GPU it waits for its work.

    Attributes:
        fates: of the prompts that a strategy proposed.
        refinements: prompts decoded a second time.
        masks_dropped: masks dropped after the filters, by reason; not duplicates.
        seconds: by stage.
    """

    def __init__(self, device: torch.device, fates: Fates) -> None:
        self._wait: Callable[[], None] = lambda: None
        if device.type in ("cuda", "mps"):
            import torch

            self._wait = getattr(torch, device.type).synchronize
        self.fates = fates
        self.refinements = 0
        self.masks_dropped: Counter[str] = Counter()
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @property
    def spent(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge the time until the block is left to a stage."""
        with self.shared([self], name, [1]):
            yield

    @staticmethod
    @contextmanager
    def shared(ledgers: Sequence[Ledger], name: str, parts: Sequence[int]) -> Iterator[None]:
        """Charge the time until the block is left to a stage of several photos, by their parts of the work."""
        start = time.perf_counter()
        try:
            yield
        finally:
            ledgers[0]._wait()
            seconds = time.perf_counter() - start
            for ledger, part in zip(ledgers, parts, strict=True):
                ledger.seconds[name] += seconds * part / (sum(parts) or 1)

    def steps(self, name: str, steps: Generator[Request, Answer, Result]) -> Generator[Request, Answer, Result]:
        """Go through steps and charge to a stage what they take themselves, without the time for their requests."""
        answer: Any = None
        while True:
            with self.stage(name):
                try:
                    request = steps.send(answer)
                except StopIteration as end:
                    found: Result = end.value
                    return found
            answer = yield request

    def close(self, records: list[dict[str, Any]]) -> Labelled:
        """Return the photo's records with its counts; proposed is what was decoded and what was dropped."""
        return Labelled(
            records,
            prompts_proposed=self.fates.decoded + self.fates.dropped.total(),
            prompts_decoded=self.fates.decoded,
            refinements=self.refinements,
            dropped=dict(self.fates.dropped),
            masks_dropped=dict(self.masks_dropped),
            seconds=dict(self.seconds),
            trace=self.fates.trace,
        )


class HasLedger(Protocol):
    """Whatever keeps a ledger."""

    ledger: Ledger


Owner = TypeVar("Owner", bound=HasLedger)


def timed(
    stage: str,
) -> Callable[[Callable[Concatenate[Owner, Parameters], Result]], Callable[Concatenate[Owner, Parameters], Result]]:
    """Charge the time of a method to a stage of its object's ledger."""

    def decorate(
        step: Callable[Concatenate[Owner, Parameters], Result],
    ) -> Callable[Concatenate[Owner, Parameters], Result]:
        @wraps(step)
        def run(self: Owner, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with self.ledger.stage(stage):
                return step(self, *args, **kwargs)

        return run

    return decorate

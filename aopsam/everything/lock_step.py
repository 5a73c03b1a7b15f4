"""Photos labelled together: each goes its own way from request to request, and what several ask for is done at once.

A photo's way (`Steps`) is a generator: where it needs the model it yields what it asks for, an image to be encoded or
prompts to be decoded, and is sent the answer. Alone, each request is answered by itself. Together, all photos go on
until each waits; images are encoded in one batch, small rounds decoded in common runs of the decoder; then all go on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from segment_anything.modeling import Sam

from aopsam.everything.ledger import Ledger
from aopsam.sam.decode import DecodedMasks, Round, decodable_together, decode_passing, decode_together
from aopsam.sam.encode import EncodedPhoto, encode_together

Result = TypeVar("Result")


@dataclass(frozen=True)
class Image:
    """Pixels that are to be encoded, (H, W, 3) uint8: a photo or a part of it."""

    rgb: np.ndarray


Request = Image | Round
Steps = Generator[Request, Any, Result]
"""The way of a photo: yields an `Image` and is sent an `EncodedPhoto`, or a `Round` and is sent `DecodedMasks`."""


class _Photo(Generic[Result]):
    """A photo on its way, up to its next request or its outcome."""

    def __init__(self, ledger: Ledger, steps: Steps[Result], working: Callable[[float], None]) -> None:
        self.ledger, self._steps, self._working = ledger, steps, working
        self.request: Request | None = None
        self.outcome: Result | Exception | None = None
        self.go_on(None)

    def go_on(self, answer: EncodedPhoto | DecodedMasks | Exception | None) -> None:
        """Go on to the next request or to the end; an exception, of the answer too, is the outcome."""
        self.request = None
        self._working(self.ledger.spent)
        try:
            if isinstance(answer, Exception):
                self.request = self._steps.throw(answer)
            else:
                self.request = self._steps.send(answer)
        except StopIteration as end:
            self.outcome = end.value
        except Exception as error:
            self.outcome = error


def in_lock_step(
    model: Sam,
    photos: Sequence[tuple[Ledger, Steps[Result]]],
    points_per_batch: int,
    working: Callable[[float], None] = lambda spent: None,
) -> list[Result | Exception]:
    """Take photos to their ends, together; return what each comes to, or what it raised: the others go on.

    Args:
        model: answers the requests.
        photos: ledger and way of each. The time of a run for several photos is shared out among them, by prompts.
        points_per_batch: prompts decoded at once at most.
        working: called before each piece of work, with the seconds that its photo has taken so far.
    """
    ways = [_Photo(ledger, steps, working) for ledger, steps in photos]
    while waiting := [way for way in ways if way.request is not None]:
        for group in _groups(waiting, points_per_batch):
            working(max(way.ledger.spent for way in group))
            for way, answer in zip(group, _answers(model, group, points_per_batch), strict=True):
                way.go_on(answer)
    return [way.outcome for way in ways]  # type: ignore[misc]  # without a request, each has one


def _groups(waiting: Sequence[_Photo[Result]], points_per_batch: int) -> Iterator[list[_Photo[Result]]]:
    """Yield photos whose requests are answered at once. A large round is answered alone, and its masks are filtered
    before others are decoded: it gains nothing by company."""
    if images := [way for way in waiting if isinstance(way.request, Image)]:
        yield images
    # By now those have gone on, to their first rounds.
    rounds = [(way, way.request) for way in waiting if isinstance(way.request, Round)]
    for places in decodable_together([asked for _, asked in rounds], points_per_batch):
        yield [rounds[place][0] for place in places]


def _answers(
    model: Sam, group: Sequence[_Photo[Result]], points_per_batch: int
) -> Sequence[EncodedPhoto | DecodedMasks | Exception]:
    """Answer the requests of a group at once; where that fails, one by one, to tell whose fault it is."""
    ledgers = [way.ledger for way in group]
    images = [way.request.rgb for way in group if isinstance(way.request, Image)]
    rounds = [way.request for way in group if isinstance(way.request, Round)]
    try:
        if images:
            with Ledger.shared(ledgers, "encode", [1] * len(images)):
                return encode_together(model, images)
        with Ledger.shared(ledgers, "decode", [len(asked.prompts) for asked in rounds]):
            if len(rounds) > 1:
                return decode_together(rounds)
            (asked,) = rounds
            least, multimask = asked.min_iou, asked.multimask
            return [
                decode_passing(
                    *(asked.photo, asked.prompts), min_iou=least, points_per_batch=points_per_batch, multimask=multimask
                )
            ]
    except Exception as error:
        if len(group) == 1:
            return [error]
    return [_answers(model, [way], points_per_batch)[0] for way in group]

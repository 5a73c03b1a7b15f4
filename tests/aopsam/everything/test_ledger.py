"""Seconds of photos, alone and of work that several share."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress

import pytest
import torch

from aopsam.everything.ledger import Ledger
from aopsam.prompting.fates import Fates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time; whoever works moves it on."""
    now = [0.0]
    monkeypatch.setattr("aopsam.everything.ledger.time.perf_counter", lambda: now[0])
    return now


def test_the_time_of_a_shared_run_is_shared_out(clock: list[float]) -> None:
    one, two = Ledger(torch.device("cpu"), Fates()), Ledger(torch.device("cpu"), Fates())
    with suppress(ValueError), Ledger.shared([one, two], "decode", [1, 3]):
        clock[0] += 8.0
        raise ValueError
    with one.stage("filter"):
        clock[0] += 1.0
    assert (one.seconds["decode"], two.seconds["decode"]) == (2.0, 6.0)
    assert (one.spent, two.spent) == (3.0, 6.0)


def test_steps_are_charged_without_what_they_wait_for(clock: list[float]) -> None:
    def steps() -> Generator[str, int, int]:
        clock[0] += 1.0
        answer = yield "question"
        clock[0] += 2.0
        return answer

    ledger = Ledger(torch.device("cpu"), Fates())
    going = ledger.steps("decode", steps())
    assert next(going) == "question"
    clock[0] += 10.0
    with pytest.raises(StopIteration) as end:
        going.send(7)
    assert end.value.value == 7
    assert ledger.seconds["decode"] == 3.0

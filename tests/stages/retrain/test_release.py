"""Who of several runs that end at once has its version in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.lineage import SCHEMA
from stages.registry.versions import Registry, Version
from stages.retrain.gate import Verdict
from stages.retrain.job import RetrainJob
from stages.retrain.release import Compared, _take_into_use
from stages.retrain.settings import Settings


def made(registry: Registry, run: str, parent: int | None) -> int:
    number = registry.reserve(run)
    registry.publish(Version(number, parent, run, "", run, True, "as good"), {}, SCHEMA.empty_table())
    return number


def ends(registry: Registry, number: int, run: str, parent: int | None, passed: bool = True) -> str:
    job = RetrainJob(registry, run, "", (), Settings(), parent)
    unused: Any = None
    return _take_into_use(job, Compared(number, (), (), Verdict(passed, "as good"), unused, ()))


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_the_first_wins_and_the_other_says_so(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    registry = Registry(str(tmp_path) if place == "folder" else f"{request.getfixturevalue('bucket')}/r")
    one, two, three = (made(registry, run, None) for run in ("a", "b", "c"))
    assert ends(registry, one, "a", None, passed=False) == "version 1 was not taken into use: as good"
    assert registry.latest() is None
    assert ends(registry, two, "b", None) == "version 2 is in use now: as good"
    said = ends(registry, three, "c", None)
    assert said == "version 3 was not taken into use: version 2 is in use by now, which it was not compared with"
    assert ends(registry, two, "b", None) == "version 2 is in use now: as good"  # again after a kill
    latest = registry.latest()
    assert latest is not None
    assert latest.number == 2
    four = made(registry, "d", 2)
    assert ends(registry, four, "d", 2) == "version 4 is in use now: as good"


def test_one_that_is_overtaken_between_its_look_and_its_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(str(tmp_path))
    one, two = (made(registry, run, None) for run in ("a", "b"))
    real = Registry.promote

    def overtaken(self: Registry, number: int, *given: Any) -> bool:
        real(self, two, None, "b")
        return real(self, number, *given)

    monkeypatch.setattr(Registry, "promote", overtaken)
    assert "version 2 is in use by now" in ends(registry, one, "a", None)

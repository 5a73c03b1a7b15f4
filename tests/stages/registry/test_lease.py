"""A run has one process at a time, and goes on at once where that one was killed."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from stages.registry import lease
from stages.registry.lease import hold
from stages.storage.errors import RunFailed


@pytest.fixture(params=["folder", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 1.0)
    return f"{request.getfixturevalue('bucket')}/run" if request.param == "bucket" else str(tmp_path)


def write_holder(folder: str, **owner: object) -> None:
    content = {"host": "elsewhere", "process": 1, "began": 0.0, "token": "x", "beats": 1} | owner
    assert lease.write_if(f"{folder}/held.json", json.dumps(content).encode(), None) is not None


def test_a_second_one_is_refused_until_the_first_has_ended(folder: str) -> None:
    with hold(folder) as first:
        with pytest.raises(RunFailed, match=f"process {os.getpid()} on .* is at this run"), hold(folder):
            pass
        first.check()
    with hold(folder):
        pass
    assert lease.read_tagged(f"{folder}/held.json") is None


def test_one_of_this_machine_that_was_killed_is_followed_at_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 1000.0)
    began = psutil.Process().create_time()
    write_holder(
        folder, host=lease.socket.gethostname(), process=os.getpid(), began=began - 1
    )  # the number, used again
    with hold(folder):
        pass


def test_one_elsewhere_counts_as_dead_without_a_sign_of_life(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_holder(folder)
    began = time.monotonic()
    with hold(folder):
        assert time.monotonic() - began > 1
    assert "process 1 on elsewhere was at this run; waiting" in capsys.readouterr().err


def test_one_elsewhere_that_lives_is_left_alone(folder: str) -> None:
    write_holder(folder)

    def beat() -> None:
        time.sleep(0.3)
        held = lease.read_tagged(f"{folder}/held.json")
        assert held is not None
        lease.write_if(f"{folder}/held.json", held.data.replace(b'"beats": 1', b'"beats": 2'), held.tag)

    beating = threading.Thread(target=beat)
    beating.start()
    with pytest.raises(RunFailed, match="process 1 on elsewhere is at this run"), hold(folder):
        pass
    beating.join()


def test_one_that_was_thought_dead_finds_out(folder: str) -> None:
    with hold(folder) as first:
        held = lease.read_tagged(f"{folder}/held.json")
        while held is not None and lease.write_if(f"{folder}/held.json", b"another", held.tag) is None:
            held = lease.read_tagged(f"{folder}/held.json")
        time.sleep(0.5)
        with pytest.raises(RunFailed, match="another process has taken this run over"):
            first.check()
    held = lease.read_tagged(f"{folder}/held.json")
    assert held is not None
    assert held.data == b"another"

"""Progress lines, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from stages.label.account import Account
from stages.label.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_keeps_one_line_with_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = _Terminal()
    progress = Progress(40, stream)
    now[0] += 10
    progress.add(Account(rows=10, masks=300, failed=1))
    progress.close()
    assert stream.getvalue() == "\r\x1b[K10/40 images, 300 masks, 1 failed, 1.00 images/s, 0:00:30 left\n"


def test_elsewhere_lines_come_at_the_heartbeat_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = Progress(30, stream)
    for _ in range(30):
        now[0] += 1
        progress.add(Account(rows=1, masks=2))
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["10/30", "20/30", "30/30"]
    assert lines[-1] == "30/30 images, 60 masks, 1.00 images/s, 0:00:00 left"


def test_time_left_follows_the_rate_since_the_first_result(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = _Terminal()
    progress = Progress(21, stream)
    now[0] = 12
    progress.add(Account(rows=1, seconds_model=2.0, seconds_write=1.0))
    now[0] = 17
    progress.add(Account(rows=10))
    assert (progress.seconds_start, progress.seconds_first) == (9.0, 12.0)
    assert stream.getvalue().endswith("11/21 images, 0 masks, 2.00 images/s, 0:00:05 left")

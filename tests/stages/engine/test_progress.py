"""Progress lines, on a terminal and elsewhere, while the number of items is known and before."""

from __future__ import annotations

import io

import pytest

from stages.engine.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: times[0])
    return times


def test_a_terminal_keeps_one_line_with_time_left(now: list[float]) -> None:
    stream = _Terminal()
    progress = Progress("images", stream)
    progress.expect(40, all_known=True)
    now[0] += 10
    progress.add(10, failed=1, note="300 masks")
    progress.close()
    assert stream.getvalue() == "\r\x1b[K10/40 images, 300 masks, 1 failed, 1.00 images/s, 0:00:30 left\n"


def test_elsewhere_lines_come_at_the_heartbeat_and_at_the_end(now: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress("photos", stream)
    progress.expect(30, all_known=True)
    for _ in range(30):
        now[0] += 1
        progress.add(1)
    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["10/30", "20/30", "30/30"]
    assert lines[-1] == "30/30 photos, 1.00 photos/s, 0:00:00 left"


def test_before_all_are_known_no_time_left_is_said_and_the_end_is_not_taken_for_reached(now: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress("photos", stream)
    progress.expect(3)
    progress.add(3)
    assert stream.getvalue() == ""
    now[0] += 10
    progress.add(0)
    assert stream.getvalue() == "3 photos, at least 3 in all, 0.30 photos/s\n"
    progress.expect(0, all_known=True)
    progress.add(0)
    assert stream.getvalue().splitlines()[1:] == ["3/3 photos, 0.30 photos/s, 0:00:00 left"]


def test_what_is_done_before_it_is_known_to_be_there_is_not_more_than_all(now: list[float]) -> None:
    stream = io.StringIO()
    progress = Progress("photos", stream)
    progress.expect(0, all_known=True)
    now[0] += 10
    progress.add(5)
    progress.expect(5)
    progress.add(0)
    assert [line.split(",")[:2] for line in stream.getvalue().splitlines()] == [
        ["5 photos", " at least 5 in all"],
        ["5/5 photos", " 0.50 photos/s"],
    ]


def test_time_left_follows_the_rate_since_the_first_result(now: list[float]) -> None:
    stream = _Terminal()
    progress = Progress("images", stream)
    progress.expect(21, all_known=True)
    now[0] += 12
    progress.add(1)
    now[0] += 5
    progress.add(10)
    assert progress.seconds_first == 12.0
    assert stream.getvalue().endswith("11/21 images, 2.00 images/s, 0:00:05 left")

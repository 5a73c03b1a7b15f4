"""Nearly sound inputs: what is wrong with files that others wrote, as Hypothesis' strategies; and a limit of time."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

SECONDS = 2.0
"""Time of a processor that a reader may take for one input."""


class TooSlow(BaseException):
    """No `Exception`, so that no reader takes it for a fault of its input."""


@contextmanager
def limited() -> Iterator[None]:
    """End what takes more than `SECONDS`; the process, too, where it hangs or waits a minute."""

    def stop(*_: Any) -> None:
        raise TooSlow(f"over {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    faulthandler.dump_traceback_later(30 * SECONDS, exit=True)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGPROF, before)


def nested(depth: int) -> list[Any]:
    """Return a list in a list in a list …"""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "1",
            "1.0",
            " 1 ",
            "007",
            "-1",
            "1e400",
            "true",
            "no",
            "../x.png",
            "a\\b.png",
            "C:\\x.png",
            "/x",
            "\ud800.png",
            "\udce4.png",
            "a\nb.png",
            "\0",
            "\x85",
            "\u2028",
            "é",
            "e\u0301",
            "x" * 5000,
            "images",
        ]
    ),
    st.text(max_size=6),
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 2**16, 2**16 + 1, 2**31, 2**32, 2**53 + 1, 2**63, 10**400, 10**4000]),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 1e308, 5e-324, float("nan"), float("inf"), -float("inf")]),
    st.integers(-3, 40),
    st.floats(-50, 50),
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXTS,
    st.sampled_from([[], {}, [[]], [None], {"a": 1}, [1, 2], [0.5] * 8]),
    st.sampled_from([30, 300, 900]).map(nested),
)
"""Values of JSON that are not what a reader looks for."""


@st.composite
def mutated(draw: st.DrawFn, sound: st.SearchStrategy[Any], most: int = 4) -> Any:
    """Draw a value of JSON and change it in up to `most` places: keys and items go, repeat or become others."""
    value = draw(sound)
    for _ in range(draw(st.integers(0, most))):
        value = _mutate(draw, value)
    return value


def _mutate(draw: st.DrawFn, value: Any) -> Any:
    """Return a copy of a value with one change; what is not changed stays the same object."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(list(value)))
        others = {name: other for name, other in value.items() if name != key}
        match draw(st.integers(0, 9)):
            case 0:
                return others
            case 1:
                return others | {draw(TEXTS): value[key]}
            case _:
                return {name: _mutate(draw, other) if name == key else other for name, other in value.items()}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value) - 1))
        match draw(st.integers(0, 19)):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[: at + 1] + value[at:]
            case 2:
                return [*value[:at], draw(VALUES), *value[at:]]
            case 3:
                return value[:at]
            case _:
                return [*value[:at], _mutate(draw, value[at]), *value[at + 1 :]]
    return draw(st.one_of(VALUES, st.sampled_from(_alike(value))))


def _alike(value: Any) -> list[Any]:
    """Return values that somebody's program may have written instead."""
    alike: list[Any] = [[value], {"0": value}]
    if isinstance(value, int | float) and abs(value) < 2**53:
        alike += [float(value), str(value), -value, value + 1, value * 1000, value + 0.5]
    if isinstance(value, str):
        alike += [value + " ", value[:-1], value + "~", value[1:], value.upper(), value * 2, list(value)]
    if isinstance(value, list):
        alike += [value[::-1], {str(place): item for place, item in enumerate(value)}, value * 2]
    if isinstance(value, dict):
        alike += [list(value.values()), list(value)]
    return alike


@st.composite
def damaged(draw: st.DrawFn, sound: bytes, most: int = 3) -> bytes:
    """Change bytes in up to `most` places: flip, cut, remove, repeat, insert, splice."""
    data = sound
    for _ in range(draw(st.integers(1, most))):
        at, other = (draw(st.integers(0, len(data))) for _ in range(2))
        start, stop = sorted((at, other))
        data = draw(st.sampled_from(_CHANGES))(draw, data, start, stop)
    return data


def _flip(draw: st.DrawFn, data: bytes, start: int, stop: int) -> bytes:
    return (
        data[:start] + bytes([(data[start] ^ draw(st.integers(1, 255)))]) + data[start + 1 :] if data[start:] else b""
    )


def _cut(draw: st.DrawFn, data: bytes, start: int, stop: int) -> bytes:
    return data[:start]


def _remove(draw: st.DrawFn, data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + data[min(stop, start + 600) :]


def _repeat(draw: st.DrawFn, data: bytes, start: int, stop: int) -> bytes:
    return data[:stop] + data[start:]


def _insert(draw: st.DrawFn, data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + draw(st.binary(min_size=1, max_size=12)) + data[start:]


def _fill(draw: st.DrawFn, data: bytes, start: int, stop: int) -> bytes:
    stop = min(stop, start + 600)
    return data[:start] + draw(st.sampled_from([b"\0", b"\xff", b"0"])) * (stop - start) + data[stop:]


_CHANGES: list[Callable[[st.DrawFn, bytes, int, int], bytes]] = [_flip, _flip, _cut, _remove, _repeat, _insert, _fill]


def check_lines(lines: Sequence[str]) -> None:
    """Assert that each problem is one line that can be written anywhere, and no longer than can be read."""
    for line in lines:
        assert line.splitlines() == [line], line
        line.encode()
        assert len(line) < 1000, line[:200]

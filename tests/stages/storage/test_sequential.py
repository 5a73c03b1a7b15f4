"""Files that are read once, from their start, in few requests."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stages.storage.sequential import BEHIND, CHUNK, SequentialFile, open_sequential
from tests.helpers import ROOT
from tests.helpers.counting_server import serve

DATA = np.random.default_rng(0).bytes(3 * CHUNK + 77)


def _sequential() -> tuple[SequentialFile, io.BytesIO]:
    stream = io.BytesIO(DATA)
    return SequentialFile(stream.read, len(DATA)), stream


def test_what_is_read_forward_is_what_lies_there() -> None:
    file, _ = _sequential()
    rng, at = np.random.default_rng(1), 0
    for _ in range(40):
        at += int(rng.integers(0, 90_000))
        file.seek(at)
        size = int(rng.integers(1, 70_000))
        assert file.read(size) == DATA[at : at + size]
        back = int(rng.integers(0, min(at, BEHIND // 2) + 1))
        file.seek(file.tell() - back)
        at = file.tell()
        assert file.read(back) == DATA[at : at + back]
    assert file.seek(0, io.SEEK_END) == len(DATA)
    assert file.read(10) == b""


def test_nothing_is_read_ahead_of_what_is_asked_for() -> None:
    file, stream = _sequential()
    file.seek(CHUNK + 5)
    assert file.read(1) == DATA[CHUNK + 5 : CHUNK + 6]
    assert stream.tell() == 2 * CHUNK


def test_what_lies_far_behind_and_a_stream_that_ends_early_are_errors() -> None:
    file, _ = _sequential()
    file.seek(2 * CHUNK + BEHIND)
    file.read(1)
    file.seek(5)
    with pytest.raises(OSError, match="byte 5 was read already"):
        file.read(1)
    short = SequentialFile(io.BytesIO(b"abc").read, 5)
    with pytest.raises(OSError, match="the stream ends at byte 3 of 5"):
        short.read()


FORGETS = """
import sys, fsspec
from stages.storage.sequential import open_sequential

def walk():
    with open_sequential(fsspec.filesystem("http"), sys.argv[1], int(sys.argv[2])) as file:
        yield file.read(1)

forgotten = [walk()]
forgotten.append(forgotten)
next(forgotten[0])
"""


def test_a_program_that_ends_in_the_middle_of_a_file_ends(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(DATA)
    with serve(tmp_path) as (address, _):
        command = [sys.executable, "-c", FORGETS, f"http://{address}/s.tar", str(len(DATA))]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        assert subprocess.run(command, timeout=60, env=environment, check=False).returncode == 0


class _Counting(MemoryFileSystem):
    protocol = ("counting",)
    asked: list[tuple[int, int]] = []  # noqa: RUF012

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: object) -> bytes:
        self.asked.append((start or 0, end or 0))
        return super().cat_file(path, start, end, **kwargs)


def test_a_store_that_cannot_stream_is_asked_for_large_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.storage.sequential.BLOCK", 2 * CHUNK)
    filesystem = _Counting()
    filesystem.pipe_file("/sequential", DATA)
    assert open_sequential(filesystem, "/sequential", len(DATA)).read() == DATA
    assert filesystem.asked == [(0, 2 * CHUNK), (2 * CHUNK, len(DATA))]
    filesystem.rm("/sequential")

"""Hold a run's folder against a second process of the same run; one that was killed holds it no longer."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from stages.storage.conditional import Tagged, read_tagged, write_if
from stages.storage.errors import RunFailed
from stages.storage.location import open_filesystem, redact

BEAT_SECONDS = 5.0
"""Time between two signs of life."""

PATIENCE_SECONDS = 60.0
"""Time without one, as another machine sees it by its own clock, after which a run's process counts as dead."""

HELD = "held.json"


class Lease:
    """Hold of a folder, renewed by a thread as long as this process lives."""

    def __init__(self, folder: str) -> None:
        self._uri, self._folder, self._beats = f"{folder}/{HELD}", folder, 0
        self._who = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "began": psutil.Process().create_time(),
            "token": uuid.uuid4().hex,
        }
        self._tag = self._take()
        self._lost, self._end = False, threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Check that no other process has taken the run over, as one would that has not heard of this one for long.

        Raises:
            RunFailed: one has.
        """
        if self._lost:
            raise RunFailed(f"{redact(self._folder)}: another process has taken this run over")

    def close(self) -> None:
        """Give the folder back."""
        self._end.set()
        self._thread.join()
        if not self._lost:
            filesystem, path = open_filesystem(self._uri)
            with suppress(Exception):  # gone already; or nobody's, to the next one who looks
                filesystem.rm_file(path)

    def _content(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._who, "beats": self._beats}).encode()

    def _take(self) -> str:
        seen, since, told = read_tagged(self._uri), time.monotonic(), False
        while True:
            if seen is None or _is_dead(seen) or time.monotonic() - since > PATIENCE_SECONDS:
                tag = write_if(self._uri, self._content(), seen and seen.tag)
                if tag is not None:
                    return tag
            elif _is_here(seen):
                raise self._refusal(seen)
            elif not told:
                print(f"{_name(seen)} was at this run; waiting for a sign of life", file=sys.stderr, flush=True)
                told = True
            time.sleep(BEAT_SECONDS / 5)
            now = read_tagged(self._uri)
            if now is not None and now != seen and seen is not None:
                raise self._refusal(now)
            seen = now

    def _refusal(self, holder: Tagged) -> RunFailed:
        return RunFailed(f"{redact(self._folder)}: {_name(holder)} is at this run; it needs no second one")

    def _renew(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            with suppress(Exception):  # a store that is away for a moment
                tag = write_if(self._uri, self._content(), self._tag)
                if tag is None:
                    self._lost = True
                    return
                self._tag = tag


def _owner(held: Tagged) -> Mapping[str, Any]:
    with suppress(ValueError):
        owner = json.loads(held.data)
        if isinstance(owner, dict):
            return owner
    return {}


def _name(held: Tagged) -> str:
    owner = _owner(held)
    return f"process {owner.get('process')} on {owner.get('host')}"


def _is_here(held: Tagged) -> bool:
    return _owner(held).get("host") == socket.gethostname()


def _is_dead(held: Tagged) -> bool:
    """Tell whether a process of this machine has ended; nothing is known of other machines'."""
    owner = _owner(held)
    if owner.get("host") != socket.gethostname():
        return False
    try:
        return psutil.Process(owner["process"]).create_time() != owner["began"]
    except (psutil.Error, KeyError, TypeError, ValueError):
        return True


@contextmanager
def hold(folder: str) -> Iterator[Lease]:
    """Hold a run's folder (path or URI) while the block lasts.

    Raises:
        RunFailed: another process is at the same run.
    """
    lease = Lease(folder)
    try:
        yield lease
    finally:
        lease.close()

"""Store bytes by name: some in memory, the rest in one anonymous temporary file."""

from __future__ import annotations

import os
import tempfile
from types import TracebackType
from typing import BinaryIO, cast


class Spool:
    """A mapping of names to bytes whose memory is bounded; what is put in can be taken out once.

    A context manager: the temporary file, which has no name and lies in `tempfile.gettempdir()` (TMPDIR), is removed
    when it ends, or with the process.
    """

    def __init__(self, memory_bytes: int) -> None:
        """Keep at most `memory_bytes` in memory."""
        self._room = memory_bytes
        self._held: dict[str, bytes] = {}
        self._stored: dict[str, tuple[int, int]] = {}
        self._file: BinaryIO | None = None

    def put(self, name: str, content: bytes) -> None:
        """Store `content` under a name, in place of what had the name before.

        Raises:
            OSError: the temporary file's disk is full.
        """
        if name in self:
            self.take(name)
        if len(content) <= self._room:
            self._room -= len(content)
            self._held[name] = content
            return
        if self._file is None:
            self._file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - closed in __exit__
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(content)
        self._stored[name] = start, len(content)

    def take(self, name: str) -> bytes:
        """Return the bytes of a name and remove them.

        Raises:
            KeyError: there are none of that name.
        """
        if name in self._held:
            content = self._held.pop(name)
            self._room += len(content)
            return content
        start, length = self._stored.pop(name)
        assert self._file is not None
        self._file.seek(start)
        content = self._file.read(length)
        if not self._stored:
            self._file.truncate(0)
        return content

    def __contains__(self, name: str) -> bool:
        return name in self._held or name in self._stored

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

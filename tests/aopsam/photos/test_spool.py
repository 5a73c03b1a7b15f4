from __future__ import annotations

from pathlib import Path

import pytest

from aopsam.photos.spool import Spool


def test_a_spool_gives_back_what_was_put_in_whatever_its_memory(tmp_path: Path) -> None:
    content = {str(n): bytes([n]) * (n * 100) for n in range(20)}
    for memory in (0, 1500, 10**6):
        with Spool(memory) as spool:
            for turn in range(2):
                for name in content:
                    spool.put(name, b"replaced")
                    spool.put(name, content[name] + bytes([turn]))
                for name in reversed(content):
                    assert spool.take(name) == content[name] + bytes([turn])
                    assert name not in spool


def test_what_is_not_there_cannot_be_taken() -> None:
    with Spool(10) as spool, pytest.raises(KeyError):
        spool.take("a")

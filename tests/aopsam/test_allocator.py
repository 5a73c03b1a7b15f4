from __future__ import annotations

import ctypes

import pytest

from aopsam._allocator import keep_freed_memory


def test_glibc_is_told_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep_freed_memory() == hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    monkeypatch.setattr("sys.platform", "darwin")
    assert not keep_freed_memory()

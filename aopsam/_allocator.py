"""Let the C allocator keep what is freed, for processes that do the same work again and again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Have glibc serve tensors of up to 1 GiB from memory that it keeps; returns whether it does.

    By default every large tensor is new memory from the system, whose pages are cleared as they are first touched: a
    fifth of the time of an encoder on a CPU (benchmarks/LOG.md). Elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(option, _KEPT_BYTES) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))

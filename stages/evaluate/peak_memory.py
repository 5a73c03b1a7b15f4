"""Measure the memory that a function takes at its peak, beyond what was in use when it began."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def peak_memory(work: Callable[[], Any], device: str = "cpu") -> int | None:
    """Run `work` and return the bytes in use at its peak, less those in use before it.

    On CUDA this is what PyTorch allocated. On Linux it is the resident memory of this process, from the kernel's own
    mark, which `clear_refs` resets (proc(5)); memory that the C library keeps is given back first, since work that is
    served from it would seem to take none. So the work runs slower than usual: do not time it.

    Returns:
        Bytes; None where it cannot be measured, on another system or where the mark cannot be reset: `work` has run
        then, too.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    reset = sys.platform.startswith("linux") and _reset()
    before = _kibibytes("VmRSS") if reset else 0
    work()
    return max(0, _kibibytes("VmHWM") - before) * 1024 if reset else None


def _reset() -> bool:
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _kibibytes(name: str) -> int:
    """Read a line of this process's status, in kB as the kernel writes them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"no {name} in /proc/self/status")

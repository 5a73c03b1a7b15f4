"""Run calls side by side in threads on a CPU, where torch divides one operation among its threads at a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(call: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """Call a function on each item, in as many threads; return the results in the items' order.

    Many small operations gain little from torch's own threads: one decoder run of 16 prompts on two threads is hardly
    quicker than on one, two runs at once are (benchmarks/LOG.md). Each worker has its share of torch's threads. Modes
    that torch keeps by thread (`inference_mode`, autocast) are those of a new thread: the function sets its own.

    Args:
        call: must let others run meanwhile, as operations of torch and compiled loops do.
        items: what it is called on.
        workers: threads at most; with one, all calls run in this thread.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        return [call(item) for item in items]
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)
        ) as pool:
            return list(pool.map(call, items))
    finally:
        torch.set_num_threads(threads)  # its number for threads to come is the one set last, in whichever thread

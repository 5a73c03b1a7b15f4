"""Calls side by side in threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, get_ident

import pytest
import torch

from aopsam._side_by_side import side_by_side


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_items_order_from_calls_that_overlap() -> None:
    both = Barrier(2)

    def call(item: int) -> tuple[int, int]:
        both.wait(timeout=30)  # passes only when two calls are under way
        return item, torch.get_num_threads()

    assert side_by_side(call, range(6), 2) == [(item, 2) for item in range(6)]  # each has half of torch's threads
    assert torch.get_num_threads() == 4
    assert side_by_side(lambda _: torch.get_num_threads(), range(8), 8) == [1] * 8


def test_threads_to_come_have_torchs_number_again() -> None:
    side_by_side(lambda item: item, range(4), 4)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 4


@pytest.mark.parametrize(("items", "workers"), [([7], 4), ([7, 8], 1), ([], 4)])
def test_one_call_or_one_worker_stays_in_this_thread(items: list[int], workers: int) -> None:
    assert side_by_side(lambda item: (item, get_ident()), items, workers) == [(item, get_ident()) for item in items]


def test_an_error_ends_all_and_leaves_torchs_threads() -> None:
    def call(item: int) -> int:
        if item == 1:
            raise RuntimeError("item 1")
        return item

    with pytest.raises(RuntimeError, match="item 1"):
        side_by_side(call, range(100), 2)
    assert torch.get_num_threads() == 4

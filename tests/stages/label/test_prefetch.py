"""Photos opened ahead: the same rows as one by one, in order, within a budget of pixels."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.corpus.listing import list_images
from stages.label import prefetch
from stages.label.prefetch import PixelBudget, Prefetch
from tests.helpers.odd_files import build_odd_files


def _sources(folder: Path) -> list[dict[str, Any]]:
    return list_images(str(folder)).to_pylist()


def _made(folder: Path, sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    folder.mkdir()
    for number, (width, height) in enumerate(sizes):
        rgb = np.full((height, width, 3), number, np.uint8)
        Image.fromarray(rgb).save(folder / f"{number:03}.png")
    return _sources(folder)


def test_photos_come_in_order_call_after_call(tmp_path: Path) -> None:
    sources = _made(tmp_path / "a", [(30 + number, 20) for number in range(12)])
    ahead = Prefetch(str(tmp_path / "a"), 10**6, threads=3, ahead_px=1500)
    first, second = ahead.open(sources[:5]), ahead.open(sources[5:])
    found = [*first, *second]
    assert [opened.row["file_name"] for opened in found] == [source["file_name"] for source in sources]
    for number, opened in enumerate(found):
        assert opened.rgb is not None
        assert opened.rgb.shape == (20, 30 + number, 3)
        assert (opened.rgb == number).all()
        assert opened.pixels == 20 * (30 + number)
        assert opened.row["seconds_photo"] >= 0


@pytest.mark.parametrize("threads", [1, 4])
def test_whatever_a_file_is_it_is_one_row_and_the_next_ones_come(tmp_path: Path, threads: int) -> None:
    build_odd_files(tmp_path)
    sources = _sources(tmp_path)
    opened = list(Prefetch(str(tmp_path), 10**6, threads, ahead_px=10**4).open(sources))
    assert [each.row["image_id"] for each in opened] == [source["image_id"] for source in sources]
    for each in opened:
        assert (each.rgb is None) == ("reason" in each.row)
    assert any(each.rgb is None for each in opened)
    assert any(each.rgb is not None for each in opened)


def test_no_more_is_decoded_ahead_than_the_budget_holds(tmp_path: Path) -> None:
    sources = _made(tmp_path / "a", [(100, 10)] * 6 + [(100, 100)] + [(100, 10)] * 3)
    ahead = Prefetch(str(tmp_path / "a"), 10**6, threads=3, ahead_px=2500)
    most = 0
    photos = ahead.open(sources)
    for number in range(len(sources)):
        time.sleep(0.05)  # the threads get as far as they may
        held = ahead._budget.held_px
        assert held <= 2500 or held == 10_000  # the large one, and nothing beside it
        most = max(most, held)
        assert next(photos).pixels == (10_000 if number == 6 else 1000)
    assert most == 10_000
    assert ahead._budget.held_px == 0


def test_waiting_for_room_is_not_time_spent_on_a_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(prefetch.time, "perf_counter", lambda: now[0])
    sources = _made(tmp_path / "a", [(10, 10)])
    ahead = Prefetch(str(tmp_path / "a"), 10**6, threads=1)

    def admit(number: int, pixels: int) -> None:
        now[0] += 100

    monkeypatch.setattr(ahead._budget, "admit", admit)
    (opened,) = ahead.open(sources)
    assert opened.row["seconds_photo"] == 0


def test_a_later_photo_never_takes_the_room_of_an_earlier_one() -> None:
    budget, entered = PixelBudget(10), []

    def admit(number: int, pixels: int) -> None:
        budget.admit(number, pixels)
        entered.append(number)

    later = threading.Thread(target=admit, args=(1, 8))
    later.start()
    admit(0, 9)
    assert entered == [0]
    budget.release(9)
    later.join(timeout=10)
    assert entered == [0, 1]
    assert budget.held_px == 8

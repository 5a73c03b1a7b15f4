"""A window of photos that moves on with the updates: what it holds, what it costs, and how a run goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aopsam.training import stream
from aopsam.training.annotated import StoredPhotos
from aopsam.training.checkpoint import load_checkpoint
from aopsam.training.recipes import Recipe, SamRecipe
from aopsam.training.sam import SamTask
from aopsam.training.stream import PARTS
from aopsam.training.trainer import Reports, train
from stages.annotations.held_out import is_held_out, split_photos
from tests.helpers.made_shard import jpeg, two_objects, write_shard
from tests.helpers.training_tasks import WINDOW_BYTES, Colour

SHARDS, PHOTOS = 5, 8
IDS = [f"{shard}-{number}" for shard in range(SHARDS) for number in range(PHOTOS)]
TAUGHT = {name for name in IDS if not is_held_out(name)}
RECIPE = Recipe(steps=80, accumulate=2, average=0.9)


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Shards of eight photos each, and a window for nine; the last photo of each shard is broken."""
    monkeypatch.setattr(stream, "WINDOW_BYTES", WINDOW_BYTES)
    paths = []
    for shard in range(SHARDS):
        photos = {
            name: (jpeg(seed, (96, 128)), two_objects()) for seed, name in enumerate(IDS) if name[0] == str(shard)
        }
        broken = {f"lost-{shard}": (b"no photo", two_objects())}
        paths.append(str(write_shard(tmp_path / f"{shard}.tar", photos | broken)))
    return paths


def windows(task: Colour, updates: range, batches: int = 1, state: dict | None = None) -> Iterator[list[str]]:
    """The ids in the window, at each update."""
    task.pool.begin(updates[0], batches, state)
    for update in updates:
        task.pool.move(update * batches)
        yield [photo.id for photo in task.pool.sources[0]]


def test_a_window_moves_over_all_shards_and_stays_small(shards: list[str]) -> None:
    task = Colour(shards, RECIPE)
    assert 0 < len(task.photos) < len(TAUGHT) / 3
    assert task.pool.describe().startswith(f"{len(task.photos)} photos to begin with, of ")
    seen: set[str] = set()
    held = {photo.id for photo in task.held_out}
    assert held
    for ids in windows(task, range(120)):
        assert len(ids) <= WINDOW_BYTES / 2000
        seen.update(ids)
        files = {part._file: part.stored_bytes for parts in task.pool._parts.values() for part in parts}
        assert sum(files.values()) <= 3 * WINDOW_BYTES
    assert seen == TAUGHT - held


def test_the_window_of_an_update_depends_on_its_number_alone(shards: list[str]) -> None:
    task = Colour(shards, RECIPE)
    unbroken = list(windows(task, range(60)))
    assert len({tuple(ids) for ids in unbroken}) > 2 * PARTS
    assert list(windows(Colour(shards, RECIPE), range(60), batches=3)) == unbroken
    for update in (3, 20, 41, 59):
        state = json.loads(json.dumps(task.pool.state(update)))
        resumed = Colour(shards, RECIPE)
        assert list(windows(resumed, range(update, 60), state=state)) == unbroken[update:]
        behind = resumed.photos.stream
        assert behind is not None
    assert list(windows(task, range(4))) == unbroken[:4]  # backwards, too
    other = Colour(shards, replace(RECIPE, seed=1))
    assert list(windows(other, range(60))) != unbroken


def test_a_run_goes_on_by_its_cursor_without_reading_what_is_behind(
    shards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Colour(shards, RECIPE)
    late = list(windows(task, range(61)))[60]
    state = task.pool.state(60)
    resumed = Colour(shards, RECIPE)
    stored: list[str] = []
    add = StoredPhotos.add
    monkeypatch.setattr(
        StoredPhotos, "add", lambda self, file, photo: (stored.append(photo.id), add(self, file, photo))
    )
    assert list(windows(resumed, range(60, 61), state=state)) == [late]
    assert len(stored) <= len(late) + 4


def test_a_small_corpus_is_read_whole_and_in_its_order(shards: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW_BYTES", 1 << 20)
    tasks = [Colour(shards, replace(RECIPE, seed=seed)) for seed in range(3)]
    for task in tasks:
        assert [photo.id for photo in task.photos] == [name for name in IDS if name in TAUGHT]
        assert [line.split(":")[0] for line in task.problems] == [f"lost-{shard}" for shard in range(SHARDS)]
        assert task.pool.move(10**6) is None
        assert task.pool.state(10**6) is None
    assert tasks[0].pool.describe() == f"{len(TAUGHT)} photos to train on, of all 45 in 5 shard(s)"


def test_a_run_broken_anywhere_ends_as_the_unbroken_one_and_problems_are_told_once(
    tmp_path: Path, shards: list[str]
) -> None:
    told: list[str] = []
    first = Colour(shards, RECIPE)
    train(first, tmp_path / "whole", reports=Reports(problem=told.append))
    for stop in (5, 23, 24, None):
        train(Colour(shards, RECIPE), tmp_path / "broken", stop_at=stop)
    whole, broken = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "broken")
    assert whole is not None
    assert broken is not None
    assert whole["pool"] == broken["pool"]
    assert whole["pool"]["part"] > 2 * PARTS
    assert torch.equal(whole["model"]["colour"], broken["model"]["colour"])
    assert sorted([line.split(":")[0] for line in first.problems + told]) == [f"lost-{n}" for n in range(SHARDS)]
    assert told
    lines = [json.loads(line) for line in (tmp_path / "whole" / "steps.jsonl").read_text().splitlines()]
    assert [line["problem"] for line in lines if line["part"] == "left out"] == told


def test_what_makes_the_batches_changes_nothing(tmp_path: Path, shards: list[str]) -> None:
    ends = []
    for workers in (0, 1, 2):
        told: list[str] = []
        train(
            Colour(shards, RECIPE),
            tmp_path / str(workers),
            loader_workers=workers,
            reports=Reports(problem=told.append),
        )
        state = load_checkpoint(tmp_path / str(workers))
        assert state is not None
        ends.append((state["model"]["colour"].tolist(), state["pool"], sorted(told)))
    assert ends[0] == ends[1] == ends[2]


def test_tasks_draw_from_the_window(shards: list[str]) -> None:
    photos, _ = split_photos(shards, 3, lambda line: None)
    recipe = SamRecipe(steps=80, dense_steps=79, dense_windows=2, windows=1, window_px=64)
    sam, window = SamTask([photos], recipe), Colour(shards, RECIPE).pool
    ids = set()
    for index in (0, 30, 60):
        sam.batch(index)
        window.move(index)
        ids.add(tuple(photo.id for photo in window.sources[0]))
        assert tuple(photo.id for photo in sam._drawn) in ids
    assert len(ids) == 3


def test_a_plan_begins_with_the_first_photos_whatever_the_number_of_its_update(shards: list[str]) -> None:
    task = Colour(shards, RECIPE)
    assert list(windows(task, range(10**6, 10**6 + 1))) == [task.photos.photos.ids]


def test_shards_without_more_photos_to_train_on_end_in_a_line(shards: list[str]) -> None:
    task = Colour(shards, RECIPE)
    task.photos.check = lambda sample, findings: None
    with pytest.raises(ValueError, match=r"a whole pass over 5 shard\(s\) gave no photo that can be trained on"):
        task.pool.move(0)

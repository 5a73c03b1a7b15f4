"""Which photos are held out, by their names alone, and how sources are split."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.annotations.held_out import is_held_out, is_listed_held_out, split_photos, split_sources
from tests.helpers.made_shard import annotation, jpeg, rectangle, two_objects, write_shard

NAMES = [str(number) for number in range(60)]
OUT = [name for name in NAMES if is_held_out(name)]


def shard(path: Path, names: list[str]) -> list[str]:
    return [str(write_shard(path, {name: (jpeg(0, (96, 128)), two_objects()) for name in names}))]


def test_each_source_is_split_by_names(tmp_path: Path) -> None:
    sources = [shard(tmp_path / "a.tar", NAMES), shard(tmp_path / "b.tar", OUT[:2]), shard(tmp_path / "c.tar", OUT[2:])]
    training, held_out = split_sources(sources, 100, pytest.fail)
    assert [photos.ids for photos in training] == [[name for name in NAMES if name not in OUT], [], []]
    assert [photos.ids for photos in held_out] == [OUT, OUT[:2], OUT[2:]]
    _, few = split_sources(sources, 3, pytest.fail)
    assert sum(map(len, few)) == 3
    one, other = split_photos(sources[0], 100, pytest.fail)
    assert (one.ids, other.ids) == (training[0].ids, OUT)
    with pytest.raises(ValueError, match=r"no annotated photo to train on \(2 held out\)"):
        split_sources(sources[1:2], 3, pytest.fail)


def test_photos_with_small_masks_alone_are_left_out_of_each_source(tmp_path: Path) -> None:
    small = [annotation(rectangle((96, 128), 40, 40, 1, 1))]
    write_shard(tmp_path / "s.tar", {"1": (jpeg(0, (96, 128)), two_objects()), "2": (jpeg(1, (96, 128)), small)})
    problems: list[str] = []
    (first, second), _ = split_sources(
        [[str(tmp_path / "s.tar")], shard(tmp_path / "t.tar", ["3"])], 3, problems.append, [0.01]
    )
    assert (first.ids, second.ids) == (["1"], ["3"])
    (line,) = problems
    assert line.startswith("1 photos to train on have only masks too small for the model, such as 2: ")


def test_listed_photos_are_held_out_by_their_own_names() -> None:
    assert [name for name in NAMES if is_listed_held_out(f"folder/s.tar#deep/{name}.jpg")] == OUT

"""Which photos are held out, by their names alone, and how sources are split."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from stages.annotations.held_out import held_out_ids, is_held_out, listed_id, split_photos, split_sources
from tests.helpers.made_shard import annotation, jpeg, rectangle, two_objects, write_shard

NAMES = [str(number) for number in range(60)]
OUT = [name for name in NAMES if is_held_out(name)]


def shard(path: Path, names: list[str]) -> list[str]:
    return [str(write_shard(path, {name: (jpeg(0, (96, 128)), two_objects()) for name in names}))]


def test_each_source_is_split_by_names(tmp_path: Path) -> None:
    sources = [shard(tmp_path / "a.tar", NAMES), shard(tmp_path / "b.tar", OUT[:2]), shard(tmp_path / "c.tar", OUT[2:])]
    training, held_out = split_sources(sources, 100, pytest.fail)
    assert [photos.photos.ids for photos in training] == [[name for name in NAMES if name not in OUT], [], []]
    assert [photos.ids for photos in held_out] == [OUT, OUT[:2], OUT[2:]]
    _, few = split_sources(sources, 3, pytest.fail)
    assert sum(map(len, few)) == 3
    one, other = split_photos(sources[0], 100, pytest.fail)
    assert (one.photos.ids, other.ids) == (training[0].photos.ids, OUT)
    with pytest.raises(ValueError, match=r"no annotated photo to train on \(2 held out\)"):
        split_sources(sources[1:2], 3, pytest.fail)


def test_one_of_several_photos_is_held_out_where_none_is_by_its_id(tmp_path: Path) -> None:
    rest = [name for name in NAMES if name not in OUT][:5]
    closest = min(rest, key=lambda name: zlib.crc32(name.encode()))
    problems: list[str] = []
    training, held_out = split_photos(shard(tmp_path / "a.tar", rest), 3, problems.append)
    assert held_out.ids == [closest]
    assert sorted([*training.photos.ids, closest]) == sorted(rest)
    assert problems == [
        f"{closest}, to validate on: no id of 5 photos falls to the tenth that is held out, its is closest"
    ]
    alone, nothing = split_photos(shard(tmp_path / "b.tar", rest[:1]), 3, pytest.fail)
    assert (alone.photos.ids, len(nothing)) == (rest[:1], 0)
    assert held_out_ids(NAMES) == set(OUT)
    assert held_out_ids(rest) == {closest}
    assert held_out_ids([]) == set()


def test_photos_with_small_masks_alone_are_left_out_of_each_source(tmp_path: Path) -> None:
    small = [annotation(rectangle((96, 128), 40, 40, 1, 1))]
    write_shard(tmp_path / "s.tar", {"1": (jpeg(0, (96, 128)), two_objects()), "2": (jpeg(1, (96, 128)), small)})
    problems: list[str] = []
    (first, second), _ = split_sources(
        [[str(tmp_path / "s.tar")], shard(tmp_path / "t.tar", ["3", OUT[0]])], 3, problems.append, [0.01]
    )
    assert (first.photos.ids, second.photos.ids) == (["1"], ["3"])
    (line,) = problems
    assert line.startswith("1 photos to train on have only masks too small for the model, such as 2: ")


def test_listed_photos_have_their_own_names_for_ids() -> None:
    assert [listed_id(f"folder/s.tar#deep/{name}.jpg") for name in NAMES] == NAMES

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from segment_anything.modeling import Sam

from schemas.curation import SCHEMA
from stages.annotations.job import Done
from stages.annotations.samples import Source
from stages.curate import actor as curation_stage
from stages.curate.actor import DESCRIPTIONS, DescribePhotos, DescriptionRecipe
from stages.curate.choice import Keep, curate, usable_descriptions
from stages.curate.cover import bin_edges, cover_distances, cover_png
from stages.curate.sheet import sheet_png
from tests.helpers.made_scenes import made_scene
from tests.helpers.made_shard import annotation, jpeg, rectangle, two_objects, write_shard
from tests.helpers.photo_jobs import done_here
from tests.helpers.planted_copies import COPIES, encoded, planted_copy


@pytest.fixture
def describe(small_sam: Sam, monkeypatch: pytest.MonkeyPatch) -> DescribePhotos:
    """The stage with a model of random weights."""
    monkeypatch.setattr(curation_stage, "load_sam", lambda name, checkpoint: small_sam)
    return DescribePhotos(DescriptionRecipe(threads=1))


def _shards(folder: Path) -> list[str]:
    """Six made-up photos in two shards, and four copies of the first."""
    scenes = {f"s{seed}": made_scene(seed) for seed in range(6)}
    photos = {
        name: (encoded(scene.rgb), [{"segmentation": mask} for mask in scene.rles]) for name, scene in scenes.items()
    }
    copies = {}
    for kind in COPIES:
        file = planted_copy(scenes["s0"].rgb, kind)
        hw = np.asarray(Image.open(io.BytesIO(file))).shape[:2]
        copies[f"copy, {kind}"] = (file, [annotation(rectangle(hw, 10, 10, 40, 30))])
    return [str(write_shard(folder / "a.tar", photos)), str(write_shard(folder / "b.tar", copies))]


def _done(describe: DescribePhotos, shards: list[str]) -> Done:
    return done_here(describe, DESCRIPTIONS, [Source.of_shard(shard) for shard in shards])


def _tables(describe: DescribePhotos, shards: list[str]) -> list[pa.Table]:
    return _done(describe, shards).tables


def test_a_row_a_photo_and_a_line_for_what_is_wrong(describe: DescribePhotos, tmp_path: Path) -> None:
    hw = (96, 128)
    photos = {
        "good": (jpeg(0, hw), two_objects()),
        "half": (jpeg(1, hw), [{"segmentation": {"size": [96, 128], "counts": "!"}}, *two_objects()]),
        "bare": (jpeg(2, hw), []),
        "no-photo": (b"text", two_objects()),
        "alone": (jpeg(3, hw), None),
    }
    done = _done(describe, [str(write_shard(tmp_path / "s.tar", photos))])
    descriptions, repeated = usable_descriptions(done.tables)
    problems = done.problems
    assert repeated == []
    assert done.failed == 3
    assert descriptions.column("image_id").to_pylist() == ["good", "half"]
    assert descriptions.column("masks").to_pylist() == [2, 2]
    assert len(problems) == 4
    for said in ("bare: no annotated", "half: annotation 0: Value", "no-photo: not_an_image", "alone: photo without"):
        assert any(said in problem for problem in problems)


def test_of_two_photos_of_one_name_the_first_is_used(describe: DescribePhotos, tmp_path: Path) -> None:
    shards = [
        write_shard(tmp_path / f"{name}.tar", {"x": (jpeg(seed, (96, 128)), two_objects())})
        for seed, name in enumerate("ab")
    ]
    descriptions, problems = usable_descriptions(_tables(describe, [str(shard) for shard in shards[::-1]]))
    assert [Path(shard).name for shard in descriptions.column("shard").to_pylist()] == ["a.tar"]
    assert "another photo has this name" in problems[0]


def test_copies_are_out_and_every_photo_has_a_row(describe: DescribePhotos, tmp_path: Path) -> None:
    descriptions, _ = usable_descriptions(_tables(describe, _shards(tmp_path)))
    table = curate(descriptions, Keep(images=4), seed=0)
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table.num_rows == 10
    rows = {row["image_id"]: row for row in table.to_pylist()}
    for kind in COPIES:
        assert (rows[f"copy, {kind}"]["reason"], rows[f"copy, {kind}"]["duplicate_of"]) == ("duplicate", "s0")
    chosen = [row for row in rows.values() if row["chosen"]]
    assert sorted(row["order"] for row in chosen) == [0, 1, 2, 3]
    assert [row["order"] for row in chosen if row["distance"] is None] == [0]
    left = [row for row in rows.values() if row["reason"] == "not_needed"]
    assert len(left) == 2
    assert all(row["distance"] > 0 and row["order"] is None for row in left)


def test_the_choice_does_not_depend_on_the_order_of_shards(describe: DescribePhotos, tmp_path: Path) -> None:
    shards = _shards(tmp_path)
    tables, back_to_front = _tables(describe, shards), _tables(describe, shards[::-1])
    forth, back = (curate(usable_descriptions(some)[0], Keep(share=0.4), seed=1) for some in (tables, back_to_front))
    assert forth.equals(back)
    assert sum(forth.column("chosen").to_pylist()) == 4


@pytest.mark.parametrize(("text", "photos"), [("500", 60), ("0.5", 50), ("1.0", 60), ("0.001", 1), ("7", 7)])
def test_how_many_are_kept(text: str, photos: int) -> None:
    assert Keep.parse(text).of(usable=100, different=60) == photos


@pytest.mark.parametrize("text", ["0", "0.0", "1.5", "-3", "nan", "third"])
def test_a_keep_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"--keep {text}: neither a whole number"):
        Keep.parse(text)


def test_pictures_are_made(describe: DescribePhotos, tmp_path: Path) -> None:
    descriptions, _ = usable_descriptions(_tables(describe, _shards(tmp_path)))
    table = curate(descriptions, Keep(images=3), seed=0)
    ours, random = cover_distances(descriptions, table.column("chosen").to_numpy(), seed=0)
    assert (np.sort(ours)[:3] < 0.05).all()
    for picture in (cover_png(table, ours, random), sheet_png(descriptions, table)):
        shown = np.asarray(Image.open(io.BytesIO(picture)))
        assert shown.shape[2] == 3
        assert len(np.unique(shown)) > 50


def test_pictures_of_a_single_photo(describe: DescribePhotos, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"x": (jpeg(0, (96, 128)), two_objects())})
    descriptions, _ = usable_descriptions(_tables(describe, [str(shard)]))
    table = curate(descriptions, Keep(share=1.0), seed=0)
    assert cover_png(table, *cover_distances(descriptions, table.column("chosen").to_numpy(), seed=0))
    assert sheet_png(descriptions, table)


def test_bins_are_round_and_reach_all_but_outliers() -> None:
    edges = bin_edges(np.array([3.0, *range(3, 90), 5000.0]))
    assert edges[0] <= 3
    assert 85 < edges[-1] < 200
    assert len(edges) <= 22
    np.testing.assert_allclose(np.diff(edges), 5)


def test_looks_are_small(describe: DescribePhotos, tmp_path: Path) -> None:
    tables = _tables(describe, _shards(tmp_path)[:1])
    assert pa.concat_tables(tables).schema.equals(DESCRIPTIONS)
    assert pa.concat_tables(tables).nbytes / 6 < 20_000

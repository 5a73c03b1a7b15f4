"""The job of prompt maps: from shards to files and a line for what is left out."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aopsam.sam.encode import encode
from aopsam.sam.registry import load_sam
from stages.annotations.each_photo import Account
from stages.annotations.samples import ReadSamples, Source
from stages.engine.resources import Resources
from stages.prompt_maps.plan import plan_maps
from stages.prompt_maps.recipe import MapRecipe
from stages.prompt_maps.rows import MIRRORED, PromptMapRows
from stages.prompt_maps.run import prepare_maps
from stages.prompt_maps.sheet import contact_sheet
from tests.helpers.made_maps import TOY, write_maps
from tests.helpers.made_shard import annotation, jpeg, rectangle, two_objects, write_shard


def _square(left: int, top: int, side: int, image: int = 256) -> dict:
    return annotation(rectangle((image, image), top, left, side, side), (left + 1, top + 1))


def _lines(given: list[Account]) -> list[str]:
    return [line for account in given for outcome in account.outcomes for line in outcome.lines()]


def test_a_shard_becomes_rows_and_a_line_for_what_is_left_out(tmp_path: Path, toy_sam: Path) -> None:
    hw = (96, 128)
    good = [annotation(rectangle(hw, 10, 20, 31, 21))]
    photos = {
        "a": (jpeg(0, hw), good),
        "b": (jpeg(1, hw), good),
        "wrong-size": (jpeg(2, hw), [_square(1, 1, 5, image=50)]),
        "bare": (jpeg(3, hw), []),
        "no-photo": (b"text", good),
        "alone": (jpeg(4, hw), None),
    }
    shard = write_shard(tmp_path / "000000.tar", photos)
    given = write_maps(tmp_path / "maps", shard, MapRecipe(sam="toy", mirror=True, weight=3, threads=1))
    assert [(account.photos, account.failed, account.in_part) for account in given] == [(5, 3, True), (1, 1, False)]
    lines = _lines(given)
    named = [problem.removeprefix(f"{shard}: ").split(":")[0] for problem in lines[:4]]
    assert named == ["wrong-size", "wrong-size", "bare", "no-photo"]
    assert "photo without its JSON" in lines[4]

    rows = PromptMapRows([str(tmp_path / "maps")])
    assert rows.image_ids == ["a", f"a{MIRRORED}", "b", f"b{MIRRORED}"]
    assert (rows.sam, rows.sam_sha256) == ("toy", load_sam("toy").sha256)
    plain, mirrored = rows[0], rows[1]
    assert plain["embedding"].shape == (256, 8, 8)
    assert plain["weight"] == mirrored["weight"] == 3
    _, columns = plain["content_hw"]
    for name in ("image", "map", "valid"):
        np.testing.assert_array_equal(mirrored[name][:, :columns], plain[name][:, :columns][:, ::-1], err_msg=name)
    (boxes, masks), (other_boxes, other_masks) = rows.objects(0), rows.objects(1)
    assert boxes.tolist() == [[40.0, 20.0, 82.0, 82.0]]
    assert other_boxes.tolist() == [[256 - 82.0, 20.0, 256 - 40.0, 82.0]]
    np.testing.assert_array_equal(other_masks[0], masks[0][:, ::-1])
    # The embedding of the mirrored photo, not the mirrored embedding.
    photo = np.asarray(Image.open(io.BytesIO(photos["a"][0])))
    expected = encode(load_sam("toy"), np.ascontiguousarray(photo[:, ::-1])).embedding[0]
    np.testing.assert_array_equal(mirrored["embedding"], expected.half().numpy())
    assert Image.open(io.BytesIO(contact_sheet(rows))).size == (4 * 256, 256)


@pytest.mark.usefixtures("toy_sam")
def test_a_shard_that_records_points_is_learnt_from_at_those_points(tmp_path: Path) -> None:
    mask = rectangle((96, 128), 10, 20, 21, 21)
    photos = {
        "bare": (jpeg(0, (96, 128)), [annotation(mask)]),
        "told": (jpeg(0, (96, 128)), [annotation(mask, (22, 12))]),
    }
    shard = write_shard(tmp_path / "s.tar", photos)
    write_maps(tmp_path / "maps", shard, TOY)
    rows = PromptMapRows([str(tmp_path / "maps")])
    peaks = [np.unravel_index(rows[index]["map"].argmax(), (256, 256)) for index in range(2)]
    assert peaks == [(40, 60), (24, 44)]  # rows and columns, at twice the size of the photo: its middle; (12, 22)
    (file,) = (tmp_path / "maps").glob("*.parquet")
    assert pq.read_table(file)["source"].to_pylist() == ["interior", "recorded"]


@pytest.mark.usefixtures("toy_sam")
def test_of_damaged_shards_everything_readable_is_used(tmp_path: Path) -> None:
    good, broken = two_objects(), [*two_objects(), {"segmentation": {"size": [96, 128], "counts": "!"}}]
    photos = {name: (jpeg(seed, (96, 128)), good) for seed, name in enumerate("abcd")}
    cut = write_shard(tmp_path / "cut.tar", photos)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: whole.index(b"./c.json") + 600])  # inside the JSON
    zipped = tmp_path / "zipped.tar"
    write_shard(zipped, {f"z{name}": photo for name, photo in photos.items()})
    zipped.write_bytes(gzip.compress(zipped.read_bytes()))
    mixed = {"rle": (jpeg(5, (96, 128)), broken), "none": (b"no JPEG", good), "alone": (jpeg(6, (96, 128)), None)}
    shards = [str(cut), str(zipped), str(write_shard(tmp_path / "mixed.tar", mixed))]
    given = [account for shard in shards for account in write_maps(tmp_path / "maps", Path(shard), TOY)]
    rows = PromptMapRows([str(tmp_path / "maps")])
    assert rows.image_ids == ["a", "b", "rle", "za", "zb", "zc", "zd"]
    assert len(rows.objects(2)[0]) == 2
    expected = [
        "cut.tar: cut short at byte",
        "cut.tar: c: photo without its JSON",
        "mixed.tar: rle: annotation 2: ValueError: RLE counts",
        "mixed.tar: none: not_an_image",
        "mixed.tar: alone: photo without its JSON",
    ]
    assert all(part in line for part, line in zip(expected, _lines(given), strict=True))


@pytest.mark.usefixtures("toy_sam")
def test_photos_of_two_shards_may_have_the_same_name(tmp_path: Path) -> None:
    for shard in range(2):
        path = write_shard(tmp_path / f"{shard}.tar", {"000000": (jpeg(shard, (96, 128)), two_objects())})
        write_maps(tmp_path / "maps", path, TOY)
    rows = PromptMapRows([str(tmp_path / "maps")])
    assert rows.image_ids == ["000000", "000000"]
    assert (rows[0]["image"] != rows[1]["image"]).any()


def test_only_the_chosen_photos_are_read(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {name: (jpeg(0, (96, 128)), two_objects()) for name in "abc"})
    curation = tmp_path / "curation.parquet"
    pq.write_table(pa.table({"image_id": ["a", "b", "c"], "chosen": [True, False, True]}), curation)
    (samples,) = ReadSamples(16, only=str(curation))(Source.of_shard(str(shard)).unit())
    assert samples.column("image_id").to_pylist() == ["a", "c"]


@pytest.mark.parametrize("columns", [{"image_id": ["a"]}, {"image_id": ["a"], "chosen": [False]}])
def test_a_curation_that_chooses_nothing_is_named(tmp_path: Path, columns: dict) -> None:
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet"):
        ReadSamples(16, only=str(tmp_path / "c.parquet")).chosen()


@pytest.mark.usefixtures("toy_sam")
def test_a_plan_counts_photos_and_bytes_and_writes_nothing(tmp_path: Path) -> None:
    for shard in range(3):
        photos = {f"{shard}-{n}": (jpeg(n, (96, 128)), two_objects()) for n in range(20)}
        write_shard(tmp_path / f"{shard}.tar", photos)
    before = sorted(tmp_path.iterdir())
    recipe = MapRecipe(sam="toy", mirror=True, threads=1)
    job = prepare_maps([str(tmp_path / "*.tar")], None, None, recipe, str(tmp_path / "maps"))
    plan = plan_maps(job, recipe, Resources(actors=2, threads=1, device="cpu"))
    assert plan is not None
    assert plan.photos == pytest.approx(60, rel=0.1)
    assert (plan.measured, plan.rows_photo, plan.embedding_bytes) == (16, 2, 256 * 8 * 8 * 2)
    write_maps(tmp_path / "maps", tmp_path / "0.tar", recipe)
    written = sorted((tmp_path / "maps").iterdir())[0]
    assert plan.row_bytes == pytest.approx(written.stat().st_size / 32, rel=0.05)
    assert "estimated: 0.00 GB of tars" in str(plan)
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "maps"])

"""Rows of folders of prompt maps: split, read, found by an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from aopsam.sam.model import assemble
from stages.prompt_maps import files
from stages.prompt_maps.files import write_index
from stages.prompt_maps.recipe import MapRecipe
from stages.prompt_maps.rows import MIRRORED, PromptMapRows
from tests.helpers.made_maps import TOY, write_maps
from tests.helpers.made_shard import ToyEncoder, annotation, jpeg, rectangle, two_objects, write_shard


@pytest.mark.usefixtures("toy_sam")
def test_a_photo_and_its_mirror_image_are_held_out_together(tmp_path: Path) -> None:
    photo = (jpeg(0, (96, 128)), [annotation(rectangle((96, 128), 2, 2, 8, 8))])
    shard = write_shard(tmp_path / "s.tar", {str(number): photo for number in range(12)})
    write_maps(tmp_path / "maps", shard, MapRecipe(sam="toy", mirror=True, threads=1))
    training, held_out = PromptMapRows([str(tmp_path / "maps")]).split()
    assert len(training) + len(held_out) == 24
    assert 0 < len(held_out) < 24
    photos = [{name.removesuffix(MIRRORED) for name in part.image_ids} for part in (training, held_out)]
    assert not photos[0] & photos[1]


def test_maps_of_two_models_are_refused(tmp_path: Path, toy_sam: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(0, (96, 128)), [annotation(rectangle((96, 128), 2, 2, 8, 8))])})
    write_maps(tmp_path / "one", shard, TOY)
    save_file(assemble(ToyEncoder()).state_dict(), toy_sam)
    write_maps(tmp_path / "two", shard, TOY)
    with pytest.raises(ValueError, match="more than one SAM"):
        PromptMapRows([str(tmp_path / "one"), str(tmp_path / "two")])


@pytest.fixture
def two_rows(tmp_path: Path, toy_sam: Path) -> str:
    photos = {name: (jpeg(seed, (96, 128)), two_objects()) for seed, name in enumerate("ab")}
    write_maps(tmp_path / "maps", write_shard(tmp_path / "s.tar", photos), TOY)
    return str(tmp_path / "maps")


class _Dataset(Dataset[dict]):
    def __init__(self, rows: PromptMapRows) -> None:
        self.rows = rows

    def __getitem__(self, index: int) -> dict:
        return self.rows[index] | {"boxes": self.rows.objects(index)[0]}


def test_rows_can_be_read_by_forked_workers(two_rows: str) -> None:
    rows = PromptMapRows([two_rows])
    expected = [_Dataset(rows)[index] for index in (0, 1)]  # the file is open here before the fork
    loader = DataLoader(_Dataset(rows), batch_size=None, sampler=[0, 1] * 4, num_workers=2)
    for place, row in enumerate(loader):
        for name, value in row.items():
            np.testing.assert_array_equal(value, expected[place % 2][name], err_msg=name)


def test_rows_of_a_store_and_of_sixteen_a_group_are_the_same(two_rows: str) -> None:
    (file,) = Path(two_rows).glob("*.parquet")
    table = pq.read_table(file)
    filesystem = fsspec.filesystem("memory")
    with filesystem.open("/maps/all.parquet", "wb") as opened:
        pq.write_table(table, opened, compression="zstd")
    stored, local = PromptMapRows(["memory://maps"]), PromptMapRows([two_rows])
    assert (stored.image_ids, stored.sam_sha256) == (local.image_ids, local.sam_sha256)
    for index in (0, 1):
        for name, value in local[index].items():
            np.testing.assert_array_equal(stored[index][name], value, err_msg=name)
        np.testing.assert_array_equal(stored.objects(index)[1], local.objects(index)[1])


def _ids(*folders: Path) -> tuple[list[str], np.ndarray]:
    rows = PromptMapRows([str(folder) for folder in folders])
    return rows.image_ids, rows._places


@pytest.fixture
def three_files(tmp_path: Path, toy_sam: Path) -> Path:
    """A folder of three files, of four photos and their mirror images, and its index."""
    for shard, names in enumerate(("ab", "c", "d")):
        photos = {name: (jpeg(ord(name), (96, 128)), two_objects()) for name in names}
        path = write_shard(tmp_path / f"{shard}.tar", photos)
        write_maps(tmp_path / "maps", path, MapRecipe(sam="toy", mirror=True, threads=1))
    write_index(str(tmp_path / "maps"))
    return tmp_path / "maps"


def test_an_index_gives_the_rows_that_the_files_give_and_opens_none(
    three_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_read_footer", lambda uri, size: pytest.fail(uri))
    ids, places = _ids(three_files)
    assert ids == [f"{name}{end}" for name in "abcd" for end in ("", MIRRORED)]
    write_index(str(three_files))
    monkeypatch.undo()
    (three_files / files.INDEX).unlink()
    for of_index, of_footers in zip((ids, places), _ids(three_files), strict=True):
        np.testing.assert_array_equal(of_index, of_footers)


def test_files_that_an_index_does_not_tell_of_are_opened(three_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = files._read_footer
    monkeypatch.setattr(
        files, "_read_footer", lambda uri, size: (opened.append(uri.rpartition("/")[2]), read(uri, size))[1]
    )
    paths = {PromptMapRows([str(path.parent)])._uris.index(str(path)): path for path in three_files.glob("*.parquet")}
    by_name = {tuple(pq.read_table(path, columns=["image_id"]).column(0).to_pylist()): path for path in paths.values()}
    _, two, gone = (by_name[names] for names in sorted(by_name))
    gone.unlink()
    pq.write_table(pq.read_table(two).slice(1), two)  # of another size
    pq.write_table(pq.read_table(two), three_files / "added.parquet")  # two in a row group
    assert _ids(three_files)[0] == ["a", f"a{MIRRORED}", "b", f"b{MIRRORED}", f"c{MIRRORED}", f"c{MIRRORED}"]
    assert sorted(opened) == sorted(["added.parquet", two.name])
    write_index(str(three_files))
    opened.clear()
    assert len(_ids(three_files)[0]) == 6
    assert opened == []
    (three_files / files.INDEX).write_bytes(b"PAR1")
    assert len(_ids(three_files)[0]) == 6


def test_a_store_is_asked_for_names_the_index_and_the_row(
    three_files: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystem, path = fsspec.core.url_to_fs(bucket)
    filesystem.put(f"{three_files}/", f"{path}/maps", recursive=True)
    asked: list[str] = []
    call = type(filesystem)._call_s3

    async def noted(self: Any, method: str, *given: Any, **named: Any) -> Any:
        asked.append(f"{method} {named.get('Key') or given}")
        return await call(self, method, *given, **named)

    monkeypatch.setattr(type(filesystem), "_call_s3", noted)
    rows = PromptMapRows([f"{bucket}/maps"])
    objects = [line.split()[1] for line in asked if "_object " in line]
    assert objects == [f"maps/{files.INDEX}"] * 2  # once for its size
    asked.clear()
    local = PromptMapRows([str(three_files)])
    for name, value in local[5].items():
        np.testing.assert_array_equal(rows[5][name], value, err_msg=name)
    assert len(asked) <= 2
    assert all(line.startswith("get_object maps/part-") for line in asked)


def test_of_many_held_out_rows_some_are_judged_by(three_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.prompt_maps.rows.is_held_out", lambda name: name in "abc")
    monkeypatch.setattr("stages.prompt_maps.rows.HELD_OUT_ROWS", 3)
    training, held_out = PromptMapRows([str(three_files)]).split()
    assert training.image_ids == ["d", f"d{MIRRORED}"]
    assert held_out.image_ids == ["a", "b", f"c{MIRRORED}"]


def test_maps_of_version_1_train_but_hold_no_objects(two_rows: str) -> None:
    (file,) = Path(two_rows).glob("*.parquet")
    pq.write_table(pq.read_table(file).drop_columns(["boxes", "masks"]), file)
    rows = PromptMapRows([two_rows])
    assert rows[1]["embedding"].shape == (256, 8, 8)
    with pytest.raises(ValueError, match="version 1, without objects; build them again"):
        rows.objects(1)


def test_a_file_that_holds_no_maps_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"x\.parquet: not prompt maps"):
        PromptMapRows([str(tmp_path)])


def test_a_folder_without_maps_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="build_prompt_maps"):
        PromptMapRows([str(tmp_path)])

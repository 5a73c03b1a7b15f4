from __future__ import annotations

import gzip
import io
import re
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from aopsam.predictor.frame import content_hw
from aopsam.sam.decoders.sam2 import SAM2_MODELS
from aopsam.sam.encode import encode
from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, ModelSpec, load_sam
from schemas.prompt_maps import SCHEMA
from stages.annotations.each_photo import Account, EachPhoto, WritePart, accounts
from stages.annotations.samples import ReadSamples, Source
from stages.engine.resources import Resources
from stages.prompt_maps import files
from stages.prompt_maps.actor import BuildPromptMaps, MapRecipe, load_padding_sam
from stages.prompt_maps.files import HOW, write_index
from stages.prompt_maps.plan import plan_maps
from stages.prompt_maps.rows import MIRRORED, PromptMapRows
from stages.prompt_maps.run import prepare_maps
from stages.prompt_maps.sheet import contact_sheet
from stages.prompt_maps.target import MARGIN, PhotoTarget, photo_target
from tests.helpers.made_shard import ToyEncoder, annotation, jpeg, rectangle, two_objects, write_shard

TOY = MapRecipe(sam="toy", threads=1)


@pytest.fixture
def toy_sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SAM named `toy` of random weights, in the registry; returns their file."""
    torch.manual_seed(0)
    weights = tmp_path / "toy.safetensors"
    save_file(assemble(ToyEncoder()).state_dict(), weights)
    monkeypatch.setitem(MODELS, "toy", ModelSpec(lambda: assemble(ToyEncoder()), weights, terms="none"))
    return weights


def _square(left: int, top: int, side: int, image: int = 256) -> dict:
    return annotation(rectangle((image, image), top, left, side, side), (left + 1, top + 1))


def _peak_xy(target: np.ndarray) -> tuple[int, int]:
    y, x = np.unravel_index(target.argmax(), target.shape)
    return int(x), int(y)


def _target(annotations: list[dict], image_hw: tuple[int, int], **arguments: Any) -> PhotoTarget:
    return photo_target(annotations, image_hw, pytest.fail, **arguments)


def _write_maps(folder: Path, shard: Path, recipe: MapRecipe, only: str | None = None) -> list[Account]:
    """Write the maps of a shard as a run does; return what it says of them."""
    stage, write = EachPhoto(partial(BuildPromptMaps, recipe), SCHEMA), WritePart(str(folder), SCHEMA, HOW)
    units = ReadSamples(16, only=only)(Source.of_shard(str(shard)).unit())
    return [account for samples in units for account in accounts(write(stage(samples)))]


def _lines(given: list[Account]) -> list[str]:
    return [line for account in given for outcome in account.outcomes for line in outcome.lines()]


def test_interior_is_the_middle_and_recorded_what_the_annotation_says() -> None:
    annotations = [_square(100, 40, 21)]
    assert _peak_xy(_target(annotations, (256, 256)).map) == (110, 50)
    assert _peak_xy(_target(annotations, (256, 256), source="recorded").map) == (101, 41)


def test_exhaustive_annotation_is_valid_all_over_the_photo_and_not_in_the_padding() -> None:
    valid = _target([annotation(rectangle((100, 200), 40, 100, 21, 21))], (100, 200)).valid
    rows, columns = content_hw((100, 200))
    assert valid[:rows, :columns].all()
    assert not valid[rows:].any()


def test_sparse_annotation_is_valid_near_its_masks_alone() -> None:
    valid = _target([_square(100, 100, 20)], (256, 256), sparse=True).valid
    assert valid[110, 110] == 1
    assert valid[110, 100 - MARGIN] == 1
    assert valid[110, 100 - MARGIN - 1] == 0


def test_several_annotators_of_one_thing_give_one_peak() -> None:
    twice = [_square(100, 40, 21), _square(101, 41, 22)]
    np.testing.assert_array_equal(_target(twice, (256, 256)).map, _target(twice[:1], (256, 256)).map)


def test_a_weight_is_the_height_of_its_peak() -> None:
    weak = _square(40, 100, 21) | {"weight": 0.25}
    target = _target([_square(150, 100, 21), weak], (256, 256)).map
    assert target[110, 160] == 1
    assert target[110, 50] == 0.25


def test_objects_lie_where_the_frame_shows_them_and_repeats_once() -> None:
    masks = [rectangle((100, 200), 40, 100, 21, 20), rectangle((100, 200), 40, 100, 21, 21)]
    whole = rectangle((100, 200), 0, 0, 100, 200)
    objects = _target([annotation(mask) for mask in (*masks, whole)], (100, 200)).objects
    scale = 256 / 200
    expected = [[100, 40, 120, 61], [0, 0, 200, 100]]
    np.testing.assert_allclose(objects.boxes_xyxy_px, np.array(expected) * scale, rtol=1e-6)
    assert objects.masks[1].sum() == 128 * 256
    ys, xs = objects.masks[0].nonzero()
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (128, 51, 154, 78)


def test_an_object_between_the_pixels_of_the_frame_keeps_one() -> None:
    objects = _target([annotation(rectangle((1024, 1024), 512, 512, 1, 1))], (1024, 1024)).objects
    assert np.argwhere(objects.masks[0]).tolist() == [[128, 128]]


@pytest.mark.parametrize(
    ("broken", "arguments", "line"),
    [
        (_square(1, 1, 2, image=9), {}, r"annotation 1: ValueError: mask of \(9, 9\)"),
        ({"segmentation": {"size": [256, 256], "counts": "!"}}, {}, "annotation 1: ValueError: RLE counts"),
        ({"area": 3}, {}, "annotation 1: KeyError: 'segmentation'"),
        (_square(1, 1, 2) | {"point_coords": []}, {"source": "recorded"}, "annotation 1: IndexError"),
        (_square(1, 1, 2) | {"point_coords": [[256, 3]]}, {"source": "recorded"}, "annotation 1: .* outside the photo"),
        (_square(1, 1, 2) | {"weight": float("nan")}, {}, "annotation 1: .* weight nan"),
    ],
)
def test_a_broken_annotation_is_named_and_costs_itself(broken: dict, arguments: dict, line: str) -> None:
    problems: list[str] = []
    target = photo_target([_square(100, 40, 21), broken], (256, 256), problems.append, **arguments)
    np.testing.assert_array_equal(target.map, _target([_square(100, 40, 21)], (256, 256), **arguments).map)
    (problem,) = problems
    assert re.match(line, problem)


def test_no_mask_and_an_unknown_kernel_are_errors() -> None:
    with pytest.raises(ValueError, match="no annotated mask"):
        _target([], (256, 256))
    with pytest.raises(ValueError, match="unknown preset 'huge'; the names are sharp"):
        _target([_square(1, 1, 2)], (256, 256), preset="huge")


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
    given = _write_maps(tmp_path / "maps", shard, MapRecipe(sam="toy", mirror=True, weight=3, threads=1))
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
    given = [account for shard in shards for account in _write_maps(tmp_path / "maps", Path(shard), TOY)]
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
        _write_maps(tmp_path / "maps", path, TOY)
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
    _write_maps(tmp_path / "maps", tmp_path / "0.tar", recipe)
    written = sorted((tmp_path / "maps").iterdir())[0]
    assert plan.row_bytes == pytest.approx(written.stat().st_size / 32, rel=0.05)
    assert "estimated: 0.00 GB of tars" in str(plan)
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "maps"])


@pytest.mark.usefixtures("toy_sam")
def test_a_photo_and_its_mirror_image_are_held_out_together(tmp_path: Path) -> None:
    photo = (jpeg(0, (96, 128)), [annotation(rectangle((96, 128), 2, 2, 8, 8))])
    shard = write_shard(tmp_path / "s.tar", {str(number): photo for number in range(12)})
    _write_maps(tmp_path / "maps", shard, MapRecipe(sam="toy", mirror=True, threads=1))
    training, held_out = PromptMapRows([str(tmp_path / "maps")]).split()
    assert len(training) + len(held_out) == 24
    assert 0 < len(held_out) < 24
    photos = [{name.removesuffix(MIRRORED) for name in part.image_ids} for part in (training, held_out)]
    assert not photos[0] & photos[1]


def test_maps_of_two_models_are_refused(tmp_path: Path, toy_sam: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(0, (96, 128)), [annotation(rectangle((96, 128), 2, 2, 8, 8))])})
    _write_maps(tmp_path / "one", shard, TOY)
    save_file(assemble(ToyEncoder()).state_dict(), toy_sam)
    _write_maps(tmp_path / "two", shard, TOY)
    with pytest.raises(ValueError, match="more than one SAM"):
        PromptMapRows([str(tmp_path / "one"), str(tmp_path / "two")])


@pytest.fixture
def two_rows(tmp_path: Path, toy_sam: Path) -> str:
    photos = {name: (jpeg(seed, (96, 128)), two_objects()) for seed, name in enumerate("ab")}
    _write_maps(tmp_path / "maps", write_shard(tmp_path / "s.tar", photos), TOY)
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
        _write_maps(tmp_path / "maps", path, MapRecipe(sam="toy", mirror=True, threads=1))
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


def test_a_sam_that_stretches_photos_is_refused(tmp_path: Path) -> None:
    model = SAM2_MODELS["hiera_t"](img_size=64)
    save_file(model.state_dict(), tmp_path / "sam2.safetensors")
    with pytest.raises(ValueError, match="sam2_hiera_t stretches photos, the frame of a prompt map is padded"):
        load_padding_sam("sam2_hiera_t", str(tmp_path / "sam2.safetensors"))

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from aopsam.predictor.frame import content_hw
from aopsam.sam.encode import encode
from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, ModelSpec, load_sam
from stages.prompt_map_rows import MIRRORED, PromptMapRows, contact_sheet
from stages.prompt_map_target import MARGIN, target_and_valid
from stages.prompt_maps import BuildPromptMaps, MapRecipe, read_samples
from tests.made_shard import ToyEncoder, annotation, jpeg, rectangle, write_shard

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


def _write_maps(folder: Path, shard: Path, recipe: MapRecipe) -> None:
    for samples in read_samples(pa.table({"shard": [str(shard)]})):
        BuildPromptMaps(recipe, str(folder))(samples)


def test_interior_is_the_middle_and_recorded_what_the_annotation_says() -> None:
    annotations = [_square(100, 40, 21)]
    assert _peak_xy(target_and_valid(annotations, (256, 256))[0]) == (110, 50)
    assert _peak_xy(target_and_valid(annotations, (256, 256), source="recorded")[0]) == (101, 41)


def test_exhaustive_annotation_is_valid_all_over_the_photo_and_not_in_the_padding() -> None:
    _, valid = target_and_valid([annotation(rectangle((100, 200), 40, 100, 21, 21))], (100, 200))
    rows, columns = content_hw((100, 200))
    assert valid[:rows, :columns].all()
    assert not valid[rows:].any()


def test_sparse_annotation_is_valid_near_its_masks_alone() -> None:
    _, valid = target_and_valid([_square(100, 100, 20)], (256, 256), sparse=True)
    assert valid[110, 110] == 1
    assert valid[110, 100 - MARGIN] == 1
    assert valid[110, 100 - MARGIN - 1] == 0


def test_several_annotators_of_one_thing_give_one_peak() -> None:
    twice = [_square(100, 40, 21), _square(101, 41, 22)]
    np.testing.assert_array_equal(target_and_valid(twice, (256, 256))[0], target_and_valid(twice[:1], (256, 256))[0])


@pytest.mark.parametrize(
    ("annotations", "arguments", "message"),
    [
        ([], {}, "no annotated mask"),
        ([_square(1, 1, 2, image=9)], {}, r"annotation 0: mask of \(9, 9\)"),
        ([{"segmentation": {"size": [256, 256], "counts": "!"}}], {}, "annotation 0: ValueError: RLE counts"),
        ([{"area": 3}], {}, "annotation 0: KeyError: 'segmentation'"),
        ([_square(1, 1, 2) | {"point_coords": []}], {"source": "recorded"}, "annotation 0: Index"),
        ([_square(1, 1, 2)], {"preset": "huge"}, "unknown preset 'huge'; the names are sharp"),
    ],
)
def test_bad_annotations_are_named(annotations: list, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target_and_valid(annotations, (256, 256), **arguments)


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
    (samples,) = read_samples(pa.table({"shard": [str(shard)]}))
    stage = BuildPromptMaps(MapRecipe(sam="toy", mirror=True, threads=1), str(tmp_path / "maps"))
    account = stage(samples).to_pylist()[0]
    assert account["rows"] == 4
    assert [problem.split(":")[0] for problem in account["problems"][:3]] == ["wrong-size", "bare", "no-photo"]
    assert "photo without its JSON" in account["problems"][3]

    rows = PromptMapRows([str(tmp_path / "maps")])
    assert rows.image_ids == ["a", f"a{MIRRORED}", "b", f"b{MIRRORED}"]
    assert (rows.sam, rows.sam_sha256) == ("toy", stage.model.sha256)
    plain, mirrored = rows[0], rows[1]
    assert plain["embedding"].shape == (256, 8, 8)
    _, columns = plain["content_hw"]
    for name in ("image", "map", "valid"):
        np.testing.assert_array_equal(mirrored[name][:, :columns], plain[name][:, :columns][:, ::-1], err_msg=name)
    # The embedding of the mirrored photo, not the mirrored embedding.
    photo = np.asarray(Image.open(io.BytesIO(photos["a"][0])))
    expected = encode(load_sam("toy"), np.ascontiguousarray(photo[:, ::-1])).embedding[0]
    np.testing.assert_array_equal(mirrored["embedding"], expected.half().numpy())
    assert Image.open(io.BytesIO(contact_sheet(rows))).size == (4 * 256, 256)


def test_a_torn_shard_is_a_problem_and_no_end(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(0, (96, 128)), [])})
    shard.write_bytes(shard.read_bytes()[:900])
    (samples,) = read_samples(pa.table({"shard": [str(shard)]}))
    assert samples.column("problem")[-1].as_py()


@pytest.mark.usefixtures("toy_sam")
def test_a_photo_and_its_mirror_image_are_held_out_together(tmp_path: Path) -> None:
    photo = (jpeg(0, (96, 128)), [annotation(rectangle((96, 128), 2, 2, 8, 8))])
    shard = write_shard(tmp_path / "s.tar", {str(number): photo for number in range(12)})
    _write_maps(tmp_path / "maps", shard, MapRecipe(sam="toy", mirror=True, threads=1))
    training, held_out = PromptMapRows([str(tmp_path / "maps")]).split(3)
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


def test_a_folder_without_maps_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="build_prompt_maps"):
        PromptMapRows([str(tmp_path)])

"""From a shard to a model that loads by name; the same command again goes on from the last checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import aopsam
from aopsam.sam.registry import load_sam
from aopsam.training.sam_recipe import SamRecipe
from pipelines import train_sam
from stages.train.sam import SamJob, sam_task
from tests.helpers.made_shard import annotation, jpeg, rectangle, two_objects, write_shard

WEIGHTS = Path(aopsam.__file__).parent / "weights" / "tiny.safetensors"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_from_a_shard_to_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = [*two_objects(), {"area": 3}]
    shard = write_shard(tmp_path / "s.tar", {"one": (jpeg(1, (96, 128)), broken), "none": (b"", two_objects())})
    command = ["--data", str(shard), "--out", str(tmp_path / "out"), "--steps", "2", "--windows", "1", "--threads", "1"]
    command += ["--start", str(WEIGHTS)]
    assert train_sam.main(command) == 0
    printed = capsys.readouterr().err
    assert "left out: one: annotation 2: " in printed
    assert "left out: none: not a photo: " in printed
    assert "1 photos to train on, 2 photos or masks left out" in printed
    path = tmp_path / "out" / "tiny.safetensors"
    first = load_sam("tiny", checkpoint=path)
    assert 0 <= first.thresholds.stability_score_thresh <= 1
    path.unlink()
    assert train_sam.main(command) == 0
    again = load_sam("tiny", checkpoint=path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.state_dict().items())


def test_wrong_arguments_end_before_ray_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_sam.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert "no shard" in capsys.readouterr().err
    write_shard(tmp_path / "s.tar", {"bare": (jpeg(9, (96, 128)), [])})
    assert train_sam.main(["--data", str(tmp_path / "s.tar"), "--out", str(tmp_path)]) == 2
    assert "no annotated photo" in capsys.readouterr().err
    write_shard(tmp_path / "s.tar", {"one": (jpeg(9, (96, 128)), two_objects())})
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    junk = ["--start", str(tmp_path / "junk.safetensors")]
    assert train_sam.main(["--data", str(tmp_path / "s.tar"), "--out", str(tmp_path / "out"), *junk]) == 2
    assert "junk.safetensors" in capsys.readouterr().err
    assert train_sam.main(["--data", str(tmp_path / "s.tar"), "--out", str(tmp_path), "--finetune", "tiny"]) == 2
    assert "--finetune needs --start" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pixels", "more"),
    [(1, []), (2, []), (1, ["--finetune", "tiny", "--start", str(WEIGHTS)])],
    ids=["for windows", "for whole frames", "for fine-tuning"],
)
def test_masks_too_small_end_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pixels: int, more: list[str]
) -> None:
    small = [annotation(rectangle((96, 128), 40, 40, 1, pixels))]
    shard = write_shard(tmp_path / "s.tar", {name: (jpeg(9, (96, 128)), small) for name in "abc"})
    assert train_sam.main(["--data", str(shard), "--out", str(tmp_path / "out"), *more]) == 2
    assert "none of 3 photos to train on has a mask that is large enough" in capsys.readouterr().err


def test_photos_with_small_masks_alone_are_counted(tmp_path: Path) -> None:
    small = [annotation(rectangle((96, 128), 40, 40, 1, 1))]
    photos = {"large": (jpeg(9, (96, 128)), two_objects()), "a": (jpeg(1, (96, 128)), small)}
    problems: list[str] = []
    task = sam_task(SamJob((str(write_shard(tmp_path / "s.tar", photos)),), SamRecipe()), problems.append)
    assert [photo.id for photo in task.photos] == ["large"]
    (line,) = problems
    assert line.startswith("1 photos to train on have only masks too small for the model, such as a: ")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_fine_tuning_changes_the_encoder_alone(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"one": (jpeg(1, (96, 128)), two_objects())})
    command = ["--data", str(shard), "--out", str(tmp_path / "out"), "--steps", "1", "--windows", "1", "--threads", "1"]
    assert train_sam.main([*command, "--finetune", "tiny", "--start", str(WEIGHTS)]) == 0
    before = load_sam("tiny").state_dict()
    after = load_sam("tiny", checkpoint=tmp_path / "out" / "tiny.safetensors").state_dict()
    changed = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"image_encoder"}

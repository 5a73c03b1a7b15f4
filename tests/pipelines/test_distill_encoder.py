"""From photos without annotations to a student that loads by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from segment_anything.modeling import Sam

from aopsam.sam.registry import load_sam
from aopsam.training.finetune import FinetuneRecipe
from aopsam.training.sami import SamiTask
from aopsam.training.student import StudentRecipe
from pipelines import distill_encoder
from stages.annotations.held_out import is_held_out
from stages.config.command_line import parse
from stages.train.distillation import DistillationJob, distillation_task, left_out
from stages.train.finetune import FinetuneJob, finetune_task
from tests.helpers.in_process import training_without_ray
from tests.helpers.made_shard import jpeg, two_objects, write_shard

NAMES = [f"photo_{number}" for number in range(12)]
HELD_OUT = [name for name in NAMES if is_held_out(name)]


def data(folder: Path) -> list[str]:
    """Two photos in a tar of SA-1B's layout, twelve in a folder, two that are none."""
    folder.mkdir()
    write_shard(folder / "s.tar", {f"t{n}": (jpeg(n, (96, 128)), two_objects()) for n in range(2)})
    loose = folder / "loose"
    loose.mkdir()
    for number, name in enumerate(NAMES):
        (loose / f"{name}.jpg").write_bytes(jpeg(number, (80, 64)))
    (loose / "damaged.jpg").write_bytes(jpeg(0, (96, 128))[:400])
    (loose / "folder.png").mkdir()
    return [str(folder / "s.tar"), str(loose)]


def command(folder: Path, sources: list[str], *more: str, method: str = "decoupled") -> list[str]:
    given = ["--method", method, "--teacher", "tiny", "--student", "tiny", "--data", *sources]
    return [*given, "--out", str(folder / "out"), *more]


def work(folder: Path) -> DistillationJob:
    recipe = StudentRecipe(picture_px=64, batch=1)
    return DistillationJob(tuple(data(folder / "data")), recipe, str(folder / "out"))


def test_photos_are_read_when_they_are_asked_for_and_some_are_held_out(tmp_path: Path) -> None:
    assert 0 < len(HELD_OUT) < len(NAMES)
    problems: list[str] = []
    task = distillation_task(work(tmp_path), problems.append)
    assert len(problems) == 2
    assert problems[0].endswith("s.tar: 2 other files not looked at (.json 2)")
    assert "folder.png: " in problems[1]
    assert len(task.photos) == 2 + len(NAMES) - len(HELD_OUT) + 1
    assert left_out(str(tmp_path / "out")) == []
    shapes = []
    for number in range(len(task.photos)):
        try:
            shapes.append(task.photos[number].shape)
        except ValueError:
            continue
    assert sorted(shapes) == [(80, 64, 3)] * (len(NAMES) - len(HELD_OUT)) + [(96, 128, 3)] * 2
    [line] = left_out(str(tmp_path / "out"))
    assert "loose/damaged.jpg: corrupt_image" in line
    assert len(task._held_out) == len(HELD_OUT)


def test_from_photos_to_a_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: Sam
) -> None:
    training_without_ray(monkeypatch)
    more = ["--steps", "4", "--batch", "4", "--picture-px", "64", "--threads", "1"]
    assert distill_encoder.main(command(tmp_path, data(tmp_path / "data"), *more)) == 0
    said = capsys.readouterr()
    assert "left out: " in said.err
    assert "loose/damaged.jpg: corrupt_image" in said.err
    assert "1 photos left out" in said.out
    path = tmp_path / "out" / "student.safetensors"
    student = load_sam("tiny", path)
    assert student.thresholds == tiny.thresholds
    theirs = tiny.mask_decoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in student.mask_decoder.state_dict().items())
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    assert (facts["method"], facts["teacher"], facts["teacher_sha256"]) == ("decoupled", "tiny", tiny.sha256)
    shard = write_shard(tmp_path / "a.tar", {"one": (jpeg(1, (96, 128)), two_objects())})
    task = finetune_task(FinetuneJob((str(shard),), FinetuneRecipe(), str(path)))
    assert len(task) == 1


def test_sami_is_built_by_name(tmp_path: Path) -> None:
    arguments = parse(distill_encoder.Arguments, command(tmp_path, [str(tmp_path)], method="sami"))
    (tmp_path / "one.jpg").write_bytes(jpeg(0, (96, 128)))
    task = distillation_task(arguments.job())
    assert isinstance(task, SamiTask)
    assert task.recipe.masked == 0.75


def test_wrong_arguments_end_before_ray_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill_encoder.main(command(tmp_path, [str(tmp_path / "none")])) == 2
    assert "none" in capsys.readouterr().err
    (tmp_path / "one.jpg").write_bytes(jpeg(0, (96, 128)))
    (tmp_path / "junk.safetensors").write_bytes(b"no weights")
    assert distill_encoder.main(command(tmp_path, [str(tmp_path)], "--start", str(tmp_path / "junk.safetensors"))) == 2
    assert "junk.safetensors" in capsys.readouterr().err
    assert distill_encoder.main(command(tmp_path, [str(tmp_path)], "--picture-px", "50")) == 2
    assert "multiples of 16" in capsys.readouterr().err
    (tmp_path / "one.jpg").write_bytes(b"no photo")
    assert distill_encoder.main(command(tmp_path, [str(tmp_path / "one.jpg")])) == 3
    assert "none of 1 photos can be read" in capsys.readouterr().err

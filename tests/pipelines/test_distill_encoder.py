"""From photos without annotations to a student that loads by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from segment_anything.modeling import Sam

from aopsam.sam.registry import load_sam
from aopsam.training import stream
from aopsam.training.checkpoint import load_checkpoint
from aopsam.training.finetune import FinetuneRecipe
from aopsam.training.sami import PAPER, SamiTask
from aopsam.training.student import StudentRecipe, build_student
from aopsam.training.trainer import kept_weights
from pipelines import distill_encoder, train_sam
from stages.annotations.held_out import is_held_out
from stages.config.command_line import parse
from stages.train.distillation import DistillationJob, distillation_task
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


def test_photos_are_checked_and_some_are_held_out(tmp_path: Path) -> None:
    assert 0 < len(HELD_OUT) < len(NAMES)
    problems: list[str] = []
    task = distillation_task(work(tmp_path), problems.append)
    folder = tmp_path / "data"
    assert [line.replace(f"{folder}/", "").split(": ")[:2] for line in problems] == [
        ["s.tar", "2 other files not looked at (.json 2)"],
        ["damaged.jpg", "corrupt_image"],
        ["loose/folder.png", "not_a_file"],
    ]
    assert [photo.id for photo in task.photos] == [
        "s.tar#t0.jpg",
        "s.tar#t1.jpg",
        *sorted(f"{name}.jpg" for name in NAMES if name not in HELD_OUT),
    ]
    assert len(task._held_out) == len(HELD_OUT)


def test_a_large_corpus_is_a_window_and_a_run_goes_on_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW_BYTES", 8_000)
    job, updates = work(tmp_path), range(40)
    task = distillation_task(job)
    assert len(task._held_out) == 1
    seen: set[str] = set()
    task.pool.begin(0, 1)
    unbroken = []
    for update in updates:
        unbroken.append(task.batch(update).student)
        seen |= {photo.id for photo in task.pool.sources[0]}
    left = {"s.tar#t0.jpg", "s.tar#t1.jpg", *(f"{name}.jpg" for name in NAMES)} - seen
    assert {f"{name}.jpg" for name in HELD_OUT} <= left
    assert len(left) <= len(HELD_OUT) + 1  # one more where the first photos hold none of these
    state, resumed = json.loads(json.dumps(task.pool.state(30))), distillation_task(job)
    assert state["at"] is not None
    resumed.pool.begin(30, 1, state)
    assert all(torch.equal(resumed.batch(update).student, unbroken[update]) for update in updates[30:])


def test_from_photos_to_a_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: Sam
) -> None:
    training_without_ray(monkeypatch)
    more = ["--steps", "4", "--batch", "4", "--picture-px", "64", "--threads", "1"]
    assert distill_encoder.main(command(tmp_path, data(tmp_path / "data"), *more)) == 0
    said = capsys.readouterr()
    assert "left out: " in said.err
    assert "damaged.jpg: corrupt_image" in said.err
    assert f"{2 + len(NAMES) - len(HELD_OUT)} photos to train on, of all 15 in " in said.err
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


def test_efficient_sam_is_made_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: Sam
) -> None:
    """SAMI on pictures of 32 px, then fine-tuning through a decoder that learns along, on photos drawn at 64 px."""
    training_without_ray(monkeypatch)
    (tmp_path / "one.jpg").write_bytes(jpeg(0, (96, 128)))
    flags = ["--method", "sami", "--teacher", "tiny", "--student", "efficient_sam_ti", "--picture-px", "32"]
    flags += ["--teacher-px", "64", "--steps", "1", "--batch", "1", "--data", str(tmp_path / "one.jpg")]
    assert distill_encoder.main([*flags, "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    start = tmp_path / "out/student.safetensors"
    student = load_sam("efficient_sam_ti", start)
    theirs = tiny.mask_decoder.output_hypernetworks_mlps[0].layers[2].weight
    assert torch.equal(student.mask_decoder.output_hypernetworks_mlps[0].fc.weight, theirs)
    kept = load_checkpoint(tmp_path / "out/train")
    trained = build_student("efficient_sam_ti", 0)
    trained.image_encoder.load_state_dict(kept_weights(kept))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        embeddings = [model.image_encoder(pixels) for model in (student, trained.half().float())]
    assert torch.equal(*embeddings)
    shard = write_shard(tmp_path / "a.tar", {"one": (jpeg(1, (96, 128)), two_objects())})
    monkeypatch.setattr("stages.train.sam.choose_thresholds", lambda sam, photos: {"pred_iou_thresh": "0.5"})
    flags = ["--finetune", "efficient_sam_ti", "--start", str(start), "--finetune-decoder", "--finetune-px", "64"]
    flags += ["--steps", "1", "--windows", "1", "--data", str(shard), "--out", str(tmp_path / "sam"), "--threads", "1"]
    assert train_sam.main(flags) == 0
    tuned = load_sam("efficient_sam_ti", tmp_path / "sam/efficient_sam_ti.safetensors")
    assert tuned.thresholds.pred_iou_thresh == 0.5
    assert not torch.equal(tuned.mask_decoder.output_hypernetworks_mlps[0].fc.weight, theirs)


def test_the_papers_recipe_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def recipe(*more: str, method: str = "sami") -> StudentRecipe:
        flags = command(tmp_path, [str(tmp_path)], "--recipe", "paper", *more, method=method)
        return parse(distill_encoder.Arguments, flags).job().recipe

    assert recipe() == replace(PAPER, teacher="tiny", student="tiny")
    spread = recipe("--workers", "4", "--batch", "64", "--steps", "7", "--rate", "1e-3")
    assert (spread.batch, spread.accumulate, spread.steps, spread.rate) == (64, 16, 7, 1e-3)
    assert recipe("--accumulate", "2").accumulate == 2
    with pytest.raises(ValueError, match="batch of 4096 is no multiple"):
        recipe("--workers", "3")
    with pytest.raises(ValueError, match="give --method sami, or --recipe ours"):
        recipe(method="decoupled")


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
    assert "no photo that can be trained on" in capsys.readouterr().err

"""Decoupled distillation: the student comes to say what the teacher says, and nothing else changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.training.distillation import DecoupledTask
from aopsam.training.student import StudentRecipe, build_student, compare, share_decoder
from aopsam.training.trainer import train
from tests.helpers.small_sams import photos, small

RECIPE = StudentRecipe(teacher="small", student="small", steps=40, batch=2, rate=3e-3, average=0.8, precision="float32")


def test_the_student_learns_what_the_teacher_says(small_sam: Sam, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in small_sam.state_dict().items()}
    task = DecoupledTask(RECIPE, small_sam, small(1), photos(), photos(1))
    first = task.validate(task.model.eval())
    student = task.student
    student.image_encoder.load_state_dict(train(task, tmp_path, loader_workers=0, validate_every=20))
    last = task.validate(student.image_encoder.eval())
    assert first is not None
    assert last is not None
    assert last.score > first.score + 0.3
    assert last.figures["mse"] < first.figures["mse"] / 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in small_sam.state_dict().items())


def test_a_student_that_is_the_teacher_is_perfect(small_sam: Sam) -> None:
    task = DecoupledTask(RECIPE, small_sam, copy.deepcopy(small_sam), photos(), photos(2))
    judged = task.validate(task.model.eval())
    assert judged is not None
    assert judged.score == pytest.approx(1, abs=1e-5)
    assert judged.figures["mse"] == pytest.approx(0, abs=1e-9)
    loss, figures = task.loss(task.batch(0), 0, torch.Generator())
    assert float(loss.detach()) == pytest.approx(0, abs=1e-9)
    assert float(figures["cosine"]) == pytest.approx(1, abs=1e-5)


def test_padding_never_counts() -> None:
    answer, target = torch.randn(2, 1, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    photo = answer[..., :3, :2].clone(), target[..., :3, :2].clone()
    answer[..., 3:, :], answer[..., 2:] = 1e6, -1e6
    error, likeness = compare(answer, target, torch.tensor([[3, 2]]))
    torch.testing.assert_close(error, (photo[0] - photo[1]).square().mean())
    torch.testing.assert_close(likeness, torch.cosine_similarity(*photo, dim=1).mean())


def test_teacher_and_student_may_have_other_input_sizes(small_sam: Sam) -> None:
    student = assemble(TinyEncoder(256))
    task = DecoupledTask(RECIPE, small_sam, student, photos())
    batch = task.batch(0)
    assert (batch.student.shape[-1], batch.teacher.shape[-1]) == (256, 128)
    target = task.teach(batch)
    assert target.shape == (2, 256, 16, 16)
    assert task.answer(task.model, batch, torch.Generator()).shape == target.shape


def test_parts_of_frames_are_for_encoders_that_take_them(tiny: Sam, small_sam: Sam) -> None:
    parts = replace(RECIPE, picture_px=64)
    with pytest.raises(ValueError, match="teacher reads whole squares of 128 px"):
        DecoupledTask(parts, small_sam, assemble(TinyEncoder(256)), photos())
    task = DecoupledTask(parts, tiny, assemble(TinyEncoder()), photos())
    assert task.batch(0).student.shape[-1] == 64
    with pytest.raises(ValueError, match="multiples of 16"):
        DecoupledTask(replace(RECIPE, picture_px=40), tiny, assemble(TinyEncoder()), photos())


def test_students_begin_by_seed_and_take_the_teachers_decoder(tiny: Sam) -> None:
    first, again, other = (build_student("tiny", seed).image_encoder.neck.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    student = share_decoder(build_student("tiny", 0), tiny)
    theirs = tiny.mask_decoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in student.mask_decoder.state_dict().items())


@pytest.mark.slow
def test_a_student_of_another_architecture_and_size(tiny: Sam) -> None:
    student = share_decoder(build_student("mobile_sam", 0), tiny)
    task = DecoupledTask(replace(RECIPE, batch=1), tiny, student, photos())
    loss, _ = task.loss(task.batch(0), 0, torch.Generator())
    loss.backward()
    assert torch.isfinite(loss)
    assert student.image_encoder.patch_embed.seq[0].c.weight.grad.abs().sum() > 0

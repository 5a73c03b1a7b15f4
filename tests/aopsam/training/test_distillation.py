"""Decoupled distillation: the student comes to say what the teacher says, and nothing else changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from segment_anything.modeling import Sam
from torch.nn import functional as F

from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.training.distillation import DecoupledTask
from aopsam.training.student import StudentRecipe, build_student, compare, share_decoder
from aopsam.training.trainer import train
from aopsam.training.views import normalised
from tests.helpers.small_sams import photos, small, small_efficient_sam, small_vit

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


def test_efficient_sam_learns_from_stretched_pictures_what_its_decoder_will_read(small_sam: Sam) -> None:
    recipe = replace(RECIPE, student="efficient_sam_ti", picture_px=32)
    student = share_decoder(small_efficient_sam(1), small_sam)
    task = DecoupledTask(recipe, small_sam, student, photos(), photos(1))
    batch = task.batch(0)
    assert (batch.student.shape[-1], batch.teacher.shape[-1]) == (32, 128)
    whole = small_sam.image_encoder(normalised(small_sam, batch.teacher, torch.full((2, 2), 128)))
    added = small_sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    torch.testing.assert_close(task.teach(batch), F.avg_pool2d(whole, 4) + added)
    loss, _ = task.loss(batch, 0, torch.Generator())
    loss.backward()
    assert student.image_encoder.pos_embed.grad.abs().sum() > 0
    assert task.validate(task.model) is not None


def test_a_stretched_student_that_is_the_teacher_is_perfect() -> None:
    teacher = small_efficient_sam(0)
    recipe = replace(RECIPE, teacher="efficient_sam_ti", student="efficient_sam_ti")
    task = DecoupledTask(recipe, teacher, copy.deepcopy(teacher), photos(), photos(2))
    judged = task.validate(task.model.eval())
    assert judged is not None
    assert judged.figures["mse"] == pytest.approx(0, abs=1e-9)


def test_efficient_sams_decoder_begins_with_the_teachers_weights(small_sam: Sam) -> None:
    student = small_efficient_sam(1)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    share_decoder(student, small_sam)
    ours, theirs = student.mask_decoder, small_sam.mask_decoder
    layers = ours.transformer.layers[1].mlp, theirs.transformer.layers[1].mlp
    assert torch.equal(layers[0].layers[0][0].weight, layers[1].lin1.weight)
    assert torch.equal(layers[0].fc.bias, layers[1].lin2.bias)
    for number in (0, 3):
        hyper = ours.output_hypernetworks_mlps[number], theirs.output_hypernetworks_mlps[number]
        assert torch.equal(hyper[0].layers[1][0].weight, hyper[1].layers[1].weight)
        assert torch.equal(hyper[0].fc.weight, hyper[1].layers[2].weight)
    assert torch.equal(ours.output_upscaling[3].weight, theirs.output_upscaling[3].weight)
    prompts = student.prompt_encoder, small_sam.prompt_encoder
    assert torch.equal(prompts[0].bbox_bottom_right_embeddings.weight, prompts[1].point_embeddings[3].weight)
    assert torch.equal(prompts[0].point_embeddings.weight, prompts[1].point_embeddings[1].weight)
    constant = {name for name, tensor in student.state_dict().items() if torch.equal(tensor, before[name])}
    norms = {name for name in constant if not name.startswith("image_encoder")}
    assert all("norm" in name or ".0.1." in name for name in norms)  # ones and zeros in both
    with pytest.raises(ValueError, match="has students that are, too"):
        share_decoder(small(0), small_efficient_sam(1))


def test_sizes_that_do_not_fit_are_refused(small_sam: Sam) -> None:
    def refused(student: Sam, teacher: Sam = small_sam, **sizes: int) -> str:
        with pytest.raises(ValueError, match=r".") as caught:
            DecoupledTask(replace(RECIPE, **sizes), teacher, student, photos())
        return str(caught.value)

    plain = small_efficient_sam(1)
    assert refused(plain, picture_px=40) == "picture_px 40: small reads a multiple of 16 up to 64"
    assert refused(plain, picture_px=80) == "picture_px 80: small reads a multiple of 16 up to 64"
    assert refused(plain, teacher_px=64) == "teacher_px 64: small reads 128, or leave it out"
    assert "only for students that read stretched photos" in refused(small(1), teacher_px=64)
    assert "reads stretched photos, small does not" in refused(small(1), teacher=plain)
    assert DecoupledTask(replace(RECIPE, teacher_px=32), small_vit(0), plain, photos()).batch(0).teacher.shape[-1] == 32


def test_random_positions_tell_cells_apart() -> None:
    table = small_efficient_sam(0).image_encoder.pos_embed[0, 1:]
    assert torch.cdist(table, table).add(torch.eye(196) * 9).min() > 0.1

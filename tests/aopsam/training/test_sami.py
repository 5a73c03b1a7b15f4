"""SAMI: a quarter of the picture is seen, all of it is predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from segment_anything.modeling import Sam
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.training.sami import (
    BATCH,
    HEAD_WIDTH,
    PAPER,
    CrossAttentionBlock,
    SamiDecoder,
    SamiRecipe,
    SamiTask,
    draw_visible,
)
from aopsam.training.student import sines
from aopsam.training.trainer import train
from aopsam.training.views import Views, normalised
from tests.helpers.small_sams import photos, small, small_efficient_sam, small_vit

RECIPE = SamiRecipe(
    teacher="small",
    student="small",
    steps=40,
    batch=2,
    rate=3e-3,
    average=0.8,
    precision="float32",
    decoder_blocks=2,
    decoder_width=64,
)


def there(*rows_columns: tuple[int, int]) -> torch.Tensor:
    cells = torch.zeros(len(rows_columns), 8, 8, dtype=torch.bool)
    for number, (rows, columns) in enumerate(rows_columns):
        cells[number, :rows, :columns] = True
    return cells


def test_a_quarter_of_the_photos_patches_is_visible() -> None:
    cells = there((8, 8), (5, 4), (1, 1))
    visible = draw_visible(cells, 0.75, torch.Generator().manual_seed(0))
    assert visible.flatten(1).sum(1).tolist() == [16, 5, 1]
    assert not (visible & ~cells).any()
    assert torch.equal(visible, draw_visible(cells, 0.75, torch.Generator().manual_seed(0)))
    assert not torch.equal(visible, draw_visible(cells, 0.75, torch.Generator().manual_seed(1)))


def lists(embedding: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Tokens of visible cells, (B, V, C)."""
    return pad_sequence([one[:, here].T for one, here in zip(embedding, visible, strict=True)], batch_first=True)


def plain_attention(block: CrossAttentionBlock, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """One picture, one head and one query after the other."""
    q = block.query(block.norm_queries(queries))
    k, v = block.key_value(torch.cat([block.norm_context(context), block.norm_queries(queries)])).chunk(2, dim=-1)
    mixed = torch.zeros_like(q)
    for start in range(0, q.shape[-1], HEAD_WIDTH):
        head = slice(start, start + HEAD_WIDTH)
        for number in range(len(q)):
            weights = torch.softmax(k[:, head] @ q[number, head] / HEAD_WIDTH**0.5, 0)
            mixed[number, head] = weights @ v[:, head]
    queries = queries + block.out(mixed)
    return queries + block.mlp(block.norm_mlp(queries))


def plain_decoder(
    decoder: SamiDecoder, embedding: torch.Tensor, visible: torch.Tensor, masked: torch.Tensor
) -> torch.Tensor:
    out = torch.zeros_like(embedding)
    places = sines(8, 8, decoder.mask_token.shape[0])
    for number in range(len(embedding)):
        see, hide = visible[number], masked[number]
        seen = decoder.embed(embedding[number, :, see].T)
        queries = decoder.mask_token + places[hide]
        for block in decoder.blocks:
            queries = plain_attention(block, queries, seen + places[see])
        out[number, :, see] = decoder.head(seen).T
        out[number, :, hide] = decoder.head(decoder.norm(queries)).T
    return out


@torch.no_grad()
def test_pictures_of_different_shapes_in_one_batch_equal_one_after_the_other() -> None:
    torch.manual_seed(0)
    decoder = SamiDecoder(2, 64)
    cells = there((8, 8), (5, 4), (3, 8))
    visible = draw_visible(cells, 0.75, torch.Generator().manual_seed(0))
    embedding = torch.randn(3, 256, 8, 8)
    found = decoder(lists(embedding, visible), visible, cells & ~visible)
    expected = plain_decoder(decoder, embedding, visible, cells & ~visible)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_decoder_begins_by_passing_on_what_is_visible() -> None:
    decoder = SamiDecoder(1, 256)
    visible = there((2, 2))
    embedding = torch.randn(1, 256, 8, 8)
    found = decoder(lists(embedding, visible), visible, there((8, 8)) & ~visible)
    torch.testing.assert_close(found[..., :2, :2], embedding[..., :2, :2], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_is_masked_is_not_seen(small_sam: Sam) -> None:
    task = SamiTask(RECIPE, small_sam, small(1), photos())
    batch = task.batch(0)
    visible = draw_visible(torch.ones(2, 8, 8, dtype=torch.bool), 0.75, torch.Generator().manual_seed(5))
    whole = Views(batch.student, batch.teacher, torch.full((2, 2), 8))
    hidden = ~visible.repeat_interleave(16, 1).repeat_interleave(16, 2).unsqueeze(1)
    other = Views(torch.where(hidden, 255 - batch.student, batch.student), batch.teacher, whole.cells)
    answers = [task.answer(task.model, views, torch.Generator().manual_seed(5)) for views in (whole, other)]
    assert torch.equal(*answers)
    assert not torch.equal(answers[0], task.answer(task.model, whole, torch.Generator().manual_seed(6)))


def test_the_student_learns_and_a_resumed_run_equals_an_unbroken_one(small_sam: Sam, tmp_path: Path) -> None:
    def task() -> SamiTask:
        return SamiTask(RECIPE, small_sam, small(1), photos(), photos(1))

    begun = task()
    first = begun.validate(begun.model.eval())
    whole = train(begun, tmp_path / "whole", loader_workers=0, validate_every=20)
    last = begun.validate(begun.model.eval())
    assert first is not None
    assert last is not None
    assert last.score > first.score + 0.1
    train(task(), tmp_path / "broken", loader_workers=0, validate_every=20, stop_at=13)
    broken = train(task(), tmp_path / "broken", loader_workers=0, validate_every=20)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_the_papers_decoder_is_the_default(small_sam: Sam) -> None:
    task = SamiTask(replace(SamiRecipe(), batch=1), small_sam, small(1), photos(1))
    assert len(task.heads.blocks) == 8
    assert isinstance(task.heads.head, nn.Linear)
    assert task.heads.head.weight.shape == (256, 512)


DROPPING = replace(RECIPE, teacher="vit", student="efficient_sam_ti", steps=12, zoom=(1.0, 1.5))


def test_a_plain_student_drops_tokens_and_learns_the_teachers_wide_features(tmp_path: Path) -> None:
    def task() -> SamiTask:
        return SamiTask(DROPPING, small_vit(0), small_efficient_sam(1), photos(), photos(1))

    begun, counts = task(), set[int]()
    assert begun.heads.embed.in_features == 192
    assert begun.heads.head.out_features == 32
    batch = begun.batch(0)
    expected = begun.teacher.image_encoder.features(normalised(begun.teacher, batch.teacher, batch.cells * 16))
    torch.testing.assert_close(begun.teach(batch), expected)
    begun.student.image_encoder.blocks[0].register_forward_hook(lambda block, given, out: counts.add(out.shape[1]))
    first = begun.validate(begun.model.eval())
    whole = train(begun, tmp_path / "whole", loader_workers=0, validate_every=6)
    last = begun.validate(begun.model.eval())
    assert counts == {4}  # of 16
    assert first is not None
    assert last is not None
    assert last.figures["mse"] < 0.9 * first.figures["mse"]
    train(task(), tmp_path / "broken", loader_workers=0, validate_every=6, stop_at=5)
    broken = train(task(), tmp_path / "broken", loader_workers=0, validate_every=6)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


@torch.no_grad()
def test_a_plain_student_does_not_see_what_is_masked() -> None:
    task = SamiTask(DROPPING, small_vit(0), small_efficient_sam(1), photos())
    batch = task.batch(0)
    visible = draw_visible(torch.ones(2, 4, 4, dtype=torch.bool), 0.75, torch.Generator().manual_seed(5))
    hidden = ~visible.repeat_interleave(16, 1).repeat_interleave(16, 2).unsqueeze(1)
    other = Views(torch.where(hidden, 255 - batch.student, batch.student), batch.teacher, batch.cells)
    answers = [task.answer(task.model, views, torch.Generator().manual_seed(5)) for views in (batch, other)]
    assert torch.equal(*answers)
    assert not torch.equal(answers[0], task.answer(task.model, batch, torch.Generator().manual_seed(6)))


def test_encoders_that_cannot_drop_tokens_learn_wide_features_too() -> None:
    teacher = small_vit(0)
    task = SamiTask(replace(RECIPE, picture_px=None), teacher, small(1), photos(1))
    assert (task.heads.embed.in_features, task.heads.head.out_features) == (256, 32)
    loss, _ = task.loss(task.batch(0), 0, torch.Generator())
    assert torch.isfinite(loss)


def test_the_papers_recipe(tiny: Sam) -> None:
    task = SamiTask(replace(PAPER, teacher="tiny"), tiny, efficient_sam_ti(), photos(1))
    assert BATCH == 4096
    assert task.batch(0).student.shape == (32, 3, 224, 224)
    peak = 40 * PAPER.steps // 400
    assert task.rates(peak - 1)["all"] == pytest.approx(2.4e-3)
    assert task.rates(peak // 2 - 1)["all"] == pytest.approx(1.2e-3, rel=1e-3)
    assert task.rates((peak + PAPER.steps) // 2)["all"] == pytest.approx(1.2e-3, rel=1e-3)
    groups = task.optimizer().param_groups
    assert [(group["betas"], group["weight_decay"]) for group in groups] == [((0.9, 0.95), 0.05), ((0.9, 0.95), 0.0)]

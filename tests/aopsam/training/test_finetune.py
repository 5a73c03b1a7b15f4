"""Fine-tuning inside SAM: the encoder learns through a frozen decoder."""

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
from aopsam.training.finetune import BATCH, PAPER, FinetuneRecipe, FinetuneTask, mask_loss
from aopsam.training.losses import dice_loss
from aopsam.training.trainer import train
from tests.helpers.free_photos import free_photos
from tests.helpers.small_sams import small_efficient_sam

RECIPE = FinetuneRecipe(student="small", steps=4, windows=1, prompts=4, average=0.5, precision="float32")


def small_frame() -> Sam:
    torch.manual_seed(0)
    return assemble(TinyEncoder(128))


def test_only_the_encoder_learns(tmp_path: Path) -> None:
    sam = small_frame()
    before = copy.deepcopy(sam.state_dict())
    task = FinetuneTask(replace(RECIPE, window_px=64), sam, free_photos()[:2], free_photos()[3:])
    after = train(task, tmp_path, loader_workers=0, validate_every=2)
    changed = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"image_encoder"}
    judged = task.validate(sam.eval())
    assert judged is not None
    assert judged.score == pytest.approx((judged.figures["point"] + judged.figures["box"]) / 2)


def test_rates_fall_linearly() -> None:
    task = FinetuneTask(replace(RECIPE, window_px=64), small_frame(), free_photos())
    assert [task.rates(step)["encoder"] for step in range(4)] == pytest.approx([4e-4, 3e-4, 2e-4, 1e-4])


def test_encoders_of_one_size_see_whole_frames(small_sam: Sam) -> None:
    task = FinetuneTask(RECIPE, copy.deepcopy(small_sam), free_photos())
    batch = task.batch(0)
    assert batch.rgb.shape[-1] == 128
    assert not batch.cells.any()
    with pytest.raises(ValueError, match="small reads 128 px"):
        FinetuneTask(replace(RECIPE, window_px=64), copy.deepcopy(small_sam), free_photos())
    with pytest.raises(ValueError, match="a multiple of 16 up to 128"):
        FinetuneTask(replace(RECIPE, window_px=40), small_frame(), free_photos())


def test_the_loss_of_one_prompt_is_cross_entropy_plus_dice_of_the_best() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(1, 4, 8, 8, generator=generator), torch.zeros(1, 8, 8)
    truth[0, 2:5, 2:5] = 1
    each = torch.stack(
        [F.binary_cross_entropy_with_logits(mask, truth[0]) + dice_loss(mask, truth[0]) for mask in logits[0]]
    )
    expected = each[1:].min() + RECIPE.others * each[1:].mean() + 0.15 * each[0]
    found, _ = mask_loss(logits, truth, torch.ones(1, 1, 8, 8, dtype=torch.bool), torch.tensor([0.15]), RECIPE)
    torch.testing.assert_close(found, expected)


def test_padding_never_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(2, 4, 8, 8, generator=generator), torch.rand(2, 8, 8, generator=generator)
    photo = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    photo[..., :6, :5] = True
    single = torch.ones(2)
    part, _ = mask_loss(logits[..., :6, :5], truth[:, :6, :5], photo[..., :6, :5], single, RECIPE)
    whole, _ = mask_loss(logits, truth, photo, single, RECIPE)
    torch.testing.assert_close(whole, part)


@pytest.mark.parametrize("decoder", [False, True])
def test_efficient_sam_learns_on_stretched_photos(tmp_path: Path, decoder: bool) -> None:
    def task() -> FinetuneTask:
        recipe = replace(RECIPE, steps=2, window_px=64, decoder=decoder)
        return FinetuneTask(recipe, small_efficient_sam(0, 128), free_photos()[:2])

    begun = task()
    before = copy.deepcopy(begun.model.state_dict())
    after = train(begun, tmp_path / "whole", loader_workers=0)
    changed = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == ({"image_encoder", "mask_decoder", "prompt_encoder"} if decoder else {"image_encoder"})
    if decoder:
        train(task(), tmp_path / "broken", loader_workers=0, stop_at=1)
        broken = train(task(), tmp_path / "broken", loader_workers=0)
        assert all(torch.equal(tensor, broken[name]) for name, tensor in after.items())


def test_prompts_of_a_smaller_drawing_are_in_the_models_pixels() -> None:
    drawn = [
        FinetuneTask(
            replace(RECIPE, window_px=size, scale=(1.0, 1.0), box_share=0.0), small_efficient_sam(0, 256), free_photos()
        ).batch(0)
        for size in (128, 256)
    ]
    assert [batch.rgb.shape[-1] for batch in drawn] == [128, 256]
    assert [batch.targets.shape[-1] for batch in drawn] == [32, 64]
    torch.testing.assert_close(drawn[0].prompts.points_px, drawn[1].prompts.points_px)
    with pytest.raises(ValueError, match="windows of 512 px: small reads a multiple of 16 up to 256 px"):
        FinetuneTask(replace(RECIPE, window_px=512), small_efficient_sam(0, 256), free_photos())


def test_a_decoder_that_learns_learns_its_estimates() -> None:
    plain = FinetuneTask(replace(RECIPE, window_px=64, decoder=True), small_frame(), free_photos())
    loss, _ = plain.loss(plain.batch(0), 0, torch.Generator())
    loss.backward()
    assert plain.model.mask_decoder.iou_prediction_head.layers[2].weight.grad.abs().sum() > 0


def test_the_papers_recipe() -> None:
    assert BATCH == 128
    task = FinetuneTask(replace(PAPER, student="small"), small_efficient_sam(0), free_photos())
    assert [task.rates(step)["encoder"] for step in (0, PAPER.steps // 2)] == pytest.approx([4e-4, 2e-4])
    (first, second) = task.optimizer().param_groups
    assert (first["betas"], first["weight_decay"], second["weight_decay"]) == ((0.9, 0.999), 0.1, 0)
    assert (PAPER.cross_entropy, PAPER.decoder, PAPER.window_px) == (1.0, False, None)
    assert task.batch(0).inside.tolist() == [[64, 64]] * 8

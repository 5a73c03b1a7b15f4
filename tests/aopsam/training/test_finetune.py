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
from aopsam.training.finetune import FinetuneRecipe, FinetuneTask, mask_loss
from aopsam.training.losses import dice_loss
from aopsam.training.trainer import train
from tests.helpers.free_photos import free_photos

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

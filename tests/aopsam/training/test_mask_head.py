"""A mask head learns to turn the decoder's masks into annotated ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aopsam.mask_head.network import OF_FEATURES, SIDE
from aopsam.sam.registry import load_sam
from aopsam.training.losses import dice_loss, mask_iou
from aopsam.training.mask_head import FINER, LEAST_IOU, MaskHeadTask, make_examples
from aopsam.training.recipes import MaskHeadRecipe
from aopsam.training.trainer import train
from tests.helpers.free_photos import free_photos
from tests.helpers.made_scenes import made_scene

RECIPE = MaskHeadRecipe(steps=2, frames=1, prompts=6, warmup=1, precision="float32")


def task(recipe: MaskHeadRecipe = RECIPE, photos: int = 2) -> MaskHeadTask:
    scenes = [made_scene(seed) for seed in range(photos)]
    return MaskHeadTask([scenes], recipe, load_sam("tiny"), scenes[:1])


def test_examples_are_masks_of_what_was_asked_for() -> None:
    photos = MaskHeadTask([free_photos()], replace(RECIPE, frames=2, prompts=12), load_sam("tiny"))
    batch, sam = photos.batch(0), photos.sam
    found = make_examples(sam, photos.model, batch, photos.recipe)
    assert found is not None
    count = len(found.target)
    assert count <= len(batch.is_box)  # of a prompt's three masks the best alone
    seen = found.seen
    assert seen.descriptors.shape == (count, 12, SIDE, SIDE)
    assert seen.colours.shape == (count, 3, SIDE, SIDE)
    assert seen.colours.flatten(2).std(2).amax() > 0.3
    assert seen.features.shape == (count, OF_FEATURES, SIDE, SIDE)
    assert seen.features.flatten(2).std(2).amax() > 0.3
    assert torch.equal(seen.point.isnan().all(1), found.is_box)
    assert torch.equal(seen.point.isnan().any(1), found.is_box)
    assert found.before.shape == found.target.shape == (count, FINER, FINER)
    assert 0 < found.is_box.sum() < count
    assert torch.equal(seen.box[:, 1].amax((1, 2)) > 0, found.is_box)
    # Seen in their boxes, masks differ little from what they were in the frame.
    assert mask_iou(found.before, found.target).min() > LEAST_IOU - 0.1


def test_an_untrained_head_gives_the_masks_that_it_was_given() -> None:
    made = task()
    found = make_examples(made.sam, made.model, made.batch(0), made.recipe)
    assert found is not None
    assert torch.equal(found.drawn(made.model.eval()), found.before)


def test_it_learns_the_masks_that_it_is_shown() -> None:
    made = task(replace(RECIPE, prompts=12))
    batch, projection = made.batch(0), made.model.project.weight.detach().clone()
    optimizer = torch.optim.Adam(made.model.parameters(), 6e-3)
    quality = []
    for _ in range(21):
        found = make_examples(made.sam, made.model, batch, made.recipe)
        assert found is not None
        drawn = found.drawn(made.model)
        quality.append(float(mask_iou(drawn, found.target).mean()))
        optimizer.zero_grad()
        dice_loss(drawn, found.target).mean().backward()
        optimizer.step()
    assert quality[-1] > quality[0] + 0.1
    assert not torch.equal(made.model.project.weight, projection)


def test_a_run_keeps_the_weights_that_are_best_on_held_out_photos(tmp_path: Path) -> None:
    made = task()
    untrained = made.validate(made.model.eval())
    made.model.load_state_dict(train(made, tmp_path, loader_workers=0, validate_every=2))
    trained = made.validate(made.model.eval())
    assert untrained is not None
    assert trained is not None
    assert untrained.figures["box_before"] == untrained.figures["box_after"] == trained.figures["box_before"]
    assert trained.figures["box_after"] != untrained.figures["box_after"]
    assert trained.score == pytest.approx((trained.figures["box_after"] + trained.figures["point_after"]) / 2)


def test_the_sam_stays_as_it_is() -> None:
    made = task()
    before = {name: tensor.clone() for name, tensor in made.sam.state_dict().items()}
    loss, figures = made.loss(made.batch(0), 0, torch.Generator().manual_seed(0))
    loss.backward()
    assert set(figures) == {"before", "after"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.sam.state_dict().items())
    assert all(parameter.grad is None for parameter in made.sam.parameters())
    assert made.model.change.weight.grad is not None
    assert (made.model.sam, made.model.sam_sha256) == ("tiny", made.sam.sha256)


def test_frames_whose_masks_are_all_of_something_else_teach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aopsam.training.mask_head.LEAST_IOU", 1.0)
    made = task()
    loss, _ = made.loss(made.batch(0), 0, torch.Generator().manual_seed(0))
    loss.backward()
    assert float(loss.detach()) == 0
    assert made.validate(made.model) is None

"""A mask head learns to turn the decoder's masks into annotated ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aopsam.mask_head.network import SIDE, MaskHead
from aopsam.sam.registry import load_sam
from aopsam.training.decode import decode, window_pe
from aopsam.training.losses import mask_iou
from aopsam.training.mask_head import FINER, LEAST_IOU, Examples, MaskHeadTask, make_examples
from aopsam.training.recipes import MaskHeadRecipe
from aopsam.training.trainer import train
from aopsam.training.views import normalised
from tests.helpers.free_photos import free_photos
from tests.helpers.made_scenes import made_scene

RECIPE = MaskHeadRecipe(steps=2, frames=1, prompts=6, warmup=1, precision="float32")


def task(recipe: MaskHeadRecipe = RECIPE, photos: int = 2) -> MaskHeadTask:
    scenes = [made_scene(seed) for seed in range(photos)]
    return MaskHeadTask([scenes], recipe, load_sam("tiny"), scenes[:1])


def test_examples_are_masks_of_what_was_asked_for() -> None:
    photos = MaskHeadTask([free_photos()], replace(RECIPE, frames=2, prompts=12), load_sam("tiny"))
    batch, sam = photos.batch(0), photos.sam
    found = make_examples(sam, batch, photos.recipe, torch.Generator().manual_seed(0))
    assert found is not None
    count = len(found.target)
    assert found.seen[0].shape == (count, 12, SIDE, SIDE)
    assert found.before.shape == found.target.shape == (count, FINER, FINER)
    assert 0 < found.is_box.sum() < count
    assert torch.equal(found.seen[3][:, 1].amax((1, 2)) > 0, found.is_box)
    # Seen in their boxes, masks differ little from what they were in the frame.
    iou = found.iou(found.before)
    assert iou[found.near].min() > LEAST_IOU - 0.1
    assert iou[~found.near].mean() < iou[found.near].mean() - 0.1
    again = make_examples(sam, batch, photos.recipe, torch.Generator().manual_seed(0))
    assert again is not None
    assert torch.equal(found.before, again.before)
    other = make_examples(sam, batch, photos.recipe, torch.Generator().manual_seed(1))
    assert other is not None
    assert found.before.shape != other.before.shape or not torch.equal(found.before, other.before)


def test_the_iou_counts_what_the_head_does_not_see() -> None:
    before = torch.full((1, FINER, FINER), -1.0)
    before[:, :10] = 1.0
    target = (before > 0).float()
    seen = Examples((), before, target, torch.tensor([0.0]), torch.tensor([True]), torch.tensor([True]))
    assert seen.iou(before).tolist() == [1.0]
    half = replace(seen, unseen=torch.tensor([10.0 * FINER]))
    assert half.iou(before).tolist() == [0.5]


def test_all_masks_have_the_iou_in_what_is_seen_that_they_have_in_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aopsam.training.mask_head.JUDGED_SHARE", 1.0)
    made = MaskHeadTask([free_photos()], replace(RECIPE, prompts=24), load_sam("tiny"))
    sam, batch = made.sam, made.batch(1)
    found = make_examples(sam, batch, made.recipe, torch.Generator().manual_seed(0))
    assert found is not None
    with torch.no_grad():
        embeddings, _ = sam.image_encoder.embed(normalised(sam, batch.rgb, batch.inside.flip(1)))
        logits, estimates = decode(sam, embeddings, window_pe(sam, batch.cells, *embeddings.shape[-2:]), batch.prompts)
    logits, estimates = logits[:, 1:], estimates[:, 1:]
    there, in_frame = (logits > 0).flatten(2).any(2), mask_iou(logits, batch.targets[:, None].expand_as(logits))
    expected = torch.cat([in_frame[batch.is_box == boxes][there[batch.is_box == boxes]] for boxes in (False, True)])
    estimated = torch.cat([estimates[batch.is_box == boxes][there[batch.is_box == boxes]] for boxes in (False, True)])
    torch.testing.assert_close(found.seen[4][:, 0], estimated)
    difference = (found.iou(found.before) - expected).abs()
    assert difference.mean() < 0.03
    assert difference.max() < 0.15
    assert (found.unseen > FINER**2 / 10).any()


def test_examples_of_earlier_updates_are_learnt_from_again() -> None:
    made = task(replace(RECIPE, prompts=4, replayed=1))
    counted = []
    made.model.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    alone = []
    for step in range(3):
        examples = make_examples(made.sam, made.batch(step), made.recipe, torch.Generator().manual_seed(step))
        assert examples is not None
        alone.append(len(examples.near))
    for step in range(3):
        made.loss(made.batch(step), step, torch.Generator().manual_seed(step))
    assert counted[:2] == [alone[0], alone[0] + alone[1]]
    assert counted[2] - alone[2] in alone[:2]


def test_it_begins_with_given_weights() -> None:
    torch.manual_seed(9)
    start = MaskHead()
    made = MaskHeadTask([[made_scene(0)]], RECIPE, load_sam("tiny"), start=start)
    assert all(torch.equal(tensor, start.state_dict()[name]) for name, tensor in made.model.state_dict().items())


def test_an_untrained_head_gives_the_masks_that_it_was_given() -> None:
    made = task()
    found = make_examples(made.sam, made.batch(0), made.recipe, torch.Generator().manual_seed(0))
    assert found is not None
    assert torch.equal(found.drawn(made.model.eval())[0], found.before)


def test_it_learns_to_draw_and_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    made = task(replace(RECIPE, prompts=12, replayed=0))
    batch = made.batch(0)
    found = make_examples(made.sam, batch, made.recipe, torch.Generator().manual_seed(0))
    assert found is not None
    monkeypatch.setattr("aopsam.training.mask_head.make_examples", lambda *_: found)
    before = found.iou(found.before)[found.near].mean()
    optimizer = torch.optim.Adam(made.model.parameters(), 3e-3)
    errors = []
    for step in range(20):
        loss, figures = made.loss(batch, step, torch.Generator())
        errors.append(float(figures["error"].detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert found.iou(found.drawn(made.model)[0])[found.near].mean() > before + 0.1
    assert errors[-1] < errors[0] / 2


def test_a_run_keeps_the_weights_that_are_best_on_held_out_photos(tmp_path: Path) -> None:
    made = task()
    untrained = made.validate(made.model.eval())
    made.model.load_state_dict(train(made, tmp_path, loader_workers=0, validate_every=2))
    trained = made.validate(made.model.eval())
    assert untrained is not None
    assert trained is not None
    assert untrained.figures["box_before"] == untrained.figures["box_after"] == trained.figures["box_before"]
    assert trained.figures["box_after"] != untrained.figures["box_after"]
    assert -1 <= trained.figures["correlation"] <= 1
    assert trained.score == pytest.approx((trained.figures["box_after"] + trained.figures["point_after"]) / 2)


def test_the_sam_stays_as_it_is() -> None:
    made = task()
    before = {name: tensor.clone() for name, tensor in made.sam.state_dict().items()}
    loss, figures = made.loss(made.batch(0), 0, torch.Generator().manual_seed(0))
    loss.backward()
    assert set(figures) == {"before", "after", "error"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.sam.state_dict().items())
    assert all(parameter.grad is None for parameter in made.sam.parameters())
    assert made.model.change.weight.grad is not None
    assert (made.model.sam, made.model.sam_sha256) == ("tiny", made.sam.sha256)


def test_frames_whose_masks_are_all_of_something_else_teach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aopsam.training.mask_head.LEAST_IOU", 1.0)
    monkeypatch.setattr("aopsam.training.mask_head.SECOND_IOU", 1.0)
    made = task()
    loss, _ = made.loss(made.batch(0), 0, torch.Generator().manual_seed(0))
    loss.backward()
    assert float(loss.detach()) == 0
    assert made.validate(made.model) is None

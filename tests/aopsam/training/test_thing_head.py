"""A thing head learns what NanoDet says of the same frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from aopsam.sam.registry import load_sam
from aopsam.sam.things import BINS, CLASSES, positions
from aopsam.training.build_sam import FRAME_PX
from aopsam.training.recipes import ThingHeadRecipe
from aopsam.training.thing_head import NanoDet, ThingHeadTask, taught_loss
from aopsam.training.trainer import train
from tests.helpers.free_photos import free_photos
from tests.helpers.made_edges import save_random_nanodet

RECIPE = ThingHeadRecipe(steps=2, frames=2, warmup=1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> NanoDet:
    return NanoDet.load(save_random_nanodet(tmp_path_factory.mktemp("teacher") / "nanodet.safetensors"))


def task(teacher: NanoDet, recipe: ThingHeadRecipe = RECIPE) -> ThingHeadTask:
    photos = free_photos()
    return ThingHeadTask([photos[:3]], recipe, load_sam("tiny"), teacher, photos[3:])


def answers(count: int = len(positions(FRAME_PX))) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, CLASSES, count), torch.randn(1, 4, BINS, count)


def losses(*compared: Any) -> list[float]:
    return [float(part) for part in taught_loss(*compared)]


def test_an_equal_answer_is_no_loss_and_padding_does_not_count() -> None:
    torch.manual_seed(0)
    own, other = answers(), answers()
    inside = torch.zeros(1, len(positions(FRAME_PX)), dtype=torch.bool)
    inside[:, :9] = True
    assert losses(own, own, inside) == pytest.approx([0, 0, 0], abs=1e-6)
    parts = losses(own, other, inside)
    assert min(parts) > 0.1
    for wrong in (0, 1):
        spoilt = [part.clone() for part in own]
        spoilt[wrong][..., 9:] += torch.randn_like(spoilt[wrong][..., 9:])
        assert losses(spoilt, other, inside) == pytest.approx(parts)
        spoilt[wrong][..., :9] += torch.randn_like(spoilt[wrong][..., :9])
        assert losses(spoilt, other, inside) != pytest.approx(parts)


def test_boxes_count_where_the_teacher_is_sure() -> None:
    torch.manual_seed(0)
    inside = torch.ones(1, len(positions(FRAME_PX)), dtype=torch.bool)
    own, (scores, distances) = answers(), answers()
    sure = torch.full_like(scores, -9.0)
    assert losses(own, (sure, distances), inside)[1:] == [0, 0]
    sure[0, 3, 5] = 4.0
    before = losses(own, (sure, distances), inside)
    own[1][..., 6:] += 1 + torch.randn_like(own[1][..., 6:])
    assert losses(own, (sure, distances), inside)[1:] == pytest.approx(before[1:])
    own[1][..., 5] = distances[..., 5]
    assert losses(own, (sure, distances), inside)[1:] == pytest.approx([0, 0], abs=1e-6)


def test_it_comes_nearer_to_its_teacher_and_nothing_else_changes(teacher: NanoDet) -> None:
    made = task(teacher)
    state = {**made.sam.state_dict(), **teacher.state_dict()}
    before = {name: tensor.clone() for name, tensor in state.items()}
    batch, optimizer, quality = made.batch(0), torch.optim.Adam(made.model.parameters(), 1e-4), []
    for _ in range(6):
        loss, parts = made.loss(batch, 0, torch.Generator())
        assert set(parts) == {"scores", "distances", "boxes"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        quality.append(float(loss.detach()))
    assert quality[-1] < 0.95 * quality[0]
    assert made.model.adapt[2].weight.grad is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())
    assert (made.model.sam, made.model.sam_sha256) == ("tiny", made.sam.sha256)


def test_a_run_is_judged_on_held_out_photos(teacher: NanoDet, tmp_path: Path) -> None:
    made = task(teacher, replace(RECIPE, frames=1))
    untrained = made.validate(made.model.eval())
    made.model.load_state_dict(train(made, tmp_path, loader_workers=0, validate_every=2))
    trained = made.validate(made.model.eval())
    assert untrained is not None
    assert trained is not None
    assert trained.figures != untrained.figures
    assert trained.score == -trained.figures["loss"]
    parts = trained.figures
    assert parts["loss"] == pytest.approx(parts["scores"] + 0.5 * parts["distances"] + 2 * parts["boxes"], rel=1e-4)
    made.held_out = []  # type: ignore[assignment]
    assert made.validate(made.model) is None


def test_other_weights_are_no_teacher(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"not NanoDet's weights: stem.weight is missing"):
        NanoDet.load(tmp_path / "other.safetensors")

"""The shared loop, on a task small enough to see through: fit a line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aopsam.training.checkpoint import load_checkpoint
from aopsam.training.plan import clock, measure
from aopsam.training.recipes import Recipe
from aopsam.training.task import cosine, shuffled
from aopsam.training.trainer import Reports, Worker, train
from tests.helpers.training_tasks import Line

RECIPE = Recipe(steps=9, accumulate=2, average=0.9, clip=1.0)


def saved(folder: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(folder)
    assert state is not None
    return state["average"]["values"] | {f"raw.{name}": value for name, value in state["model"].items()}


@pytest.mark.parametrize("stops", [[1], [4], [2, 5, 8]])
def test_a_run_broken_anywhere_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, stops: list[int]) -> None:
    train(Line(RECIPE), tmp_path / "whole", loader_workers=0, checkpoint_every=100)
    for stop in [*stops, None]:
        train(Line(RECIPE), tmp_path / "broken", loader_workers=0, checkpoint_every=100, stop_at=stop)
    whole, broken = saved(tmp_path / "whole"), saved(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_what_makes_the_batches_changes_nothing(tmp_path: Path) -> None:
    train(Line(RECIPE), tmp_path / "between", loader_workers=0)
    train(Line(RECIPE), tmp_path / "beside", loader_workers=2)
    between, beside = saved(tmp_path / "between"), saved(tmp_path / "beside")
    assert all(torch.equal(between[name], beside[name]) for name in between)


def test_the_best_validation_is_kept(tmp_path: Path) -> None:
    kept = train(Line(RECIPE), tmp_path, loader_workers=0, validate_every=2)
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    weights = {line["step"]: line["weight"] for line in lines if line["part"] == "validation"}
    assert set(weights) == {2, 4, 6, 8, 9}
    assert float(kept["3.weight"].sum()) == pytest.approx(max(weights.values()), abs=1e-5)


def test_curves_are_written_for_tensorboard(tmp_path: Path) -> None:
    train(Line(RECIPE), tmp_path / "run", loader_workers=0, reports=Reports(curves=str(tmp_path / "curves")))
    assert list((tmp_path / "curves").glob("events.out.tfevents.*"))


def test_a_checkpoint_of_another_recipe_is_refused_except_for_its_length(tmp_path: Path) -> None:
    train(Line(RECIPE), tmp_path, loader_workers=0)
    with pytest.raises(ValueError, match=r"another recipe, \(then, now\): \{'average': \(0.9, 0.5\)\}"):
        train(Line(replace(RECIPE, average=0.5)), tmp_path, loader_workers=0)
    train(Line(replace(RECIPE, steps=11)), tmp_path, loader_workers=0)
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 11


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    task = Line(RECIPE)
    with torch.no_grad():
        next(task.model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="the loss is nan at step 9; lower the learning rate"):
        train(task, tmp_path, loader_workers=0)
    assert load_checkpoint(tmp_path) is None


def test_a_plan_measures_updates_and_leaves_the_model_alone() -> None:
    task = Line(replace(RECIPE, steps=3600))
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    plan = measure(task, Worker(world=2), seconds=0.0)
    assert plan.measured == 2
    assert plan.steps_epoch == 1
    assert plan.seconds_step > 0
    assert plan.checkpoint_bytes > 1000
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
    assert str(replace(plan, seconds_step=1.5)).startswith("3600 steps of 1.50 s (2 measured): 1:30:00;")


def test_rates_and_orders() -> None:
    assert [cosine(step, 20, 10) for step in (0, 9, 10)] == [0.1, 1.0, 1.0]
    assert cosine(15, 20, 10) == pytest.approx(0.5)
    assert clock(3661.2) == "1:01:01"
    whole = shuffled(5, seed=3, start=0, length=15)
    assert [sorted(whole[start : start + 5]) for start in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert whole[:5] != whole[5:10]
    assert shuffled(5, 3, 4, 6) == whole[4:10]
    assert shuffled(5, 4, 0, 15) != whole

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.predictor.frame import content_hw, to_frame
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling
from aopsam.predictor.targets import prompt_map
from aopsam.predictor.weights import load_predictor
from aopsam.prompting.asf import adaptive_sampling
from aopsam.sam.encode import encode
from aopsam.training.annotated import Annotated
from aopsam.training.calibration import calibrate_threshold, median_prompts
from aopsam.training.checkpoint import load_checkpoint
from aopsam.training.map_losses import MAP_LOSSES, masked_mean
from aopsam.training.predictor import PredictorTask, collate, confidence_maps
from aopsam.training.prompted_photos import PromptedPhotos
from aopsam.training.recipes import PredictorRecipe
from aopsam.training.trainer import train
from tests.helpers.free_photos import free_photos
from tests.helpers.made_scenes import made_scene

SIZE = 48


class Discs:
    """Photos of bright discs on black; the target peaks at each centre, the embedding says nothing."""

    def __init__(self, count: int, *, valid: bool = True) -> None:
        self.rows = []
        random = np.random.default_rng(0)
        y, x = np.mgrid[:SIZE, :SIZE]
        for _ in range(count):
            centres = random.integers(8, SIZE - 8, (2, 2)).astype(float)
            image = np.zeros((SIZE, SIZE, 3), np.uint8)
            for centre in centres:
                image[np.hypot(x - centre[0], y - centre[1]) < 6] = 255
            self.rows.append(
                {
                    "image": image,
                    "content_hw": np.array([SIZE, SIZE]),
                    "embedding": random.normal(size=(4, 4, 4)).astype(np.float16),
                    "map": prompt_map(centres, (SIZE, SIZE), SIZE, sigma=2.0).astype(np.float16),
                    "valid": np.full((SIZE, SIZE), valid, np.uint8),
                    "weight": np.array(1, np.float32),
                }
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.rows[index]


SHORT = PredictorRecipe(steps=6, batch=2, accumulate=2, warmup=2)


def trained(photos: Discs, recipe: PredictorRecipe, folder: Path) -> PromptPredictor:
    task = PredictorTask(photos, recipe)
    task.model.load_state_dict(train(task, folder, loader_workers=0))
    return task.model.eval()


def test_the_loss_is_the_mean_over_valid_pixels_of_the_squared_error() -> None:
    logits = torch.zeros(2, 2, 2)  # sigmoid: 0.5
    target = torch.tensor([[[1.0, 1.0], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])
    valid = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])
    error = MAP_LOSSES["mse"](logits, target)
    assert masked_mean(error, valid, torch.ones(2)) == pytest.approx((0.25 + 2 * 0.25) / 8)
    assert masked_mean(error, valid, torch.tensor([2.0, 0.0])) == pytest.approx(2 * 0.25 / 8)


@pytest.mark.parametrize("name", MAP_LOSSES)
def test_every_loss_is_least_at_the_target(name: str) -> None:
    target = torch.tensor([0.0, 0.2, 0.7, 1.0])
    at = torch.logit(target, eps=1e-6)
    losses = torch.stack([MAP_LOSSES[name](at + shift, target) for shift in (-1.0, 0.0, 1.0)])
    assert (losses[1] <= losses[[0, 2]] + 1e-6).all()
    torch.testing.assert_close(losses[1], torch.zeros(4), atol=1e-5, rtol=0)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="loss='l1'; choose from mse, cross-entropy, focal"):
        PredictorRecipe(loss="l1")


def test_it_learns_where_the_discs_are(tmp_path: Path) -> None:
    photos = Discs(4)
    recipe = replace(SHORT, steps=40, accumulate=1, warmup=5, average=0.9, learning_rate=4e-3)
    predictor = trained(photos, recipe, tmp_path)
    row = photos[0]
    learnt = predictor(*collate([row]).inputs()).detach().sigmoid().numpy()[0, 0]
    bright = row["image"][..., 0] > 0
    assert learnt[bright].mean() > 3 * learnt[~bright].mean()


def test_validation_keeps_the_weights_with_the_least_loss_on_what_is_held_out(tmp_path: Path) -> None:
    task = PredictorTask(Discs(4), replace(SHORT, steps=4), held_out=Discs(2))
    train(task, tmp_path, loader_workers=0, validate_every=1)
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["part"] == "validation"]
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert len(losses) == 4
    assert state["best"]["step"] == 1 + int(np.argmin(losses))


def test_validation_with_photos_counts_masks_and_prompts(tiny: Sam) -> None:
    photo = made_scene(0)
    rows = Discs(0)
    rows.rows = [map_row(tiny, photo)]
    task = PredictorTask(rows, SHORT, rows, PromptedPhotos(tiny, [photo]), Sampling(1.0, 1.0, 1), prompts=6)
    validation = task.validate(task.model.eval())
    assert validation is not None
    assert validation.score == validation.figures["miou"]
    assert 0 <= validation.score <= 1
    assert validation.figures["prompts"] >= 1
    assert validation.pictures["map_0"].shape[2] == 3


def test_a_predictor_is_judged_by_its_points_and_not_by_things(tiny: Sam) -> None:
    photos, predictor = PromptedPhotos(tiny, free_photos()[:1]), load_predictor()
    (points,), (all_of_them,) = photos.per_photo(predictor, things=0), photos.per_photo(predictor)
    assert photos.judge(predictor) == points
    assert points["prompts"] < all_of_them["prompts"]


def map_row(sam: Sam, photo: Annotated) -> dict[str, np.ndarray]:
    height, width = photo.rgb.shape[:2]
    target, valid = np.zeros((256, 256), np.float16), np.zeros((256, 256), np.uint8)
    rows, columns = content_hw((height, width))
    valid[:rows, :columns] = 1
    return {
        "image": to_frame(photo.rgb),
        "content_hw": np.array([rows, columns]),
        "embedding": encode(sam, photo.rgb).embedding[0].half().numpy(),
        "map": target,
        "valid": valid,
        "weight": np.array(1, np.float32),
    }


def test_a_training_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    before = trained(Discs(2), replace(SHORT, steps=1), tmp_path)
    task = PredictorTask(Discs(2), replace(SHORT, seed=1), start=before)
    for name, tensor in task.model.state_dict().items():
        torch.testing.assert_close(tensor, before.state_dict()[name], rtol=0, atol=0)
    train(task, tmp_path / "on", stop_at=1, loader_workers=0)
    assert not torch.equal(task.model.state_dict()["embedding.weight"], before.state_dict()["embedding.weight"])


def test_no_rows_are_no_training() -> None:
    with pytest.raises(ValueError, match="no prompt maps"):
        PredictorTask(Discs(0), SHORT)


def test_the_threshold_gives_the_wanted_median() -> None:
    random = np.random.default_rng(0)
    maps = [random.random((120, 160)).astype(np.float32) for _ in range(9)]
    sampling = calibrate_threshold(maps, Sampling(smoothing_sigma=1.5, spacing=4), prompts=40)
    counts = [len(adaptive_sampling(m, smoothing_sigma=1.5, spacing=4, threshold=sampling.threshold)[0]) for m in maps]
    assert abs(np.median(counts) - 40) <= 2
    assert median_prompts(maps, sampling) == int(np.median(counts))
    assert median_prompts([np.zeros((8, 8), np.float32)], sampling) == 1
    with pytest.raises(ValueError, match="no maps"):
        calibrate_threshold([], sampling, 40)


def test_calibration_reads_the_maps_of_complete_photos_where_there_are_any(tmp_path: Path) -> None:
    complete, sparse = Discs(2), Discs(3, valid=False)
    predictor = trained(complete, replace(SHORT, steps=1), tmp_path)
    both = Discs(0)
    both.rows = complete.rows + sparse.rows
    assert len(confidence_maps(predictor, both)) == 2
    assert len(confidence_maps(predictor, sparse)) == 3

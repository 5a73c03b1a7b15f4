from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aopsam.predictor.sampling import Sampling
from aopsam.predictor.targets import prompt_map
from aopsam.prompting.asf import adaptive_sampling
from aopsam.training.calibration import calibrate_threshold, confidence_maps
from aopsam.training.predictor import PredictorRecipe, collate, masked_mse, row_indices, train_predictor

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


SHORT = PredictorRecipe(steps=6, batch=2, accumulate=2, warmup=2, checkpoint_every=2)


def test_the_loss_is_the_mean_over_valid_pixels_of_the_squared_error() -> None:
    logits = torch.zeros(2, 1, 2, 2)  # sigmoid: 0.5
    target = torch.tensor([[[1.0, 1.0], [0.5, 0.5]], [[0.0, 0.0], [0.0, 0.0]]])
    valid = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])
    assert masked_mse(logits, target, valid, torch.ones(2)) == pytest.approx((0.25 + 2 * 0.25) / 8)
    assert masked_mse(logits, target, valid, torch.tensor([2.0, 0.0])) == pytest.approx(2 * 0.25 / 8)


def test_rows_are_shuffled_epochs_whatever_the_cut() -> None:
    whole = row_indices(5, seed=3, start=0, length=15)
    assert [sorted(whole[start : start + 5]) for start in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert whole[:5] != whole[5:10]
    assert row_indices(5, 3, 4, 6) == whole[4:10]
    assert row_indices(5, 4, 0, 15) != whole


def test_it_learns_where_the_discs_are(tmp_path: Path) -> None:
    photos = Discs(4)
    recipe = replace(SHORT, steps=40, accumulate=1, warmup=5, ema=0.9, learning_rate=4e-3)
    losses: list[float] = []
    predictor = train_predictor(
        photos, replace(recipe, checkpoint_every=10), tmp_path, on_checkpoint=lambda _, loss: losses.append(loss)
    )
    assert losses[-1] < 0.6 * losses[0]
    row = photos[0]
    batch = collate([row], "cpu")
    learnt = predictor(batch["image"], batch["embedding"]).detach().sigmoid().numpy()[0, 0]
    bright = row["image"][..., 0] > 0
    assert learnt[bright].mean() > 3 * learnt[~bright].mean()


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path) -> None:
    photos = Discs(6)
    unbroken = train_predictor(photos, SHORT, tmp_path / "unbroken")

    class Killed(Exception):
        pass

    def kill(step: int, loss: float) -> None:
        if step == 4:
            raise Killed

    with pytest.raises(Killed):
        train_predictor(photos, SHORT, tmp_path / "killed", on_checkpoint=kill)
    resumed = train_predictor(photos, SHORT, tmp_path / "killed")
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    train_predictor(Discs(2), replace(SHORT, steps=1), tmp_path)
    with pytest.raises(ValueError, match="trained with steps=1, not 6"):
        train_predictor(Discs(2), SHORT, tmp_path)


def test_no_rows_are_no_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no prompt maps"):
        train_predictor(Discs(0), SHORT, tmp_path)


def test_the_threshold_gives_the_wanted_median() -> None:
    random = np.random.default_rng(0)
    maps = [random.random((120, 160)).astype(np.float32) for _ in range(9)]
    sampling = calibrate_threshold(maps, Sampling(smoothing_sigma=1.5, spacing=4), prompts=40)
    counts = [len(adaptive_sampling(m, smoothing_sigma=1.5, spacing=4, threshold=sampling.threshold)[0]) for m in maps]
    assert abs(np.median(counts) - 40) <= 2
    with pytest.raises(ValueError, match="no maps"):
        calibrate_threshold([], sampling, 40)


def test_calibration_reads_the_maps_of_complete_photos_where_there_are_any(tmp_path: Path) -> None:
    complete, sparse = Discs(2), Discs(3, valid=False)
    predictor = train_predictor(complete, replace(SHORT, steps=1), tmp_path)
    both = Discs(0)
    both.rows = complete.rows + sparse.rows
    assert len(confidence_maps(predictor, both)) == 2
    assert len(confidence_maps(predictor, sparse)) == 3

"""Train a predictor for a comparison, and judge it: what map_ablation.py and curation.py share; not run by itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aopsam.predictor.sampling import Sampling
from aopsam.training.calibration import calibrate_threshold
from aopsam.training.predictor import PredictorTask, PromptMaps, confidence_maps
from aopsam.training.prompted_photos import PromptedPhotos
from aopsam.training.recipes import PredictorRecipe
from aopsam.training.trainer import train

SAMPLING = Sampling(smoothing_sigma=1.0, spacing=1)
"""Smoothing and spacing of pipelines/train_predictor.py."""


def scores(
    training: PromptMaps, held_out: PromptMaps, recipe: PredictorRecipe, photos: PromptedPhotos, prompts: int
) -> list[dict[str, float]]:
    """Train a predictor once and judge it; return a row a photo, see `PromptedPhotos.per_photo`.

    Args:
        training: rows to train on.
        held_out: rows that the threshold is chosen on.
        recipe: hyper-parameters.
        photos: photos to judge on.
        prompts: median of prompts a photo that the threshold is chosen for.
    """
    task = PredictorTask(training, recipe)
    with tempfile.TemporaryDirectory() as folder:
        task.model.load_state_dict(train(task, Path(folder)))
    predictor = task.model.eval()
    predictor.sampling = calibrate_threshold(confidence_maps(predictor, held_out), SAMPLING, prompts)
    return photos.per_photo(predictor)

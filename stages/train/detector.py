"""Build the detector's training from folders of prompt maps, in any process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from aopsam.detector.network import BoxDetector
from aopsam.detector.weights import save_detector
from aopsam.training.detector import DetectorTask
from aopsam.training.recipes import DetectorRecipe
from stages.prompt_maps.rows import PromptMapRows
from stages.storage.atomic import write_path


def detector_task(folders: Sequence[str], recipe: DetectorRecipe) -> DetectorTask:
    """Build the detector's training task; its model records the SAM whose embeddings it reads.

    Raises:
        ValueError: too few rows, folders without prompt maps, or prompt maps without objects.
        OSError: a file cannot be read.
    """
    training, held_out = PromptMapRows(folders).split()
    training.objects(0)  # so that maps without objects are refused here
    task = DetectorTask(training, recipe, held_out)
    task.model.sam, task.model.sam_sha256 = training.sam, training.sam_sha256
    return task


def write_detector(detector: BoxDetector, recipe: DetectorRecipe, rows: int, uri: str) -> None:
    """Write a detector's weights, with the recipe and the number of rows that it was trained on."""
    notes = {f"recipe_{name}": str(value) for name, value in asdict(recipe).items()}
    with write_path(uri) as path:
        save_detector(detector, path, notes | {"rows": str(rows)})

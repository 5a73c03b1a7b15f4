"""Build the detector's training from folders of prompt maps, in any process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from aopsam.detector.network import BoxDetector
from aopsam.detector.weights import save_detector
from aopsam.training.detector import DetectorRecipe, DetectorTask
from stages.prompt_maps.rows import PromptMapRows
from stages.storage.atomic import write_bytes


def detector_task(folders: Sequence[str], recipe: DetectorRecipe) -> DetectorTask:
    """The task; its model knows whose embeddings it reads.

    Raises:
        ValueError: too few rows, folders without prompt maps, or prompt maps without objects.
        OSError: something that cannot be read.
    """
    training, held_out = PromptMapRows(folders).split()
    training.objects(0)  # so that maps without objects are refused here
    task = DetectorTask(training, recipe, held_out)
    task.model.sam, task.model.sam_sha256 = training.sam, training.sam_sha256
    return task


def write_detector(detector: BoxDetector, recipe: DetectorRecipe, rows: int, uri: str) -> None:
    """Write a detector's weights, with the recipe and the number of rows that it was trained on."""
    notes = {f"recipe_{name}": str(value) for name, value in asdict(recipe).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.safetensors"
        save_detector(detector, path, notes | {"rows": str(rows)})
        write_bytes(uri, path.read_bytes())

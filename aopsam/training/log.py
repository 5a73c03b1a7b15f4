"""Write the log of a training run: `steps.jsonl`, and curves and pictures for TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Log:
    """Log of a run: lines of `folder/steps.jsonl`, next to the checkpoints, and optionally TensorBoard's events."""

    def __init__(self, folder: Path, curves: str | None, first: int) -> None:
        """Open the log of a run that starts or resumes at update `first`.

        Args:
            folder: folder of the run.
            curves: folder or URI of TensorBoard's events; None for none. Needs the package `tensorboard`.
            first: number of the update; later points that a killed run wrote are hidden in the curves.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = folder / "steps.jsonl"
        self._began = time.monotonic()
        self._writer = None
        if curves is not None:
            from torch.utils.tensorboard import SummaryWriter  # takes seconds to import, and is optional

            self._writer = SummaryWriter(curves, purge_step=first)

    def figures(self, done: int, figures: Mapping[str, float], part: str) -> None:
        """Write one line, and one point of each curve; `part` is `train` or `validation`."""
        line = {"step": done, "part": part} | {name: round(value, 6) for name, value in figures.items()}
        line["seconds"] = round(time.monotonic() - self._began, 1)
        self._write(line)
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(f"{part}/{name}", value, done)

    def problem(self, done: int, problem: str) -> None:
        """Write one line about a photo or mask that is left out; its part is `left out`."""
        self._write({"step": done, "part": "left out", "problem": problem})

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def pictures(self, done: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Write (H, W, 3) uint8 pictures, to TensorBoard only."""
        if self._writer is not None:
            for name, picture in pictures.items():
                self._writer.add_image(name, picture, done, dataformats="HWC")

    def close(self) -> None:
        """Write pending events and close TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()

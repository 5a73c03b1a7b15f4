"""What a training run says of itself: `steps.jsonl`, and curves and pictures for TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np


class Log:
    """Lines of `folder/steps.jsonl`, which travels with the checkpoints, and TensorBoard's events where asked for."""

    def __init__(self, folder: Path, curves: str | None, first: int) -> None:
        """Open the log of a run that begins or goes on at update `first`.

        Args:
            folder: of the run.
            curves: folder or URI of TensorBoard's events; None for none. Needs the package `tensorboard`.
            first: what a killed run wrote beyond it is hidden in the curves.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = folder / "steps.jsonl"
        self._began = time.monotonic()
        self._writer = None
        if curves is not None:
            from torch.utils.tensorboard import SummaryWriter  # an import of seconds, and not everyone's

            self._writer = SummaryWriter(curves, purge_step=first)

    def figures(self, done: int, figures: Mapping[str, float], part: str) -> None:
        """One line, and one point a curve; `part` is `train` or `validation`."""
        line = {"step": done, "part": part} | {name: round(value, 6) for name, value in figures.items()}
        line["seconds"] = round(time.monotonic() - self._began, 1)
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(f"{part}/{name}", value, done)

    def pictures(self, done: int, pictures: Mapping[str, np.ndarray]) -> None:
        """(H, W, 3) uint8 pictures, for TensorBoard alone."""
        if self._writer is not None:
            for name, picture in pictures.items():
                self._writer.add_image(name, picture, done, dataformats="HWC")

    def close(self) -> None:
        """Write what is still waiting."""
        if self._writer is not None:
            self._writer.close()

"""The model that answers every photo with the same masks, as the label actor calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.canned import SECONDS, CannedPhotos
from stages.config.label_config import LabelConfig
from stages.corpus.listing import list_images


def test_it_gives_every_photo_the_same_masks(
    tmp_path: Path, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS, "0")
    for number in range(2):
        Image.fromarray(scene[number * 40 :]).save(tmp_path / f"{number}.png")
    rows = CannedPhotos(LabelConfig(prompts="grid-2"), str(tmp_path), "cpu", 1, 1)(list_images(str(tmp_path)))
    first, second = rows.to_pylist()
    assert first["status"] == second["status"] == "ok"
    assert first["masks"] == second["masks"] != []

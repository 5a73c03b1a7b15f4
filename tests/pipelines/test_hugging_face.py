"""`--sam hf:FOLDER`: a model of `transformers` from a command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aopsam.sam.registry import known_digest
from pipelines import evaluate, label_corpus
from stages.config.command_line import parse
from tests.helpers.in_process import without_ray
from tests.helpers.small_hugging_face import small_model

pytest.importorskip("transformers")


def test_label_corpus_takes_a_folder_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    small_model("sam").save_pretrained(tmp_path / "sam")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        rgb = np.random.default_rng(number).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(tmp_path / f"photos/{number}.png")
    bars = ["--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--box-nms-thresh", "1"]
    words = ["--images", "photos", "--out", "out", "--sam", "hf:sam", "--prompts", "grid-2", *bars]
    assert label_corpus.main(words) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["images"], manifest["prompts_decoded"], manifest["masks"] > 3) == (3, 12, True)
    weights = manifest["configuration"]["weights"]["sam"]
    name = f"hf:{tmp_path / 'sam'}"
    assert manifest["configuration"]["sam"] == weights["name"] == name
    assert weights["sha256"] == known_digest(name)
    words = ["--data", "photos", "--out", "measured", "--prompts", "aop", "--sam", "tiny,hf:sam"]
    assert parse(evaluate.Arguments, words).sam == f"tiny,{name}"

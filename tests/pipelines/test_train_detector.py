from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aopsam.detector.weights import load_detector
from aopsam.prompting import make_strategy
from aopsam.sam.checkpoints import file_sha256
from aopsam.sam.registry import load_sam
from pipelines import build_prompt_maps, train_detector
from tests.helpers.in_process import training_without_ray, without_ray
from tests.helpers.made_shard import jpeg, save_random, two_objects, write_shard

SHORT = ["--steps", "3", "--batch", "2", "--threads", "1", "--checkpoint-every", "2", "--validate-every", "2"]


def test_from_a_shard_to_a_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_ray(monkeypatch)
    training_without_ray(monkeypatch)
    sam, _ = save_random("tiny", tmp_path)
    write_shard(tmp_path / "s.tar", {str(number): (jpeg(number, (96, 128)), two_objects()) for number in range(3, 9)})
    maps, out = str(tmp_path / "maps"), str(tmp_path / "out")
    build = [
        "--data",
        str(tmp_path / "s.tar"),
        "--out",
        maps,
        "--checkpoint",
        str(sam),
        "--actors",
        "1",
        "--threads",
        "1",
    ]
    assert build_prompt_maps.main(build) == 0
    assert train_detector.main(["--data", maps, "--out", out, *SHORT]) == 0
    assert "detector.safetensors for tiny" in capsys.readouterr().out
    path = tmp_path / "out" / "detector.safetensors"
    detector = load_detector(path)
    assert (detector.sam, detector.sam_sha256) == ("tiny", file_sha256(sam))
    make_strategy("oas-box", load_sam("tiny", sam), detector=path)
    # The same command goes on from the last checkpoint, which is the end: the weights stay as they are.
    assert train_detector.main(["--data", maps, "--out", out, *SHORT]) == 0
    again = load_detector(path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in detector.state_dict().items())


def test_wrong_arguments_end_before_ray_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_detector.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "train_detector:" in (said := capsys.readouterr().err)
    assert "build_prompt_maps.py" in said

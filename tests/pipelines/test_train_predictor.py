from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aopsam.predictor.inference import confidence_map
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling
from aopsam.predictor.weights import BUNDLED, load_predictor
from aopsam.sam.checkpoints import file_sha256
from aopsam.training.predictor import choose_sampling
from pipelines import build_prompt_maps, train_predictor
from tests.helpers.in_process import without_ray
from tests.helpers.made_shard import jpeg, save_random, two_objects, write_shard

SHORT = ["--steps", "3", "--batch", "2", "--accumulate", "1", "--prompts", "5", "--threads", "1"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_from_a_shard_to_a_predictor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_ray(monkeypatch)  # the maps; the training is Ray's
    sam, _ = save_random("tiny", tmp_path)
    photos = {str(number): (jpeg(number, (96, 128)), two_objects()) for number in range(3, 9)}
    write_shard(tmp_path / "s.tar", photos | {"bare": (jpeg(9, (96, 128)), [])})
    maps, out = str(tmp_path / "maps"), str(tmp_path / "out")
    build = ["--data", str(tmp_path / "s.tar"), "--out", maps, "--checkpoint", str(sam), "--mirror", "--threads", "1"]
    assert build_prompt_maps.main(build) == 0
    printed = capsys.readouterr()
    assert "prompt maps of 6 photos" in printed.out
    assert "s.tar: bare: no annotated mask" in printed.err
    assert (tmp_path / "maps" / "sheet.png").stat().st_size > 0
    assert build_prompt_maps.main(build) == 0
    assert "nothing to do: 7 photos done, 1 of them failed" in capsys.readouterr().out

    command = ["--data", maps, "--out", out, *SHORT, "--validate", str(tmp_path / "s.tar")]
    assert train_predictor.main(command) == 2
    assert "the maps were made with tiny" in capsys.readouterr().err
    command += ["--checkpoint", str(sam)]
    assert train_predictor.main([*command, "--start", str(BUNDLED)]) == 2
    assert "cannot go on with maps of tiny" in capsys.readouterr().err
    assert train_predictor.main(command) == 0
    assert "3 steps done, best at" in capsys.readouterr().out
    predictor = load_predictor(tmp_path / "out" / "predictor.safetensors")
    assert (predictor.sam, predictor.sam_sha256) == ("tiny", file_sha256(sam))
    assert confidence_map(predictor, np.zeros((96, 128, 3), np.uint8), torch.zeros(1, 256, 32, 32)).ndim == 2


def test_a_given_threshold_is_kept_and_none_is_chosen_for_as_many_prompts() -> None:
    paper = {"smoothing_sigma": 2.0, "spacing": 6}
    job = train_predictor.Arguments(data=("maps",), out="out", threshold=0.3, **paper).job()
    assert job.sampling == Sampling(threshold=0.3, smoothing_sigma=2.0, spacing=6)
    assert job.prompts is None
    assert choose_sampling(PromptPredictor(4), [], job.sampling, job.prompts) == job.sampling
    assert train_predictor.Arguments(data=("maps",), out="out", prompts=7).job().prompts == 7


def test_a_plan_needs_no_ray_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sam, _ = save_random("tiny", tmp_path)
    write_shard(tmp_path / "s.tar", {"a": (jpeg(0, (96, 128)), two_objects())})
    write_shard(tmp_path / "bare.tar", {"a": (jpeg(0, (96, 128)), [])})
    plan = ["--out", str(tmp_path / "maps"), "--checkpoint", str(sam), "--threads", "1", "--plan", "--data"]
    assert build_prompt_maps.main([*plan, str(tmp_path / "s.tar")]) == 0
    assert "rows of" in capsys.readouterr().out
    assert build_prompt_maps.main([*plan, str(tmp_path / "bare.tar")]) == 3
    assert "no photo could be used" in capsys.readouterr().err
    assert build_prompt_maps.main([*plan, str(tmp_path / "s.tar"), "--actors", "3"]) == 0
    assert "with 3 actor(s)" in capsys.readouterr().out
    assert not (tmp_path / "maps").exists()


def test_wrong_arguments_end_before_ray_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert build_prompt_maps.main(["--data", str(tmp_path / "none"), *out]) == 2
    assert "no shard" in capsys.readouterr().err
    write_shard(tmp_path / "s.tar", {})
    assert build_prompt_maps.main(["--data", str(tmp_path / "s.tar"), *out, "--sam", "huge"]) == 2
    assert "unknown SAM 'huge'" in capsys.readouterr().err
    assert build_prompt_maps.main(["--data", str(tmp_path / "s.tar"), *out, "--only", str(tmp_path / "s.tar")]) == 2
    assert "s.tar: not a table with the columns image_id" in capsys.readouterr().err
    assert train_predictor.main(["--data", str(tmp_path), *out]) == 2
    assert "build_prompt_maps.py" in capsys.readouterr().err

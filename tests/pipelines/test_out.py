"""An OUT that cannot be written ends every pipeline before its work: one line, status 2, nothing left behind."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.made_labels import made_out
from tests.helpers.made_shard import jpeg, two_objects, write_shard

FLAGS = {
    "browse_labels": ["--labels", "run/out"],
    "build_edge_maps": ["--data", "s.tar", "--hed", "hed.safetensors"],
    "build_prompt_maps": ["--data", "s.tar"],
    "calibrate": ["--data", "s.tar", "--limit", "2"],
    "compare_labels": ["--labels", "run/out", "--with", "run/out"],
    "curate": ["--data", "s.tar", "--keep", "1"],
    "distill_encoder": ["--data", "photos", "--method", "decoupled", "--teacher", "tiny", "--student", "tiny"],
    "evaluate": ["--data", "s.tar", "--sam", "tiny", "--prompts", "grid-2"],
    "export_labels": ["--labels", "run/out", "--to", "coco"],
    "export_onnx": ["--sam", "tiny"],
    "import_labels": ["--labels", "run/out", "--from", "coco", "--file", "corrected.json"],
    "label_corpus": ["--images", "photos", "--prompts", "grid-2"],
    "reproduce": ["--data", "coco=s.tar", "--sam", "tiny", "--tables", "amr-2"],
    "train_detector": ["--data", "maps"],
    "train_mask_head": ["--data", "s.tar"],
    "train_predictor": ["--data", "maps"],
    "train_sam": ["--data", "s.tar"],
    "train_scorer": ["--data", "s.tar"],
    "train_thing_head": ["--data", "s.tar", "--teacher", "nanodet.safetensors"],
}
WRITTEN = {
    "browse_labels": "index.html",
    "build_edge_maps": "sheet.png",
    "build_prompt_maps": "sheet.png",
    "calibrate": "config.yaml",
    "compare_labels": "index.html",
    "curate": "cover.png",
    "distill_encoder": "student.safetensors",
    "evaluate": "index.html",
    "export_labels": "instances.json",
    "export_onnx": "model.json",
    "import_labels": "changes.parquet",
    "label_corpus": "report.html",
    "reproduce": "index.html",
    "train_detector": "detector.safetensors",
    "train_mask_head": "mask_head.safetensors",
    "train_predictor": "predictor.safetensors",
    "train_sam": "tiny.safetensors",
    "train_scorer": "scorer.safetensors",
    "train_thing_head": "thing_head.safetensors",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_shard(tmp_path / "s.tar", {"1": (jpeg(1, (96, 128)), two_objects())})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_bytes(jpeg(1, (96, 128)))
    (tmp_path / "run").mkdir()
    made_out(tmp_path / "run")
    (tmp_path / "taken").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_pipeline_that_writes_is_here() -> None:
    others = {"verify_labels", "registry", "retrain"}  # these two write into a registry: test_retrain.py
    assert set(FLAGS) == {path.stem for path in (ROOT / "pipelines").glob("*.py")} - others


@pytest.mark.parametrize("out", ["taken", "taken/x", "instead", "/proc/run"])
@pytest.mark.parametrize("name", FLAGS)
def test_an_out_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str], name: str, out: str) -> None:
    (folder / "instead" / WRITTEN[name]).mkdir(parents=True)
    before = sorted(folder.rglob("*"))
    main = importlib.import_module(f"pipelines.{name}").main
    assert main([*FLAGS[name], "--out", out]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{name}: ")
    assert Path(out).name in said
    assert "cannot be written" in said or f"{WRITTEN[name]} is a folder there" in said
    assert sorted(folder.rglob("*")) == before
    assert (folder / "taken").read_text() == "mine"


FOLDERS = {
    "build_prompt_maps": ["index"],
    "curate": ["parts"],
    "evaluate": ["plots", "parts"],
    "label_corpus": ["labels"],
    "distill_encoder": ["train", "tensorboard"],
    "train_detector": ["train", "tensorboard"],
    "train_mask_head": ["train", "tensorboard"],
    "train_predictor": ["train", "tensorboard"],
    "train_sam": ["train", "tensorboard"],
    "train_scorer": ["parts"],
    "train_thing_head": ["train", "tensorboard"],
}
FILES = {
    "build_edge_maps": ["sheet.png"],
    "build_prompt_maps": ["sheet.png", "manifest.json"],
    "calibrate": ["config.yaml", "table.md", "pareto.svg", "index.html", "calibration.json"],
    "curate": ["sheet.png", "cover.png", "manifest.json"],
    "evaluate": ["metrics.parquet", "index.html", "evaluation.json", "table.md", "manifest.json"],
    "export_onnx": ["encoder.onnx", "proposer_encoder.onnx", "model.json"],
    "import_labels": ["changes.parquet", "corrections.json"],
    "label_corpus": ["manifest.json", "report.html"],
    "reproduce": ["index.html", "tables.md", "reproduction.json"],
}


@pytest.mark.parametrize("name", FLAGS)
def test_everything_that_a_pipeline_writes_is_tried_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    main = importlib.import_module(f"pipelines.{name}").main
    for written in [*FOLDERS.get(name, []), *FILES.get(name, [])]:
        out = folder / f"out-{written}"
        out.mkdir()
        if written in FOLDERS.get(name, []):
            (out / written).write_text("mine")
        else:
            (out / written).mkdir()
        assert main([*FLAGS[name], "--out", str(out)]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"{name}: {out}")
        assert written in said
        assert [path.name for path in out.rglob("*")] == [written]


@pytest.mark.parametrize("name", FLAGS)
def test_a_full_disk_is_found_before_the_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    before = sorted(folder.rglob("*"))
    assert importlib.import_module(f"pipelines.{name}").main([*FLAGS[name], "--out", "new/deep"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"{name}: {folder}/new/deep: cannot be written (No space left on device); give an --out that can be"
    assert sorted(folder.rglob("*")) == before


def test_a_training_into_a_folder_that_ray_cannot_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.train_sam import main

    assert main([*FLAGS["train_sam"], "--out", os.fsdecode(b"caf\xe9")]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "caf%E9: not UTF-8" in said


def test_an_export_into_odd_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.export_labels import main

    for out in ("taken::2", os.fsdecode(b"caf\xe9")):
        assert main(["--labels", "run/out", "--to", "coco", "--out", out]) == 0
        assert (folder / out / "instances.json").exists()
    assert (folder / "taken").read_text() == "mine"
    assert "exported" in capsys.readouterr().out

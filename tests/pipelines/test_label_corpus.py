"""`label_corpus.py` from photos to tables, with the bundled model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import export_labels, label_corpus, verify_labels
from stages.results.read import read_labels
from tests.helpers import ROOT
from tests.helpers.in_process import without_ray
from tests.helpers.odd_files import build_odd_files

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
SAMPLES = ROOT / "samples"
GRID = ("--prompts", "grid-3", "--actors", "1", "--threads", "1")


def _rows(out: Path) -> dict[str, dict]:
    rows = pa.concat_tables(read_labels(str(out))).to_pylist()
    assert len(rows) == len({row["image_id"] for row in rows})
    return {row["image_id"]: row for row in rows}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("chelsea.jpg", "coffee.jpg"):
        shutil.copy(SAMPLES / name, folder)
    return folder


@pytest.fixture(scope="module")
def out(photos: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: str) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert label_corpus.main(["--images", str(photos), "--out", str(out), *GRID]) == 0
    return out


def test_rows_manifest_and_report(out: Path) -> None:
    rows = _rows(out)
    assert {row["file_name"]: row["status"] for row in rows.values()} == {"chelsea.jpg": "ok", "coffee.jpg": "ok"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["state"] == "finished"
    assert manifest["images"] == 2
    assert manifest["masks"] == sum(len(row["masks"]) for row in rows.values())
    assert manifest["prompts_decoded"] == 18
    assert len(manifest["configuration"]["weights"]["sam"]["sha256"]) == 64
    assert manifest["bound_by"]["stage"] in manifest["stages"] | manifest["reading"]
    assert manifest["actors"]["number"] == 1
    assert manifest["actors"]["images"] == 2
    assert "while the model works: read" in (out / "report.html").read_text()
    assert "coffee.jpg" in (out / "report.html").read_text()


def test_a_plan_says_the_cost_and_writes_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert label_corpus.main(["--images", str(photos), "--out", str(out), *GRID, "--plan"]) == 0
    assert "2 to label" in capsys.readouterr().out
    assert not out.exists()


def test_what_was_written_verifies_and_exports(photos: Path, out: Path, tmp_path: Path) -> None:
    assert verify_labels.main(["--images", str(photos), "--labels", str(out)]) == 0
    assert export_labels.main(["--labels", str(out), "--to", "coco", "--out", str(tmp_path)]) == 0


def test_the_same_command_again_is_a_no_op_that_says_so(
    photos: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert label_corpus.main(["--images", str(photos), "--out", str(out), *GRID]) == 0
    assert "nothing to do: all 2 images" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


def test_another_configuration_is_refused_with_the_difference(
    photos: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label_corpus.main(["--images", str(photos), "--out", str(out), "--prompts", "random-3"]) == 2
    assert "prompts: 'grid-3' there, 'random-3' now" in capsys.readouterr().err


def test_a_lost_file_is_made_again_with_the_same_masks(
    photos: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch)
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    lost = next((copy / "labels").glob("*.parquet"))
    lost.write_bytes(b"PAR1 cut")
    assert label_corpus.main(["--images", str(photos), "--out", str(copy), *GRID]) == 0
    masks = [{i: row["masks"] for i, row in _rows(folder).items()} for folder in (out, copy)]
    assert masks[0] == masks[1]


def test_masks_do_not_depend_on_actors_or_units_and_no_line_is_rays(
    photos: Path, out: Path, tmp_path: Path, ray_session: str, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prompts", "grid-3", "--actors", "2", "--threads", "1", "--rows-per-file", "2"]
    assert label_corpus.main(["--images", str(photos), "--out", str(tmp_path), *arguments]) == 0
    masks = [{i: row["masks"] for i, row in _rows(folder).items()} for folder in (out, tmp_path)]
    assert masks[0] == masks[1]
    written = capfd.readouterr()
    assert (ray_session + written.out).startswith("labelling photos: tiny, ")
    assert not re.search(r"\w\.(cc|h|py):\d+", written.err)


def test_odd_files_are_rows_with_a_true_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    expected = build_odd_files(images)
    arguments = ["--images", str(images), "--out", str(out), "--prompts", "grid-2", "--actors", "1", "--threads", "1"]
    assert label_corpus.main(arguments) == 0
    rows = _rows(out)
    assert rows.keys() == {row.image_id for row in expected.values()}
    for name, row in expected.items():
        found = rows[row.image_id]
        assert found["status"] in row.statuses, (name, found["message"])
        assert found["reason"] in row.reasons, (name, found["message"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert verify_labels.main(["--images", str(images), "--labels", str(out)]) == 0


def test_too_many_failures_are_exit_status_3(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    base = ["--images", str(images), "--prompts", "grid-1", "--actors", "1", "--threads", "1"]
    assert label_corpus.main([*base, "--out", str(tmp_path / "a"), "--max-failed", "0.2"]) == 3
    assert label_corpus.main([*base, "--out", str(tmp_path / "a"), "--max-failed", "0.5"]) == 0


def test_nothing_that_could_be_labelled_is_exit_status_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.png").write_bytes(b"")
    arguments = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "out"), *GRID]
    assert label_corpus.main(arguments) == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--sam", "vit_x"), "vit_x"),
        (("--prompts", "everything"), "grid-N, random-N, aop"),
        (("--checkpoint", "/nowhere/sam.pth"), "/nowhere/sam.pth"),
        (("--predictor", "/nowhere/p.safetensors"), "/nowhere/p.safetensors"),
        (("--config", "/nowhere/run.yaml"), "/nowhere/run.yaml"),
        (("--images", "/nowhere"), "/nowhere"),
    ],
)
def test_wrong_arguments_are_exit_status_2_before_any_work(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, str], words: str
) -> None:
    out = tmp_path / "out"
    assert label_corpus.main(["--images", str(photos), "--out", str(out), *flags]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_without_photos_is_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert label_corpus.main(["--images", str(empty), "--out", str(tmp_path / "out")]) == 2
    assert "no photos there; give a folder" in capsys.readouterr().err
    (empty / "a.nef").touch()
    assert label_corpus.main(["--images", str(empty), "--out", str(tmp_path / "out")]) == 2
    assert "no photos there (1 other file not looked at (.nef 1)); give a folder" in capsys.readouterr().err

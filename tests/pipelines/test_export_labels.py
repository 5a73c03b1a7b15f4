from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.export_labels import main
from tests.helpers.made_labels import made_out


def test_exports_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = made_out(tmp_path)
    assert main(["--labels", str(out), "--to", "coco", "--out", str(tmp_path / "coco")]) == 0
    assert capsys.readouterr().out.startswith("exported 4 images, 12 annotations to ")
    assert len(json.loads((tmp_path / "coco" / "instances.json").read_text())["images"]) == 4


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--labels", str(tmp_path), "--to", "coco", "--out", str(tmp_path / "coco")]) == 2
    assert "no labels/*.parquet there" in capsys.readouterr().err
    assert not (tmp_path / "coco").exists()
    assert main(["--labels", str(tmp_path), "--to", "nothing", "--out", "x"]) == 2
    assert "--to nothing; choose from coco" in capsys.readouterr().err

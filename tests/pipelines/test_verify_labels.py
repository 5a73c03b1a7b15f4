from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.verify_labels import main
from stages.corpus.listing import list_images
from tests.helpers.made_labels import disc, label_row, mask_record, write_labels


def made_run(folder: Path) -> tuple[list[str], Path]:
    """Two photos and their labels under the ids of the real listing: (arguments, the labels file)."""
    images, out = folder / "images", folder / "out"
    (images / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/a.png"):
        Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(images / name)
    rows = [
        label_row(row["file_name"], row["uri"], 60, 40, [mask_record(disc(40, 60, 9, 9, 5), (9, 9))])
        | {"image_id": row["image_id"]}
        for row in list_images(str(images)).to_pylist()
    ]
    write_labels(rows, out / "labels" / "x.parquet")
    return ["--images", str(images), "--labels", str(out)], out / "labels" / "x.parquet"


def test_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, _ = made_run(tmp_path)
    assert main(arguments) == 0
    assert capsys.readouterr().out == "verified 2 images, 2 masks\n"
    (tmp_path / "images" / "notes.txt").touch()
    assert main(arguments) == 0
    assert capsys.readouterr().out == "1 other file not looked at (.txt 1)\nverified 2 images, 2 masks\n"


def test_a_mismatch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, _ = made_run(tmp_path)
    (tmp_path / "images" / "late.png").write_bytes((tmp_path / "images" / "a.png").read_bytes())
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == "late.png: 0 rows, must be 1\n"
    assert printed.err == "1 mismatches in 3 images, 2 masks\n"


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, labels = made_run(tmp_path)
    labels.unlink()
    assert main(arguments) == 2
    assert "no labels/*.parquet there" in capsys.readouterr().err
    assert main(["--images", str(tmp_path / "nowhere"), "--labels", arguments[3]]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["--labels", "x"]) == 2
    assert capsys.readouterr().err.startswith("verify_labels: --images is needed: Photos, ")

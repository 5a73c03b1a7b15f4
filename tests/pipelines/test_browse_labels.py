from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import browse_labels, compare_labels
from tests.helpers.made_gallery import made_run


def test_writes_beside_the_labels_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out, _ = made_run(tmp_path)
    assert browse_labels.main(["--labels", f"{out}/labels", "--images", str(images)]) == 0
    assert capsys.readouterr().out == f"7 photos, 12 masks: {out}/gallery/index.html\n"
    assert (out / "gallery" / "index.html").exists()


def test_a_comparison_is_a_table_and_a_page_if_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out, _ = made_run(tmp_path)
    assert compare_labels.main(["--labels", str(out), "--with", f"{out}/labels", "--iou", "0.9"]) == 0
    told = capsys.readouterr().out
    assert "7 photos: 12 masks in both (IoU >= 0.9), 0 only in A, 0 only in B; mean agreement 1.000" in told
    page = ["--out", str(tmp_path / "page"), "--images", str(images)]
    assert compare_labels.main(["--labels", str(out), "--with", str(out), *page]) == 0
    assert f"page: {tmp_path}/page/index.html" in capsys.readouterr().out


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert browse_labels.main(["--labels", str(tmp_path), "--out", str(tmp_path / "gallery")]) == 2
    assert "no labels/*.parquet there" in capsys.readouterr().err
    _, out, _ = made_run(tmp_path)
    assert browse_labels.main(["--labels", str(out), "--images", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (out / "gallery").exists()
    assert compare_labels.main(["--labels", str(out), "--with", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no labels/*.parquet there" in capsys.readouterr().err

"""pipelines/evaluate.py as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.evaluate import main
from schemas.metrics import SCHEMA
from tests.helpers import ROOT
from tests.helpers.made_shard import jpeg, save_random, two_objects, write_shard

HW = (96, 128)


@pytest.mark.ray
@pytest.mark.slow
def test_one_run_writes_table_json_and_metrics(tmp_path: Path) -> None:
    sam, predictor = save_random("tiny", tmp_path)
    photos = {f"p{i}": (jpeg(i, HW), two_objects()) for i in range(3)}
    shard = write_shard(tmp_path / "x.tar", photos | {"broken": (b"", two_objects())})
    arguments = ["--data", shard, "--sam", "tiny", "--prompts", "gt-point,aop(max_prompts=2),random-match,grid-2"]
    arguments += ["--out", tmp_path / "out", "--checkpoint", sam, "--predictor", predictor, "--threads", "1"]
    ran = subprocess.run(
        [sys.executable, ROOT / "pipelines/evaluate.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    assert "3 photos, 6 ground-truth masks" in ran.stdout
    assert "3 photos measured, 1 not" in ran.stdout
    assert "not measured: broken: empty_file" in ran.stdout
    evaluation = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert [entry["prompts"] for entry in evaluation["results"]] == [
        "gt-point",
        "aop(max_prompts=2)",
        "random-match",
        "grid-2",
    ]
    assert [entry["prompts_decoded"] for entry in evaluation["results"]] == [2, 2, 2, 4]
    assert evaluation["weights"]["sam"][0]["thresholds"]["pred_iou_thresh"] == 0
    assert (tmp_path / "out/table.md").read_text() in ran.stdout
    assert "3 photos" in (tmp_path / "out/index.html").read_text()
    metrics = pq.read_table(tmp_path / "out/metrics.parquet")
    assert metrics.schema.equals(SCHEMA, check_metadata=True)
    assert set(metrics.column("image_id").to_pylist()) == {"p0", "p1", "p2", "broken"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "nowhere.tar"}, "nowhere.tar: no shard"),
        ({"--sam": "huge"}, "unknown SAM 'huge'"),
        ({"--prompts": "spiral-3"}, "spiral-3"),
        ({"--checkpoint": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"--predictor": "nowhere.safetensors"}, "nowhere.safetensors: no such predictor"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(
    changes: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sam, _ = save_random("tiny", tmp_path)
    shard = write_shard(tmp_path / "x.tar", {"a": (jpeg(0, HW), two_objects())})
    given = {"--data": str(shard), "--sam": "tiny", "--prompts": "grid-2", "--out": str(tmp_path / "out")}
    given |= {"--checkpoint": str(sam)} | changes
    assert main([part for pair in given.items() for part in pair]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()

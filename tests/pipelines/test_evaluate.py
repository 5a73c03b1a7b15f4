"""pipelines/evaluate.py as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.evaluate import main
from schemas.metrics import SCHEMA
from tests.helpers.in_process import without_ray
from tests.helpers.made_shard import jpeg, save_random, two_objects, write_shard

HW = (96, 128)


def test_one_run_writes_table_json_and_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_ray(monkeypatch)
    sam, predictor = save_random("tiny", tmp_path)
    photos = {f"p{i}": (jpeg(i, HW), two_objects()) for i in range(3)}
    shard = write_shard(tmp_path / "x.tar", photos | {"broken": (b"", two_objects())})
    arguments = ["--data", shard, "--sam", "tiny", "--prompts", "gt-point,aop(max_prompts=2),random-match,grid-2"]
    arguments += ["--out", tmp_path / "out", "--checkpoint", sam, "--predictor", predictor, "--threads", "1"]
    command = [str(word) for word in arguments]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "3 photos, 6 ground-truth masks" in said
    assert "3 photos measured, 1 not" in said
    assert f"not measured: file://{shard}: broken: empty_file" in said
    evaluation = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert [entry["prompts"] for entry in evaluation["results"]] == [
        "gt-point",
        "aop(max_prompts=2)",
        "random-match",
        "grid-2",
    ]
    assert [entry["prompts_decoded"] for entry in evaluation["results"]] == [2, 2, 2, 4]
    assert evaluation["weights"]["sam"][0]["thresholds"]["pred_iou_thresh"] == 0
    assert (tmp_path / "out/table.md").read_text() in said
    assert "3 photos" in (tmp_path / "out/index.html").read_text()
    metrics = pq.read_table(tmp_path / "out/metrics.parquet")
    assert metrics.schema.equals(SCHEMA, check_metadata=True)
    assert set(metrics.column("image_id").to_pylist()) == {"p0", "p1", "p2", "broken"}

    (tmp_path / "out/manifest.json").write_text(
        (tmp_path / "out/manifest.json").read_text().replace('"finished"', '"running"')
    )
    lost = sorted((tmp_path / "out/parts").iterdir())[1]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/parts").iterdir() if path != lost}
    lost.unlink()
    assert main(command) == 0  # goes on
    assert lost.exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again = pq.read_table(tmp_path / "out/metrics.parquet")
    counted = [table.filter(pc.match_substring(table.column("metric"), "prompts")) for table in (metrics, again)]
    assert counted[0].equals(counted[1])
    capsys.readouterr()
    assert main(command) == 0
    assert "nothing to do: 4 photos done, 1 of them failed" in capsys.readouterr().out
    assert main([*command, "--seed", "1"]) == 2
    assert "seed: 0 there, 1 now" in capsys.readouterr().err


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

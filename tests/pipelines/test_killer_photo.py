"""A photo that ends its worker, on a disk and on S3: it alone is a line with its reason, all else is done."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.core import url_to_fs

from pipelines import build_prompt_maps, curate, evaluate
from stages.prompt_maps.rows import PromptMapRows
from tests.helpers.deadly import KILLER, SLEEPER, Deadly
from tests.helpers.made_shard import jpeg, two_objects, write_shard

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

JOBS: dict[str, tuple[Any, str, list[str]]] = {
    "maps": (build_prompt_maps, "stages.prompt_maps.run.BuildPromptMaps", []),
    "evaluation": (evaluate, "stages.evaluate.run.EvaluatePhotos", ["--sam", "tiny", "--prompts", "gt-point"]),
    "curation": (curate, "stages.curate.run.DescribePhotos", ["--keep", "1.0"]),
}


def _done(job: str, out: str) -> set[str]:
    """Ids of the photos of which there are results."""
    if job == "maps":
        names = PromptMapRows([out]).image_ids
        assert len(names) == len(set(names))
        return set(names)
    name = {"evaluation": "metrics.parquet", "curation": "curation.parquet"}[job]
    filesystem, path = url_to_fs(f"{out}/{name}")
    table = pa.table(pq.read_table(filesystem.open(path)))
    if job == "curation":
        return set(table.column("image_id").to_pylist())
    rows = [row for row in table.to_pylist() if row["metric"] in ("miou", "failed")]
    assert len(rows) == len({row["image_id"] for row in rows})
    return {row["image_id"] for row in rows if row["metric"] == "miou"}


@pytest.mark.parametrize(("job", "killer"), [("maps", SLEEPER), ("evaluation", KILLER), ("curation", KILLER)])
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_it_costs_itself_alone(
    job: str, killer: str, place: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, work, flags = JOBS[job]
    monkeypatch.setattr(work, partial(Deadly, getattr(__import__(work.rpartition(".")[0], fromlist=["x"]), work.rpartition(".")[2])))
    names = ["a", killer, "b"]
    shard = write_shard(tmp_path / "s.tar", {name: (jpeg(seed, (96, 128)), two_objects()) for seed, name in enumerate(names)})
    out = str(tmp_path / "out") if place == "disk" else f"{request.getfixturevalue('bucket')}/{job}"
    data = str(shard)
    if place == "s3":
        data = f"{request.getfixturevalue('bucket')}/s.tar"
        filesystem, path = url_to_fs(data)
        filesystem.put_file(str(shard), path)
    command = ["--data", data, "--out", out, "--actors", "1", "--threads", "1", "--max-seconds", "8", *flags]
    assert pipeline.main(command) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    reason = {KILLER: "worker_died: ", SLEEPER: "too_slow: "}[killer]
    assert len(said) == 1
    assert f"s.tar: {killer}: {reason}" in said[0]
    assert _done(job, out) == {"a", "b"}
    assert pipeline.main(command) == 0
    assert "nothing to do: 3 photos done, 1 of them failed" in capsys.readouterr().out

"""A photo that ends its worker, on a disk and on S3: it alone is a line with its reason, all else is done.

Curation runs on the same job (`stages/annotations/job.py`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fsspec.core import url_to_fs

from pipelines import build_prompt_maps, evaluate
from stages.evaluate.actor import EvaluatePhotos
from stages.prompt_maps.actor import BuildPromptMaps
from stages.prompt_maps.rows import PromptMapRows
from tests.helpers.deadly import KILLER, Deadly
from tests.helpers.made_shard import jpeg, two_objects, write_shard

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

JOBS: dict[str, tuple[Any, str, type, list[str]]] = {
    "maps": (build_prompt_maps, "prompt_maps", BuildPromptMaps, []),
    "evaluation": (evaluate, "evaluate", EvaluatePhotos, ["--sam", "tiny", "--prompts", "gt-point"]),
}


def done(job: str, out: str) -> list[str]:
    """Ids of the photos of which there are results."""
    if job == "maps":
        return PromptMapRows([out]).image_ids
    filesystem, path = url_to_fs(f"{out}/metrics.parquet")
    with filesystem.open(path) as file:
        rows = pq.read_table(file).to_pylist()
    return sorted(row["image_id"] for row in rows if row["metric"] == "miou")


@pytest.mark.parametrize(("job", "place"), [("maps", "disk"), ("evaluation", "s3")])
def test_it_costs_itself_alone(
    job: str,
    place: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline, room, work, flags = JOBS[job]
    monkeypatch.setattr(f"stages.{room}.run.{work.__name__}", partial(Deadly, work))
    folder = str(tmp_path)
    photos = {name: (jpeg(seed, (96, 128)), two_objects()) for seed, name in enumerate(["a", KILLER, "b"])}
    shard = write_shard(tmp_path / "s.tar", photos)
    if place == "s3":
        folder = request.getfixturevalue("bucket")
        filesystem, path = url_to_fs(f"{folder}/s.tar")
        filesystem.put_file(str(shard), path)
    command = ["--data", f"{folder}/s.tar", "--out", f"{folder}/out", "--actors", "1", "--threads", "1", *flags]
    assert pipeline.main(command) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert f"s.tar: {KILLER}: worker_died: " in said
    assert done(job, f"{folder}/out") == ["a", "b"]
    assert pipeline.main(command) == 0
    assert "nothing to do: 3 photos done, 1 of them failed" in capsys.readouterr().out

"""A photo that ends its worker costs itself alone: it is a line with its reason, all else is done.

Prompt maps on S3 stand for all jobs over annotated photos, which are one (`stages/annotations/job.py`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from fsspec.core import url_to_fs

from pipelines import build_prompt_maps
from stages.prompt_maps.actor import BuildPromptMaps
from stages.prompt_maps.rows import PromptMapRows
from tests.helpers.deadly import KILLER, Deadly
from tests.helpers.made_shard import jpeg, two_objects, write_shard


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_it_costs_itself_alone(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.prompt_maps.run.BuildPromptMaps", partial(Deadly, BuildPromptMaps))
    photos = {name: (jpeg(seed, (96, 128)), two_objects()) for seed, name in enumerate(["a", KILLER, "b"])}
    shard = write_shard(tmp_path / "s.tar", photos)
    filesystem, path = url_to_fs(f"{bucket}/s.tar")
    filesystem.put_file(str(shard), path)
    command = ["--data", f"{bucket}/s.tar", "--out", f"{bucket}/out", "--actors", "1", "--threads", "1"]
    assert build_prompt_maps.main(command) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert f"s.tar: {KILLER}: worker_died: " in said
    assert PromptMapRows([f"{bucket}/out"]).image_ids == ["a", "b"]
    assert build_prompt_maps.main(command) == 0
    assert "nothing to do: 3 photos done, 1 of them failed" in capsys.readouterr().out

"""Prompt maps after a kill: what is there stays, the rest is made, and a third run finds nothing to do."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import build_prompt_maps
from stages.prompt_maps.actor import BuildPromptMaps
from stages.prompt_maps.files import INDEX
from stages.prompt_maps.rows import PromptMapRows
from tests.helpers import ROOT
from tests.helpers.deadly import KILLER, Deadly
from tests.helpers.in_process import without_ray
from tests.helpers.made_shard import jpeg, two_objects, write_shard

HW = (96, 128)


def shards(folder: Path) -> list[str]:
    """Write two shards, one of them with a photo that ends its worker, and return the names of the other photos."""
    names = {number: [f"{number}-{photo:02}" for photo in range(17)] for number in range(2)}
    names[1].append(KILLER)
    for number, some in names.items():
        write_shard(folder / f"{number}.tar", {name: (jpeg(number, HW), two_objects()) for name in some})
    return sorted(name for some in names.values() for name in some if name != KILLER)


def parts(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_killed_run_goes_on_and_a_photo_that_ends_its_worker_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompt maps stand for all jobs over annotated photos, which are one (`stages/annotations/job.py`)."""
    names, out = shards(tmp_path), tmp_path / "out"
    command = ["--data", f"{tmp_path}/*.tar", "--out", str(out)]
    program = [sys.executable, str(ROOT / "pipelines/build_prompt_maps.py"), *command, "--actors", "1"]
    driver = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob("part-*-000000-*")):
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    for rest in out.glob("part-*-last.parquet"):  # of few photos, done first now and then; one has the deadly photo
        rest.unlink()
    before = parts(out)
    assert len(before) < 4
    (out / f".{min(before)}.{'0' * 32}.part").write_bytes(b"half")
    monkeypatch.setattr("stages.prompt_maps.run.BuildPromptMaps", partial(Deadly, BuildPromptMaps))
    assert build_prompt_maps.main([*command, "--actors", "1", "--threads", "1"]) == 0
    printed = capsys.readouterr()
    assert f"34 photos in {out} (1 problems)" in printed.out
    (said,) = [line for line in printed.err.splitlines() if line.startswith("left out: ")]
    assert f"1.tar: {KILLER}: worker_died: " in said
    assert PromptMapRows([str(out)]).image_ids == names
    after = parts(out)
    assert len(after) == 4
    assert before.items() <= after.items()
    assert not list(out.glob(".*"))
    assert build_prompt_maps.main(command) == 0
    assert "nothing to do: 35 photos done, 1 of them failed" in capsys.readouterr().out
    assert parts(out) == after


def test_what_out_is_of_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_ray(monkeypatch)
    write_shard(tmp_path / "s.tar", {"a": (jpeg(0, HW), two_objects()), "broken": (b"x", two_objects())})
    command = ["--data", f"{tmp_path}/s.tar", "--out", f"{tmp_path}/out"]
    assert build_prompt_maps.main([*command, "--max-failed", "0.4"]) == 3
    assert build_prompt_maps.main([*command, "--max-failed", "0.5"]) == 0
    assert "nothing to do: 2 photos done, 1 of them failed" in capsys.readouterr().out
    assert build_prompt_maps.main([*command, "--mirror"]) == 2
    said = capsys.readouterr().err
    assert "of another configuration; choose another --out" in said
    assert "mirror: False there, True now" in said
    write_shard(tmp_path / "t.tar", {"b": (jpeg(1, HW), two_objects())})
    more = ["--data", f"{tmp_path}/*.tar", "--out", f"{tmp_path}/more"]
    assert build_prompt_maps.main(more) == 0
    write_shard(tmp_path / "u.tar", {"c": (jpeg(2, HW), two_objects())})
    assert build_prompt_maps.main(more) == 0  # of a shard that came later
    indexed = pq.read_table(f"{tmp_path}/more/{INDEX}", columns=["file"]).column(0).to_pylist()
    assert indexed == sorted(parts(tmp_path / "more"))
    assert PromptMapRows([f"{tmp_path}/more"]).image_ids == ["a", "b", "c"]
    (tmp_path / "more/manifest.json").unlink()
    assert build_prompt_maps.main(more) == 2
    assert "holds prompt maps already, or other tables (part-" in capsys.readouterr().err
    pq.write_table(pa.table({"x": [1]}), tmp_path / "out/x.parquet")
    assert build_prompt_maps.main(command) == 2
    assert "holds prompt maps already, or other tables (x.parquet)" in capsys.readouterr().err

"""A labelling job before its first photo, and what is written of it, with folders of odd names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stages.annotations.own_labels import read_labelled
from stages.annotations.shards import list_shards
from stages.config.label_config import LabelConfig
from stages.config.manifest import OtherConfiguration, check_configuration, finished_manifest, write_manifest
from stages.engine.resources import Resources
from stages.label.job import LabelJob
from stages.label.progress import Progress
from stages.label.run import LabelAndWrite
from stages.results.report import write_report
from stages.results.summary import describe, summarise
from stages.results.verify import verify_labels
from tests.helpers.made_shard import jpeg

GRID = LabelConfig(prompts="grid-2")
ODD = ["photos::v2", "a%20b [1]", os.fsdecode(b"photos\xff"), "file:x"]


def photos(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"{number}.jpg").write_bytes(jpeg(number, (96, 128)))
    return folder


@pytest.mark.parametrize("name", ODD)
def test_a_run_below_folders_of_odd_names(tmp_path: Path, name: str) -> None:
    before, _, _ = name.partition("::")
    if before != name:
        (tmp_path / before).write_text("mine")
    images, out = photos(tmp_path / name), f"{tmp_path}/out {name}"
    job = LabelJob.prepare(GRID, str(images), out, 1)
    assert job.undone == 2
    job.begin()
    LabelAndWrite(job.actor(Resources(1, 1, "cpu")), f"{out}/labels")(job.listing)
    progress = Progress(job.undone)
    summary = write_manifest(out, job.configuration, "finished", summarise(out, progress, 1, job.others))
    write_report(out, str(images), summary)
    again = LabelJob.prepare(GRID, str(images), out, 1)
    assert again.undone == 0
    assert again.finished() == summary
    assert verify_labels(job.listing, out, print).mismatches == 0
    problems: list[str] = []
    for uri in list_shards(out):
        list(read_labelled(uri, problems.append))
    assert [line for line in problems if "without masks" not in line] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({before, name, f"out {name}"})


def test_files_that_are_not_looked_at_are_said_before_the_work_and_after_it(tmp_path: Path) -> None:
    images, out = photos(tmp_path / "photos"), str(tmp_path / "out")
    for name in ("a.nef", "b.txt", "c.TXT"):
        (images / name).touch()
    job = LabelJob.prepare(GRID, str(images), out, 1)
    line = "3 other files not looked at (.txt 2, .nef 1)"
    assert str(job) == f"{line}\nlabelling 2 of 2 images: tiny, grid-2 prompts"
    job.begin()
    LabelAndWrite(job.actor(Resources(1, 1, "cpu")), f"{out}/labels")(job.listing)
    summary = write_manifest(out, job.configuration, "finished", summarise(out, Progress(0), 1, job.others))
    assert summary["not_looked_at"] == {".txt": 2, ".nef": 1}
    assert describe(summary).splitlines()[-1] == line
    assert "<dt>.nef</dt>" in Path(write_report(out, str(images), summary)).read_text()


def test_a_root_that_is_not_utf_8_is_the_same_root_again(tmp_path: Path) -> None:
    configuration = {"images": os.fsdecode(b"/photos\xff"), "sam": "tiny"}
    out = f"{tmp_path}/out"
    write_manifest(out, configuration, "finished", {})
    json.loads((tmp_path / "out/manifest.json").read_bytes().decode())
    check_configuration(out, configuration)
    assert (finished_manifest(out) or {})["configuration"] == configuration
    with pytest.raises(OtherConfiguration):
        check_configuration(out, configuration | {"images": os.fsdecode(b"/photos\xfe")})


def test_an_out_that_cannot_be_written_is_found_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.label.job.make_generator", lambda _: pytest.fail("loaded"))
    (tmp_path / "taken").write_text("mine")
    for out in ("taken", "taken/x"):
        with pytest.raises(ValueError, match="cannot be written"):
            LabelJob.prepare(GRID, str(photos(tmp_path / f"photos-{out}")), f"{tmp_path}/{out}", 1)


def test_a_foreign_table_among_the_labels_is_found_before_the_work(tmp_path: Path) -> None:
    images, out = photos(tmp_path / "photos"), tmp_path / "out"
    LabelJob.prepare(GRID, str(images), str(out), 1).begin()
    (out / "labels").mkdir()
    (out / "labels/half-uploaded.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"half-uploaded\.parquet"):
        LabelJob.prepare(GRID, str(images), str(out), 1)
    assert (out / "labels/half-uploaded.parquet").exists()

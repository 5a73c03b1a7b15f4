"""A labelling job before its first photo, and what is written of it, with folders of odd names."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aopsam.everything.generator import AutoMaskGenerator
from schemas.labels import Reason
from stages.annotations.own_labels import read_labelled
from stages.annotations.shards import list_shards
from stages.config.label_config import LabelConfig
from stages.config.manifest import OtherConfiguration, check_configuration, finished_manifest, write_manifest
from stages.corpus.listing import list_images
from stages.engine.resources import Resources
from stages.label.folder import write_unit
from stages.label.job import LabelJob
from stages.label.row import blank_row, labels_table, with_reason
from stages.results.finish import finish_run
from stages.results.summary import describe
from stages.results.verify import verify_run
from stages.storage.tables import write_table
from tests.helpers.in_process import without_ray
from tests.helpers.listings import make_tar
from tests.helpers.made_shard import jpeg

GRID = LabelConfig(prompts="grid-2")
ODD = ["photos::v2", "a%20b [1]", os.fsdecode(b"photos\xff"), "file:x"]


def photos(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"{number}.jpg").write_bytes(jpeg(number, (96, 128)))
    return folder


def run(job: LabelJob) -> tuple[dict, str]:
    """Label without Ray, and end the run."""
    job.begin()
    progress = job.label(Resources(1, 1, "cpu"), None, 60.0)
    return finish_run(job, progress, 1)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch)


@pytest.mark.parametrize("name", ODD)
def test_a_run_below_folders_of_odd_names(tmp_path: Path, name: str) -> None:
    before, _, _ = name.partition("::")
    if before != name:
        (tmp_path / before).write_text("mine")
    images, out = photos(tmp_path / name), f"{tmp_path}/out {name}"
    summary, _ = run(LabelJob.prepare(GRID, str(images), out, 1))
    assert summary["images"] == 2
    assert LabelJob.prepare(GRID, str(images), out, 1).finished() == (summary, 2)
    assert verify_run(str(images), out, print, Counter()).mismatches == 0
    problems: list[str] = []
    for uri in list_shards(out):
        list(read_labelled(uri, problems.append))
    assert [line for line in problems if "without masks" not in line] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({before, name, f"out {name}"})


def test_files_that_are_not_looked_at_are_said_in_the_end(tmp_path: Path) -> None:
    images, out = photos(tmp_path / "photos"), str(tmp_path / "out")
    for name in ("a.nef", "b.txt", "c.TXT"):
        (images / name).touch()
    summary, report = run(LabelJob.prepare(GRID, str(images), out, 1))
    assert summary["not_looked_at"] == {".txt": 2, ".nef": 1}
    assert describe(summary).splitlines()[-1] == "3 other files not looked at (.txt 2, .nef 1)"
    assert "<dt>.nef</dt>" in Path(report).read_text()


def test_a_photo_that_comes_later_is_labelled_by_the_same_command(tmp_path: Path) -> None:
    images, out = photos(tmp_path / "photos"), str(tmp_path / "out")
    (images / "t.tar").write_bytes(make_tar("x.jpg"))
    run(LabelJob.prepare(GRID, str(images), out, 1))
    assert LabelJob.prepare(GRID, str(images), out, 1).finished() is not None
    for late in (images / "3.jpg", images / "t.tar"):
        late.write_bytes(jpeg(3, (96, 128)) if late.suffix == ".jpg" else make_tar("x.jpg", "y.jpg"))
        job = LabelJob.prepare(GRID, str(images), out, 1)
        assert job.finished() is None
        before = sum(map(len, job.flow.done.values()))
        run(job)
        assert LabelJob.prepare(GRID, str(images), out, 1).finished() is not None
        assert verify_run(str(images), out, print, Counter()).mismatches == 0
        assert before == len(list(Path(out, "labels").iterdir())) == 2  # joined again


def test_a_run_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """Its listing was one file, and labels of archives lay among those of files."""
    images, out = photos(tmp_path / "photos"), str(tmp_path / "out")
    (images / "t.tar").write_bytes(make_tar("x.jpg", "y.jpg"))
    job = LabelJob.prepare(GRID, str(images), out, 1)
    job.begin()
    listing = list_images(str(images))
    write_table(listing, f"{out}/images.parquet")
    rows = [with_reason(blank_row(row), Reason.NOT_AN_IMAGE, "") for row in listing.to_pylist()[1:3]]
    write_unit(labels_table(rows), f"{out}/labels")
    progress = LabelJob.prepare(GRID, str(images), out, 1).label(Resources(1, 1, "cpu"), None, 60.0)
    assert (progress.items, progress.found.listed) == (2, 4)
    assert verify_run(str(images), out, print, Counter()).mismatches == 0


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


def test_photos_at_once_reach_the_actors_and_are_part_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = photos(tmp_path / "photos"), f"{tmp_path}/out"
    (images / "3.jpg").write_bytes(jpeg(3, (96, 128)))
    groups, whole = [], AutoMaskGenerator.label_together

    def noted(generator: AutoMaskGenerator, images: Sequence[np.ndarray], *how: Any) -> list[Any]:
        groups.append(len(images))
        return whole(generator, images, *how)

    monkeypatch.setattr(AutoMaskGenerator, "label_together", noted)
    job = LabelJob.prepare(GRID, str(images), out, 1, photos_at_once=2)
    assert run(job)[0]["images"] == sum(groups) == 3
    assert max(groups) == 2
    groups.clear()
    singly = LabelJob.prepare(GRID, str(images), f"{tmp_path}/singly", 1, photos_at_once=2)
    singly.begin()
    singly.label(Resources(1, 1, "cpu"), 1, 60.0)
    assert groups == [1, 1, 1]
    with pytest.raises(ValueError, match="photos_at_once"):
        LabelJob.prepare(GRID, str(images), out, 1)

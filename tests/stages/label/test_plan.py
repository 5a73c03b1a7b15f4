"""What a labelling run will cost."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tarfile import USTAR_FORMAT

import pytest
import torch

from schemas.labels import Reason
from stages.config.label_config import LabelConfig
from stages.corpus.listing import list_images
from stages.engine.resources import Resources
from stages.label.flow import Flow
from stages.label.folder import usable_files, write_unit
from stages.label.job import LabelJob
from stages.label.plan import plan_labelling, survey_corpus
from stages.label.row import blank_row, labels_table, with_reason
from tests.helpers import ROOT
from tests.helpers.listings import make_tar

CHELSEA = ROOT / "samples" / "chelsea.jpg"
CONFIG = LabelConfig(prompts="grid-1")
RESOURCES = Resources(actors=2, threads=1, device="cpu", most=2)


def test_a_few_photos_of_those_to_do_are_measured(tmp_path: Path) -> None:
    for number in range(5):
        shutil.copy(CHELSEA, tmp_path / f"{number}.jpg")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    job = LabelJob.prepare(CONFIG, str(tmp_path), f"{tmp_path}-out", 1)
    threads = torch.get_num_threads()
    rows = [blank_row(row) for row in list_images(str(tmp_path)).to_pylist()[:2]]
    write_unit(
        labels_table([with_reason(row, Reason.NO_MASK, "") | {"status": "failed"} for row in rows]), f"{job.out}/labels"
    )
    job = replace(job, flow=replace(job.flow, done=usable_files(f"{job.out}/labels")))
    plan = plan_labelling(job, RESOURCES, price=2.0)
    assert torch.get_num_threads() == threads
    assert (plan.images, plan.survey.done, plan.measured) == (4, 2, 2)
    assert plan.survey.size == 4 * CHELSEA.stat().st_size
    assert plan.stages["encode"] > 0
    text = str(plan)
    for words in (
        "4 to label",
        "2 done",
        "tiny, grid-1",
        "2 actor(s) on cpu",
        "GB an actor",
        "images/s",
        "bound by",
        "at 2 an",
    ):
        assert words in text, words


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff broken"])
def test_where_nothing_can_be_labelled_the_plan_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    job = LabelJob.prepare(CONFIG, str(tmp_path), f"{tmp_path}-out", 1)
    plan = plan_labelling(job, RESOURCES)
    assert plan.measured == 0
    assert "unknown: none of the photos" in str(plan)


def test_archives_that_no_run_has_listed_are_estimated_from_some_of_their_members(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / f"{name}.tar").write_bytes(
            make_tar(*(f"{number}.jpg" for number in range(400)), format=USTAR_FORMAT)
        )
    survey = survey_corpus(Flow(str(tmp_path), f"{tmp_path}/out", {}))
    assert (survey.archives, survey.unlisted, survey.exact, survey.done) == (6, 6, False, 0)
    assert survey.photos == pytest.approx(2400, rel=0.02)
    (tmp_path / "g.tar").write_bytes(make_tar("1.jpg", "2.jpg"))
    one = survey_corpus(Flow(f"{tmp_path}/g.tar", f"{tmp_path}/out", {}))
    assert (one.photos, one.exact, one.size) == (2, True, 2000)

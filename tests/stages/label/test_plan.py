"""What a labelling run will cost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from stages.config.label_config import LabelConfig
from stages.engine.resources import Resources
from stages.label.job import LabelJob
from stages.label.plan import plan_labelling
from tests.helpers import ROOT

CHELSEA = ROOT / "samples" / "chelsea.jpg"
CONFIG = LabelConfig(prompts="grid-1")
RESOURCES = Resources(actors=2, threads=1, device="cpu")


def test_a_few_photos_of_those_to_do_are_measured(tmp_path: Path) -> None:
    for number in range(5):
        shutil.copy(CHELSEA, tmp_path / f"{number}.jpg")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    job = LabelJob.prepare(CONFIG, str(tmp_path), str(tmp_path.with_name("out")), 1)
    threads = torch.get_num_threads()
    job.done.update(job.listing.column("image_id").to_pylist()[:2])
    plan = plan_labelling(job, RESOURCES)
    assert torch.get_num_threads() == threads
    assert (plan.images, plan.done, plan.measured) == (4, 2, 2)
    assert plan.size == 4 * CHELSEA.stat().st_size
    assert plan.stages["encode"] > 0
    text = str(plan)
    for words in ("4 to label", "2 done", "tiny, grid-1", "2 actor(s) on cpu", "GB an actor", "images/s", "bound by"):
        assert words in text, words


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff broken"])
def test_where_nothing_can_be_labelled_the_plan_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    job = LabelJob.prepare(CONFIG, str(tmp_path), str(tmp_path.with_name("out")), 1)
    plan = plan_labelling(job, RESOURCES)
    assert plan.measured == 0
    assert "unknown: none of the photos" in str(plan)

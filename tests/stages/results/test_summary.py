"""OUT/manifest.json and the account of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.config.manifest import write_manifest
from stages.label.account import Account, bound_by
from stages.label.progress import LabelProgress
from stages.results.settle import settle
from stages.results.summary import describe, summarise
from tests.helpers.made_labels import made_out


def test_the_longest_stage_of_the_model_bounds_a_run() -> None:
    stages = {"wait": 0.1, "encode": 0.2, "decode": 0.6, "rle": 0.1}
    assert bound_by(stages, {"read": 5.0, "photo": 1.0}) == {"stage": "decode", "share": pytest.approx(0.6)}


def test_where_the_model_mostly_waits_what_it_waits_for_bounds_a_run() -> None:
    stages = {"wait": 0.6, "encode": 0.2, "decode": 0.2}
    assert bound_by(stages, {"read": 0.3, "photo": 1.0}) == {"stage": "photo", "share": pytest.approx(0.6)}


def test_a_run_without_any_time_is_bound_by_nothing_much() -> None:
    assert bound_by({"wait": 0.0, "encode": 0.0}, {"read": 0.0})["share"] == 0


def test_the_manifest_of_a_run_says_what_bounds_it_and_how_busy_its_actors_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = made_out(tmp_path)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = LabelProgress()
    now[0] = 10.0
    progress.hear(Account(rows=1, seconds_model=1.5, seconds_wait=0.25, seconds_write=0.25))
    now[0] = 18.0
    progress.hear(Account(rows=6, masks=12, failed=2, seconds_model=10.5, seconds_wait=1.75, seconds_write=1.15))
    configuration = {"sam": "tiny", "prompts": "aop"}
    manifest = write_manifest(str(out), configuration, "finished", summarise(settle(str(out)), progress, 2, {}))
    assert json.loads((out / "manifest.json").read_text()) == manifest
    assert manifest["masks"] == 12
    assert manifest["bound_by"]["stage"] == "decode"
    assert manifest["stages"]["wait"] == pytest.approx(0.01)
    assert manifest["reading"] == {"read": pytest.approx(0.01), "photo": pytest.approx(0.02)}
    actors = manifest["actors"]
    assert (actors["number"], actors["images"]) == (2, 7)
    assert (actors["seconds_start"], actors["seconds_to_first_file"]) == (8.0, 10.0)
    assert actors["busy"] == pytest.approx(12 / 20)
    assert actors["waiting"] == pytest.approx(2 / 20)
    assert actors["seconds_write_image"] == pytest.approx(0.2)
    account = describe(manifest)
    assert "0.39 images/s over 18 s, the first 8 to start" in account
    assert "bound by decode" in account
    assert "2 actor(s) busy 60%, waiting for photos 10%" in account


def test_the_manifest_of_a_run_that_found_all_done(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    manifest = write_manifest(str(out), {}, "finished", summarise(settle(str(out)), LabelProgress(), 0, {}))
    assert manifest["images"] == len(rows)
    assert manifest["actors"]["busy"] == 0
    assert "bound by" in describe(manifest)

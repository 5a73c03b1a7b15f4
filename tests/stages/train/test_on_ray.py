"""Training on Ray: options, what a run says, and that one worker gets one GPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from aopsam.training import stream
from aopsam.training.recipes import Recipe
from aopsam.training.trainer import train
from stages.config.command_line import parse
from stages.train import on_ray
from stages.train.arguments import TrainingArguments
from stages.train.on_ray import train_on_ray
from tests.helpers import ROOT
from tests.helpers.listings import put
from tests.helpers.made_shard import jpeg, two_objects, write_shard
from tests.helpers.training_tasks import WINDOW_BYTES, Line, cannot_build, small_window

RECIPE = Recipe(steps=4, average=0.9)


def options(out: Path | str, *more: str) -> TrainingArguments:
    return parse(TrainingArguments, ["--out", str(out), "--threads", "1", *more])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_plan_says_what_a_training_takes_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    make = partial(Line, RECIPE)
    assert train_on_ray("train_line", make, make(), options(out, "--plan")) is None
    assert capsys.readouterr().out.startswith("train_line: 1 worker(s), 1 CPU thread(s) each; on one cpu here: 4 steps")
    assert not out.exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_two_workers_see_what_one_with_twice_the_accumulation_sees_and_go_on_from_their_end(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Photos of shards of which a tenth is in the window at one time; one is broken, and met while training."""
    monkeypatch.setattr(stream, "WINDOW_BYTES", WINDOW_BYTES)
    shards = []
    for number in range(5):
        photos = {f"{number}-{seed}": (jpeg(8 * number + seed, (96, 128)), two_objects()) for seed in range(8)}
        broken = {f"lost-{number}": (b"no photo", two_objects())}
        shards.append(str(write_shard(tmp_path / f"{number}.tar", photos | broken)))
    recipe = Recipe(steps=80, average=0.9)
    alone = small_window(shards, replace(recipe, accumulate=2))
    one = train(alone, tmp_path / "alone", loader_workers=0)
    make = partial(small_window, shards, recipe)
    two = train_on_ray("train_colour", make, make(), options(f"{bucket}/out", "--workers", "2"))
    assert two is not None
    torch.testing.assert_close(two["colour"], one["colour"])
    printed = capsys.readouterr()
    assert "80 steps done" in printed.out
    said = printed.err
    assert "the same command goes on from the last" in said
    told = [line.split(":")[0] for line in alone.problems]
    told += [line.split()[2].rstrip(":") for line in said.splitlines() if line.startswith("left out: ")]
    assert sorted(told) == [f"lost-{number}" for number in range(5)]
    again = train_on_ray("train_colour", make, make(), options(f"{bucket}/out", "--workers", "2"))
    assert again is not None
    assert torch.equal(two["colour"], again["colour"])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_what_fails_in_a_worker_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "RETRIES", 0)
    interrupted = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit, match=r"^train_line: training failed: .*no such file on this node: maps$"):
        train_on_ray("train_line", cannot_build, Line(RECIPE), options(tmp_path))
    assert signal.getsignal(signal.SIGINT) is interrupted  # ctrl-C ends what comes after a training


ONE_GPU = """
import json, sys
from functools import partial

import aopsam
import ray

from aopsam.training.recipes import Recipe
from stages.engine.resources import choose_resources, leave, start
from stages.label.account import Account
from stages.label.flow import Flow
from stages.label.run import Labelling, label_corpus
from stages.train.on_ray import _Board, _WorkerSettings, fit
from tests.helpers.labellers import Blank
from tests.helpers.training_tasks import Line

quiet = {"include_dashboard": False, "log_to_driver": False}
ray.init(address="local", num_cpus=3, num_gpus=1, object_store_memory=2**27, **quiet)
out = sys.argv[1]
start()
leave()  # a Ray that was there stays
resources = choose_resources(None, 1, 4)
job = _WorkerSettings(partial(Line, Recipe(steps=2)), out + "/curves", 1, 250, None, _Board.remote(), device="cpu")
state = fit(job, out, 1, True, "train_line")
told = label_corpus(Flow(out + "/photos", out, {}), Labelling(Blank, Blank, Blank), resources)
rows = sum(one.rows for one in told if isinstance(one, Account))
ray.shutdown()
start()
leave()
print(json.dumps([str(resources), state["step"], rows, ray.is_initialized()]))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_with_one_gpu_there_is_one_actor_and_one_worker_that_ask_for_it(tmp_path: Path) -> None:
    """Ray is told of a GPU that is not there; model and labeller are stand-ins that need none."""
    put(tmp_path / "photos", *(f"{number}.jpg" for number in range(4)))
    command = [sys.executable, "-c", ONE_GPU, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    plan, step, rows, stays = json.loads(ended.stdout.splitlines()[-1])
    readers = max(2, os.cpu_count() or 1)
    assert plan == f"1 actor(s) on cuda, 1 CPU thread(s) each and {readers} that open photos"
    assert (step, rows) == (2, 4)
    assert not stays

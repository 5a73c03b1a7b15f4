"""Retraining from a corpus to a version in use, in one process; benchmarks/retrain_loop.py kills it, under Ray."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import label_corpus, registry, retrain
from stages.registry.lease import hold
from stages.registry.versions import Registry
from tests.helpers.in_process import training_without_ray, without_ray
from tests.helpers.made_scenes import made_scene
from tests.helpers.made_shard import annotation, rectangle, write_shard
from tests.helpers.planted_copies import encoded

PHASES = {
    "find": ("find_new",),
    "choose": ("choose_photos", "copy_chosen"),
    "learn": ("label_photos", "build_all_maps", "train"),
    "release": ("compare", "release"),
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of three photos, two of them twice, beside a broken one and one that is judged by."""
    without_ray(monkeypatch)
    training_without_ray(monkeypatch)
    (tmp_path / "corpus").mkdir()
    for seed in range(3):
        (tmp_path / f"corpus/{seed}.jpg").write_bytes(photo(seed))
    (tmp_path / "corpus/again.jpg").write_bytes(photo(0))
    turned = np.asarray(Image.open(tmp_path / "corpus/1.jpg"))[:, ::-1]
    Image.fromarray(turned).save(tmp_path / "corpus/turned.jpg", quality=60)
    (tmp_path / "corpus/broken.jpg").write_bytes(b"text")
    (tmp_path / "corpus/judged.jpg").write_bytes(photo(10))
    scenes = {f"j{seed}": made_scene(seed) for seed in (10, 11, 12)}
    judged = {
        name: (photo(scene_of(name)), [{"segmentation": r} for r in scene.rles]) for name, scene in scenes.items()
    }
    write_shard(tmp_path / "judged.tar", judged)
    return tmp_path


def scene_of(name: str) -> int:
    return int(name[1:])


@cache
def photo(seed: int) -> bytes:
    return encoded(made_scene(seed).rgb)


def digest(seed: int) -> str:
    return hashlib.sha256(photo(seed)).hexdigest()


def command(work: Path, run: str, *more: str) -> list[str]:
    given = ["--corpus", work / "corpus", "--registry", work / "r", "--eval", work / "judged.tar", "--run", run]
    quick = ["--teacher-prompts", "grid-3", "--steps", "2", "--batch", "2", "--accumulate", "1", "--at-least", "2"]
    return [str(word) for word in (*given, *quick, *more)]


def in_use(work: Path) -> int:
    return int(json.loads((work / "r/latest.json").read_text())["version"])


def test_killed_in_each_phase_then_in_use_then_spoiled_then_back(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = Counter[str]()

    def count(place: str) -> None:
        module, _, name = place.rpartition(".")
        real = getattr(__import__(module, fromlist=[name]), name)
        monkeypatch.setattr(place, lambda *given, **named: counted.update([name]) or real(*given, **named))

    for place in ("label.actor.labelled", "curate.actor.fingerprint", "prompt_maps.actor.photo_target"):
        count(f"stages.{place}")
    for module, phase in [
        (import_module(f"stages.retrain.{room}"), phase) for room in PHASES for phase in PHASES[room]
    ]:
        real = getattr(module, phase)

        def killed(*given: object, real: Any = real) -> None:
            real(*given)
            raise KeyboardInterrupt

        with monkeypatch.context() as once:
            once.setattr(module, phase, killed)
            assert retrain.main(command(work, "a")) == 130
        assert (work / "r/latest.json").exists() == (phase == "release")
    capsys.readouterr()
    assert retrain.main(command(work, "a")) == 0
    assert "nothing to do: run a has ended: version 1 is in use now: mIoU" in capsys.readouterr().out
    assert counted == {"labelled": 3, "fingerprint": 4, "photo_target": 3}  # each once: 0, 1 or turned, 2
    (maps,) = map(pq.read_table, (work / "r/runs/a/maps/teacher").glob("*.parquet"))
    assert set(maps["source"].to_pylist()) == {"recorded"}  # the grid's points, not the masks' middles
    found = Registry(str(work / "r"))
    (first,) = found.versions()
    assert (first.parent, first.run, first.passed) == (None, "a", True)
    rows = found.photos(1).to_pylist()
    seen = Counter(row["use"] for row in rows)
    assert seen == {"learnt": 3, "duplicate": 1, "unusable": 1}
    contents = {row["content_sha256"] for row in rows}
    assert {digest(0), digest(1), digest(2)} <= contents
    assert digest(10) not in contents

    assert retrain.main(command(work, "b")) == 0
    assert "fewer new photos and annotations than --at-least 2" in capsys.readouterr().out
    assert not (work / "r/runs/b/manifest.json").exists()

    (work / "corpus/more").mkdir()
    (work / "corpus/more/3.jpg").write_bytes(photo(3))
    corner = [annotation(rectangle((320, 480), 0, 0, 12, 12))]
    spoiled = {f"s{seed}": (photo(seed), corner) for seed in (1, 4, 5, 10)}
    write_shard(work / "spoiled.tar", spoiled)
    harsh = ["--annotated", f"{work}/spoiled.tar=9", "--steps", "25", "--learning-rate", "0.02", "--warmup", "1"]
    assert retrain.main(command(work, "c", *harsh)) == 0
    said = capsys.readouterr().out
    assert "version 2 was not taken into use: mIoU -" in said
    assert "more than 2 points lower cannot be ruled out" in said
    assert in_use(work) == 1
    second = found.version(2)
    assert (second.parent, second.passed) == (1, False)
    learnt = {row["content_sha256"]: row["annotations_sha256"] for row in found.photos(2).to_pylist()}
    assert learnt.keys() == {digest(seed) for seed in (1, 3, 4, 5)}  # 1 is annotated now, 10 is judged by
    assert [learnt[digest(seed)] is None for seed in (3, 4)] == [True, False]
    page = (work / "r/versions/2/index.html").read_text()
    assert "Refused: mIoU -" in page
    assert page.count("<img ") >= 4
    assert "Refused: mIoU -" in (work / "r/versions/2/card.md").read_text()

    assert retrain.main(command(work, "d", *harsh)) == 0
    assert "nothing new since version 2, from version 1, run c: refused" in capsys.readouterr().out

    assert registry.main(["--registry", str(work / "r"), "--promote", "2"]) == 0
    assert in_use(work) == 2
    assert registry.main(["--registry", str(work / "r"), "--rollback"]) == 0
    assert in_use(work) == 1
    assert registry.main(["--registry", str(work / "r"), "--rollback"]) == 2
    assert registry.main(["--registry", str(work / "r")]) == 0
    printed = capsys.readouterr()
    assert "version 1 is the first, there is none to go back to" in printed.err
    assert "in use  version 1, the first, run a: passed" in printed.out

    label = ["--images", str(work / "corpus/more"), "--out", str(work / "out"), "--predictor", f"{work}/r@latest"]
    assert label_corpus.main(label) == 0
    configuration = json.loads((work / "out/manifest.json").read_text())["configuration"]
    assert configuration["predictor"] == f"{work}/r@1"
    assert configuration["weights"]["predictor"]["sha256"] == first.weights_sha256


def test_a_second_process_of_a_run_ends_with_a_line(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with hold(f"{work}/r/runs/a"):
        assert retrain.main(command(work, "a")) == 1
    assert "is at this run; it needs no second one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--corpus", "nowhere"], "nowhere"),
        (["--eval", "nowhere"], "nowhere: no shard"),
        (["--annotated", "judged.tar=0"], "a weight lies above 0 and up to 100"),
        (["--registry", "memory://r"], "only a folder or s3://"),
        (["--registry", "/proc/r"], "/proc/r: cannot be written"),
        (["--run", "../a"], "--run ../a: a name is letters"),
        (["--teacher-prompts", "gird-3"], "gird-3"),
        (["--sam", "huge"], "unknown SAM 'huge'"),
    ],
)
def test_wrong_arguments_end_with_a_line_before_any_work(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    monkeypatch.chdir(work)
    assert retrain.main(command(work, "a", *more)) == 2
    said = capsys.readouterr().err
    assert said.startswith("retrain: ")
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (work / "r").exists()

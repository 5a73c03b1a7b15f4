"""Jobs over annotated photos: what is done stays, what is not is done once, whatever came between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stages.annotations import job as jobs
from stages.annotations.count import count_photos
from stages.annotations.job import Done, PhotoJob
from stages.annotations.samples import ReadSamples, Source
from stages.engine.resources import Resources
from tests.helpers.in_process import WorkerDeath, without_ray
from tests.helpers.made_shard import jpeg, two_objects, write_shard

HW = (96, 128)
SCHEMA = pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("bytes", pa.int64())])
PHOTO = jpeg(0, HW)


class Weigh:
    """Work of a row a photo; some fail, some end their worker."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, sample: Mapping[str, Any], report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        self.seen.append(sample["image_id"])
        if sample["image_id"].startswith("killer"):
            raise WorkerDeath
        if sample["image_id"].startswith("odd"):
            report("first")
            raise KeyError("odd") if sample["image_id"] == "odd2" else ValueError("odd")
        yield {"image_id": sample["image_id"], "bytes": len(sample["jpeg"])}


def shard(folder: Path, names: Sequence[str], name: str = "s.tar") -> Source:
    return Source.of_shard(str(write_shard(folder / name, {each: (PHOTO, two_objects()) for each in names})))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Done, list[str]]]:
    """Runs a job of three photos a part into one OUT; returns what was done and which photos it looked at."""
    without_ray(monkeypatch)

    def run(*sources: Source, finish: bool = True) -> tuple[Done, list[str]]:
        job, work = PhotoJob(str(tmp_path / "out"), sources, ReadSamples(rows=3), SCHEMA, {"a": 1}), Weigh()
        job.check()
        done = job.run(lambda: work, Resources(1, 1, "cpu"), 60)
        if finish:
            job.finish(done)
        return done, work.seen

    return run


def ids(done: Done) -> list[str]:
    return sorted(name for table in done.tables for name in table.column("image_id").to_pylist())


def test_photos_that_fail_or_end_their_worker_cost_themselves_and_are_not_tried_again(
    tmp_path: Path, run: Callable[..., tuple[Done, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    source = shard(tmp_path, ["a", "killer", "b", "odd", "odd2", "c"])
    done, _ = run(source, finish=False)
    assert (ids(done), done.photos, done.failed) == (["a", "b", "c"], 6, 3)
    lines = [
        f"{source.name}: killer: worker_died: it ended its worker process, alone in it too",
        f"{source.name}: odd: first",
        f"{source.name}: odd: odd",
        f"{source.name}: odd2: first",
        f"{source.name}: odd2: KeyError: 'odd'",
    ]
    assert sorted(done.problems) == sorted(lines)
    said = capsys.readouterr().err
    told = [line for line in said.splitlines() if line.startswith("left out")]
    assert sorted(told) == sorted(f"left out: {x}" for x in lines)
    assert "6/6 photos, 3 failed" in said
    again, seen = run(source)
    assert seen == []
    assert (sorted(again.problems), ids(again), again.photos) == (sorted(lines), ["a", "b", "c"], 6)


def test_a_part_that_is_lost_is_made_again_and_no_other(
    tmp_path: Path, run: Callable[..., tuple[Done, list[str]]]
) -> None:
    source = shard(tmp_path, [f"{n}" for n in range(7)])
    done, _ = run(source, finish=False)
    files = sorted((tmp_path / "out/parts").iterdir())
    assert len(files) == 3
    files[1].unlink()
    again, seen = run(source)
    assert seen == ["3", "4", "5"]
    assert ids(again) == ids(done)
    assert sorted((tmp_path / "out/parts").iterdir()) == files


def test_a_source_that_is_done_is_not_read_again(
    tmp_path: Path, run: Callable[..., tuple[Done, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shard(tmp_path, "abc")
    run(source, finish=False)
    monkeypatch.setattr(ReadSamples, "__call__", None)
    done, _ = run(source)
    assert ids(done) == ["a", "b", "c"]


def test_a_shard_that_was_cut_short_goes_on_where_it_was_cut(
    tmp_path: Path, run: Callable[..., tuple[Done, list[str]]]
) -> None:
    source = shard(tmp_path, [f"{n}" for n in range(7)])
    whole = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[: whole.index(b"./5.jpg")])
    done, _ = run(source, finish=False)
    assert (ids(done), done.failed) == ([f"{n}" for n in range(5)], 1)
    (tmp_path / "s.tar").write_bytes(whole)
    done, seen = run(source)
    assert seen == ["5", "6"]
    assert (ids(done), done.failed) == ([f"{n}" for n in range(7)], 0)


def test_a_shard_of_other_photos_than_before_is_named(
    tmp_path: Path, run: Callable[..., tuple[Done, list[str]]]
) -> None:
    source = shard(tmp_path, [f"{n}" for n in range(6)])
    run(source, finish=False)
    next((tmp_path / "out/parts").glob("*-last.parquet")).unlink()
    shard(tmp_path, ["new", *(f"{n}" for n in range(5))])
    done, seen = run(source)
    assert seen == []
    assert ids(done) == ["0", "1", "2"]
    (line,) = done.problems
    assert "s.tar: has other photos than when OUT was begun, from number 0 on; give another --out" in line


def test_the_limit_of_a_source_is_over_its_shards(tmp_path: Path, run: Callable[..., tuple[Done, list[str]]]) -> None:
    both = [shard(tmp_path, [f"{name}{n}" for n in range(4)], f"{name}.tar") for name in "ab"]
    source = Source("both", tuple(uri for each in both for uri in each.shards), 6)
    done, _ = run(source)
    assert ids(done) == ["a0", "a1", "a2", "a3", "b0", "b1"]
    assert count_photos([source], len(PHOTO) + 300).photos == 6


@pytest.mark.parametrize(
    ("photos", "failed", "accepted", "status"), [(4, 1, None, 0), (4, 1, 0.2, 3), (4, 4, 1.0, 3), (0, 0, None, 3)]
)
def test_the_exit_status(photos: int, failed: int, accepted: float | None, status: int) -> None:
    assert jobs.status_of(photos, failed, accepted) == status

"""Versions, and the one in use: in a folder and in a bucket, with several writers at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.weights import load_predictor, save_predictor
from schemas.lineage import SCHEMA
from stages.registry import versions
from stages.registry.reference import predictor_file, resolve_predictor
from stages.registry.versions import Registry, Version
from stages.storage.conditional import read_tagged, write_if
from stages.storage.errors import RunFailed
from stages.storage.location import open_filesystem


@pytest.fixture(params=["folder", "bucket"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AOPSAM_CACHE", str(tmp_path / "cache"))
    return f"{request.getfixturevalue('bucket')}/team/registry" if request.param == "bucket" else str(tmp_path / "r")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "predictor.safetensors"
    predictor = PromptPredictor()
    predictor.sam, predictor.sam_sha256 = "tiny", "0" * 64
    save_predictor(predictor, path)
    return path


PHOTO = {"content_sha256": "a" * 64, "source": "corpus", "image_id": "a", "annotations_sha256": None, "use": "learnt"}


def made(registry: Registry, weights: Path, parent: int | None, run: str) -> int:
    number = registry.reserve(run)
    digest = load_predictor(weights).sha256
    version = Version(number, parent, run, digest, "inputs", True, "as good", {"seed": 0})
    photos = pa.Table.from_pylist([PHOTO], schema=SCHEMA)
    registry.publish(version, {"predictor.safetensors": weights.read_bytes(), "card.md": b"# a\n"}, photos)
    return number


def test_from_the_first_version_to_a_rollback(uri: str, weights: Path) -> None:
    registry = Registry(uri)
    assert registry.latest() is None
    assert registry.versions() == []
    with pytest.raises(ValueError, match="no version is in use"):
        resolve_predictor(f"{uri}@latest")
    first = made(registry, weights, None, "runs/a")
    assert registry.promote(first, registry.latest(), "runs/a")
    second = made(registry, weights, first, "runs/b")
    assert [version.number for version in registry.versions()] == [1, 2]
    assert resolve_predictor(f"{uri}@latest") == f"{uri}@1"
    assert registry.promote(second, registry.latest(), "runs/b")
    assert resolve_predictor(f"{uri}@latest") == f"{uri}@2"
    assert [version.number for version in registry.lineage(2)] == [2, 1]
    assert registry.photos(2).to_pylist() == [PHOTO]
    assert registry.version(2).configuration == {"seed": 0}

    assert registry.take(None, "rollback") == 1
    assert resolve_predictor(f"{uri}@latest") == f"{uri}@1"
    with pytest.raises(ValueError, match="version 1 is the first"):
        registry.take(None, "rollback")
    with pytest.raises(ValueError, match="no version 7; there are: 1, 2"):
        registry.take(7, "promote")
    assert registry.take(2, "promote") == 2


def test_a_run_that_died_shows_no_version_and_keeps_its_number(
    uri: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(uri)

    def dies(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as killed:
        killed.setattr(versions, "write_text", dies)  # before the lineage
        with pytest.raises(MemoryError):
            made(registry, weights, None, "runs/a")
    assert registry.versions() == []
    assert registry.reserve("runs/b") == 2
    with pytest.raises(ValueError, match="no version 1; there are: none"):
        predictor_file(f"{uri}@1")
    assert made(registry, weights, None, "runs/a") == 1
    assert [version.number for version in registry.versions()] == [1]


def test_of_many_writers_at_once_one_wins(uri: str, weights: Path) -> None:
    registry = Registry(uri)
    with ThreadPoolExecutor(6) as threads:
        numbers = list(threads.map(registry.reserve, [f"runs/{number}" for number in range(6)]))
        assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
        for round_ in range(3):
            latest = registry.latest()
            won = list(threads.map(lambda number, now=latest: registry.promote(number, now, "x"), numbers))
            assert won.count(True) == 1
            found = registry.latest()
            assert found is not None
            assert found.number == numbers[won.index(True)], round_


def test_a_file_that_changed_is_not_written_over(uri: str) -> None:
    tag = write_if(f"{uri}/x.json", b"one", None)
    assert tag is not None
    assert write_if(f"{uri}/x.json", b"again", None) is None
    other = write_if(f"{uri}/x.json", b"two", tag)
    assert other is not None
    assert write_if(f"{uri}/x.json", b"three", tag) is None
    assert read_tagged(f"{uri}/x.json") == (b"two", other)
    assert write_if(f"{uri}/gone.json", b"x", tag) is None
    assert read_tagged(f"{uri}/gone.json") is None


def test_a_write_whose_answer_was_lost_counts(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem, _ = open_filesystem(bucket)
    put = type(filesystem).call_s3

    def twice(self: object, *given: object, **named: object) -> object:
        put(self, *given, **named)
        return put(self, *given, **named)  # as botocore does where the first answer never came

    monkeypatch.setattr(type(filesystem), "call_s3", twice)
    tag = write_if(f"{bucket}/x.json", b"mine", None)
    assert tag is not None
    assert write_if(f"{bucket}/x.json", b"mine, later", tag) is not None
    assert write_if(f"{bucket}/x.json", b"another's", tag) is None


def test_a_predictor_is_found_by_file_version_and_latest(uri: str, weights: Path, tmp_path: Path) -> None:
    registry = Registry(uri)
    registry.promote(made(registry, weights, None, "runs/a"), None, "runs/a")
    digest = load_predictor(weights).sha256
    for name in (f"{uri}@1", f"{uri}@latest", f"{uri}/@latest", f"{uri}/versions/1/predictor.safetensors"):
        assert load_predictor(predictor_file(name)).sha256 == digest
    assert predictor_file(None) is None
    filesystem, path = open_filesystem(f"{uri}/versions/1/predictor.safetensors")
    filesystem.pipe_file(path, b"swapped")
    with pytest.raises(ValueError, match="version 1 are not those that its lineage names"):
        predictor_file(f"{uri}@1")


def test_what_is_no_registry_is_said_in_a_line(uri: str, weights: Path) -> None:
    registry = Registry(uri)
    made(registry, weights, None, "runs/a")
    assert write_if(f"{uri}/latest.json", b'{"version": ', None) is not None
    with pytest.raises(ValueError, match=r"latest\.json: does not say a version"):
        registry.take(1, "x")
    filesystem, path = open_filesystem(f"{uri}/versions/1/lineage.json")
    filesystem.pipe_file(path, json.dumps({"number": 1}).encode())
    with pytest.raises(ValueError, match=r"versions/1/lineage\.json: not the lineage of a version"):
        registry.versions()
    with pytest.raises(ValueError, match="only a folder or s3:// can be written on condition"):
        Registry("memory://r").check()


def test_two_that_take_back_at_once(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(str(tmp_path))
    for number in (1, 2):
        registry.promote(made(registry, weights, number - 1 or None, f"runs/{number}"), registry.latest(), "x")
    stale = registry.latest()
    registry.take(1, "the other")
    monkeypatch.setattr(Registry, "latest", lambda self: stale)
    with pytest.raises(RunFailed, match="taken into use at the same time"):
        registry.take(None, "rollback")

"""Files from anywhere on this machine: fetched once, again where they have changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stages.storage.fetched import local_file, read_file
from stages.storage.location import open_filesystem


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AOPSAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_of_this_machine_stays_where_it_is(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "a b.pt"
    file.write_bytes(b"x")
    assert local_file(str(file)) == local_file(f"file://{tmp_path}/a%20b.pt") == str(file)
    assert local_file(None) is None
    assert not cache.exists()


@pytest.mark.parametrize("store", ["s3", "memory"])
def test_a_file_elsewhere_is_fetched_once_until_it_changes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, store: str
) -> None:
    uri = f"{request.getfixturevalue('bucket') if store == 's3' else 'memory://fetched'}/weights/a.safetensors"
    filesystem, path = open_filesystem(uri)
    filesystem.pipe_file(path, b"one")
    first = Path(local_file(uri))
    assert (first.name, first.read_bytes()) == ("a.safetensors", b"one")
    assert first.is_relative_to(cache)
    with monkeypatch.context() as away:
        away.setattr(filesystem, "get_file", None)
        assert local_file(uri) == str(first)
    filesystem.pipe_file(path, b"two")
    assert Path(local_file(uri)).read_bytes() == b"two"
    assert first.read_bytes() == b"one"  # somebody may have it open
    assert read_file(uri) == b"two"
    assert not list(cache.rglob("*.part"))


def test_what_cannot_be_fetched_is_a_line_without_keys(
    cache: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for read in (local_file, read_file):
        with pytest.raises(FileNotFoundError, match=r"^s3://made-\w+/gone\.pt: no such file$"):
            read(f"{bucket}/gone.pt")

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(13, "user:secret")

    for name in ("info", "cat_file"):
        monkeypatch.setattr(MemoryFileSystem, name, refuses)
    for read in (local_file, read_file):
        with pytest.raises(OSError, match=r"^memory://a\.pt: cannot be read \(Permission denied\)$"):
            read("memory://a.pt")
    assert not list(cache.rglob("*.part"))

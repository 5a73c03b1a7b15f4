from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from stages.storage.errors import CannotWrite
from stages.storage.folder import write_folder


@pytest.mark.parametrize("store", ["", "memory://folders/"])
def test_a_folder_appears_whole_or_not_at_all(store: str, tmp_path: Path) -> None:
    uri = f"{store or str(tmp_path) + '/'}new/made"
    filesystem, path = fsspec.url_to_fs(uri)
    with pytest.raises(ZeroDivisionError), write_folder(uri) as folder, folder.open("a/b") as opened:
        opened.write(b"1" * (1 // 0))
    assert not filesystem.exists(path)
    with write_folder(uri) as folder:
        folder.write("a/b", b"1")
        with folder.open("c") as opened:
            opened.write(b"2")
            opened.write(b"3")
        assert bool(store) == filesystem.exists(path)
    assert {name.removeprefix(path): filesystem.cat_file(name) for name in filesystem.find(path)} == {
        "/a/b": b"1",
        "/c": b"23",
    }
    with pytest.raises(ValueError, match="is not empty; give another --out"), write_folder(uri):
        pass
    assert len(filesystem.find(path)) == 2
    filesystem.rm(path, recursive=True)


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with write_folder(str(tmp_path / "x")) as folder:
        folder.write("a", b"")
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "a"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(ValueError, match="cannot be written"), write_folder(str(tmp_path / name)):
            pass


def test_a_disk_that_fills_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with write_folder(str(tmp_path / "x")) as folder:
            folder.write("a", b"1")
            with folder.open("b"):
                raise OSError(28, "No space left on device")

    with pytest.raises(CannotWrite, match="No space left"):
        fill()
    assert list(tmp_path.iterdir()) == []

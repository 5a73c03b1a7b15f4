"""Files that appear whole or not at all, and folders that cannot be written found out before the work."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from stages.storage import atomic
from stages.storage.atomic import check_writable
from stages.storage.errors import CannotWrite

NAMES = ("labels/", "plots/deep/a.svg", "manifest.json")


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_colons_lead_into_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    atomic.write_bytes(f"{tmp_path}/run::2/manifest.json", b"{}")
    assert everything(tmp_path) == ["run", "run::2", "run::2/manifest.json"]
    assert (tmp_path / "run").read_text() == "mine"


def test_json_of_a_path_that_is_not_utf_8_leads_back_to_it(tmp_path: Path) -> None:
    path = {"images": os.fsdecode(b"/caf\xe9/\xff"), "name": "é猫"}
    with atomic.write_text(f"{tmp_path}/a.json") as opened:
        json.dump(path, opened, ensure_ascii=False)
    assert "é猫" in (text := (tmp_path / "a.json").read_bytes().decode())
    assert json.loads(text) == path


@pytest.mark.parametrize("out", ["", "new", "new/deep/er", "run::2", "[1]", os.fsdecode(b"caf\xe9")])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path, out: str, slash: str) -> None:
    (tmp_path / "mine.part").write_text("mine")
    (tmp_path / "labels").mkdir()
    check_writable(f"{tmp_path}/{out}".rstrip("/") + slash, *NAMES)
    assert everything(tmp_path) == ["labels", "mine.part"]


def unwritable(folder: Path) -> dict[str, str]:
    (folder / "taken").write_text("mine")
    (folder / "dangling").symlink_to("/nowhere/at/all")
    (folder / "inside").mkdir()
    (folder / "inside/labels").write_text("mine")
    (folder / "instead").mkdir()
    (folder / "instead/manifest.json").mkdir()
    return {
        "a file": f"{folder}/taken",
        "below a file": f"{folder}/taken/x",
        "far below a file": f"{folder}/taken/x/y/",
        "a file in its URI": f"file://{folder}/taken",
        "a link to nowhere": f"{folder}/dangling",
        "labels is a file": f"{folder}/inside",
        "manifest.json is a folder": f"{folder}/instead",
        "a device": "/dev/null",
        "a file system of the system": "/proc/run",
        "too long": f"{folder}/{'x' * 300}",
        "NUL": f"{folder}/a\0b",
        "no such scheme": "nothing://user:secret@host/a",
    }


CASES = (
    *("a file", "below a file", "far below a file", "a file in its URI", "a link to nowhere", "labels is a file"),
    *("manifest.json is a folder", "a device", "a file system of the system", "too long", "NUL", "no such scheme"),
)


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    out = unwritable(tmp_path)[case]
    before = everything(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be written|is a folder there|no such scheme") as caught:
        check_writable(out, *NAMES)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert everything(tmp_path) == before
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_locked_folder_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(ValueError, match="No space left on device"):
        check_writable(f"{tmp_path}/new", *NAMES)
    assert everything(tmp_path) == []


def test_a_store_is_left_as_it_was() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/writable/mine", b"mine")
    before = sorted(memory.find("/", withdirs=True))
    check_writable("memory://writable/new/out", *NAMES)
    check_writable("memory://writable", *NAMES)
    assert sorted(memory.find("/", withdirs=True)) == before
    memory.rm("/writable", recursive=True)


def test_a_missing_bucket_is_not_made(bucket: str) -> None:
    missing = f"{bucket}-missing"
    with pytest.raises(ValueError, match=rf"^{missing}/out: cannot be written \(no such bucket\)"):
        check_writable(f"{missing}/out", *NAMES)
    with pytest.raises(CannotWrite, match="no such bucket"):
        atomic.write_bytes(f"{missing}/out/x.txt", b"")
    assert not fsspec.filesystem("s3").exists(missing)
    check_writable(f"{bucket}/new/out", *NAMES)
    assert fsspec.filesystem("s3").find(bucket) == []

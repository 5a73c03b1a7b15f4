"""Which file system and path an argument names: what has no `://` is a path on this machine, whatever is in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.corpus.listing import list_images
from stages.storage.location import absolute, locate, open_filesystem, printable, redact, uri_of
from tests.helpers import ROOT
from tests.helpers.made_shard import jpeg, two_objects, write_shard

ODD = ["run::2", "a::b/c", "zip::x", "file:x", "memory:x", "s3:x", "simplecache::x", "a%20b", "[1]*?", "a b", "#1"]


@pytest.mark.parametrize("name", ODD)
def test_a_path_without_a_scheme_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (name, f"{tmp_path}/{name}", f"{tmp_path}/{name}/"):
        filesystem, path = open_filesystem(given)
        assert isinstance(filesystem, LocalFileSystem)
        assert path == f"{tmp_path}/{name}"


@pytest.mark.parametrize("name", [*ODD, os.fsdecode(b"caf\xe9 100%"), os.fsdecode(b"\xff\xfe.tar"), "é", "%FF"])
def test_the_uri_of_a_local_path_is_text_that_leads_back_to_it(tmp_path: Path, name: str) -> None:
    filesystem, path = open_filesystem(f"{tmp_path}/{name}")
    uri = uri_of(filesystem, path)
    uri.encode()
    assert open_filesystem(uri)[1] == path
    assert locate(uri).path == locate(f"{tmp_path}/{name}").path == path


def test_blanks_and_bytes_of_a_file_uri_are_unquoted() -> None:
    assert open_filesystem("file:///a%20b/c%25")[1] == locate("file:///a%20b/c%25").path == "/a b/c%"
    assert open_filesystem("file://localhost/a%20b")[1] == locate("file://localhost/a%20b").path == "/a b"
    assert os.fsencode(open_filesystem("file:///a%FF")[1]) == b"/a\xff"
    assert open_filesystem("/a%20b")[1] == locate("/a%20b").path == "/a%20b"


def test_other_schemes_are_fsspecs() -> None:
    filesystem, path = open_filesystem("memory://bucket/a")
    assert (filesystem, path) == fsspec.url_to_fs("memory://bucket/a")
    assert open_filesystem(uri_of(filesystem, path)) == (filesystem, path)


@pytest.mark.parametrize("name", ["open_filesystem", "locate"])
def test_no_such_scheme_is_one_line_without_keys(name: str) -> None:
    with pytest.raises(ValueError, match="no such scheme") as caught:
        {"open_filesystem": open_filesystem, "locate": locate}[name]("nothing://user:secret@host/a")
    assert "secret" not in str(caught.value)


def test_names_of_files_are_not_cut_where_uris_have_queries() -> None:
    assert redact("file:///a#1/b?.tar") == "file:///a#1/b?.tar"


def test_bytes_that_are_not_utf_8_are_shown() -> None:
    assert printable(os.fsdecode(b"/caf\xe9/100%")) == "/caf%E9/100%"


@pytest.mark.parametrize("name", ["a::b", os.fsdecode(b"photos\xff"), "a%20b", "photos [2024]", "*?"])
def test_shards_below_odd_folders_are_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    write_shard(folder / "s.tar", {"1": (jpeg(1, (96, 128)), two_objects())})
    problems: list[str] = []
    for given in (str(folder), str(folder / "s.tar"), f"{folder}/*.tar"):
        (uri,) = list_shards(given)
        assert len(list(read_annotated(uri, problems.append))) == 1, problems
    assert len(list(read_annotated(str(folder / "s.tar"), problems.append))) == 1
    assert list_images(str(folder)).num_rows == 1
    assert problems == []


@pytest.mark.parametrize(
    ("given", "meant"),
    [("s3://b/p/", "s3://b/p"), ("s3://b/p", "s3://b/p"), ("file:///", "file:///"), ("zip://::f.zip", "zip://::f.zip")],
)
def test_a_slash_at_the_end_of_a_uri_says_nothing(given: str, meant: str) -> None:
    assert absolute(given) == meant


def test_a_relative_path_with_colons_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("run::2") == f"{tmp_path}/run::2"


def test_nothing_else_asks_fsspec_what_a_path_means() -> None:
    asks = re.compile(r"url_to_fs|fsspec\.open\b|fsspec\.open_files|fsspec\.core\.")
    folders = ("stages", "pipelines", "aopsam")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in files if asks.search(path.read_text(encoding="utf-8"))}
    assert found == {"stages/storage/location.py"}

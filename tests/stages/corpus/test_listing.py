"""Listing: what is a row, what it is called, in which order, and what is never shown."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.listing import SCHEMA
from stages.corpus.fetch import fetch
from stages.corpus.listing import list_images
from stages.corpus.names import shown
from stages.corpus.others import describe_others
from stages.storage.location import redact
from tests.helpers.listings import listed, make_tar, others_of, put


def test_rows_of_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "b.JPG", "a/c.png", "notes.txt", "a.json", "noname")
    table = list_images(str(tmp_path))
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table.to_pylist()[0] == {
        "image_id": hashlib.sha256(b"a/c.png").hexdigest()[:32],
        "uri": f"{tmp_path}/a/c.png",
        "file_name": "a/c.png",
        "path": os.fsencode(tmp_path / "a" / "c.png"),
        "kind": "file",
        "offset": None,
        "length": None,
        "bytes": None,
    }
    assert listed(tmp_path) == {"a/c.png": "file", "b.JPG": "file"}


def test_files_that_are_not_looked_at_are_counted_by_suffix(tmp_path: Path) -> None:
    names = ["notes.txt", "x.d/README", "b.TXT", "c.raw", ".git/HEAD", "photo.jpg?size=large", f"l.{'o' * 99}", "d."]
    put(tmp_path, "a.jpg", *names)
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    others = others_of(tmp_path)
    assert others == {".txt": 4, ".raw": 1, ".jpg?size=large": 1, "no suffix": 4}
    assert describe_others(others) == "10 other files not looked at (.txt 4, no suffix 4, .jpg?size=large 1, .raw 1)"
    assert others_of(f"{tmp_path}/*") == others
    assert others_of(f"{tmp_path}/[ab].*") == {".txt": 1}
    fsspec.filesystem("memory").put(str(tmp_path / "x.d") + "/", "/counted/", recursive=True)
    fsspec.filesystem("memory").pipe("/counted/a.jpg", b"photo")
    assert others_of("memory://counted") == {"no suffix": 1}


def test_many_suffixes_are_one_short_line() -> None:
    others = {f".{number:03d}": 1 for number in range(200)} | {".txt": 3}
    line = describe_others(others)
    assert line.startswith("203 other files not looked at (.txt 3, .000 1, ")
    assert line.endswith(", .008 1, more 191)")
    assert describe_others({".txt": 1}) == "1 other file not looked at (.txt 1)"
    assert describe_others({}) == ""


def test_an_empty_folder_has_no_rows(tmp_path: Path) -> None:
    assert list_images(str(tmp_path)).num_rows == 0


def test_ids_and_order_stay_when_the_root_moves(tmp_path: Path) -> None:
    put(tmp_path / "here", "z.jpg", "a/b.jpg", "a.jpg", "a-b.jpg")
    (tmp_path / "here" / "t.tar").write_bytes(make_tar("x.jpg", "y.jpg"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = list_images(str(tmp_path / "here")), list_images(str(tmp_path / "there") + "/")
    assert here["image_id"] == there["image_id"]
    assert len(set(here["image_id"].to_pylist())) == 6


def test_file_glob_and_folder_give_the_same_id(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    ids = {list_images(f"{tmp_path}{end}")["image_id"][0].as_py() for end in ("", "/", "/a.jpg", "/*.jpg", "/?.*")}
    assert len(ids) == 1


def test_relative_paths_and_file_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "photos/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert list_images("photos") == list_images(f"file://{tmp_path}/photos")


def test_hidden_names(tmp_path: Path) -> None:
    put(tmp_path / ".root", ".a.jpg", "_b.jpg", ".git/c.jpg", "_old/d.jpg", ".e.tar", ".f.txt", "a_b.jpg", "a.b.jpg")
    assert listed(tmp_path / ".root") == {
        ".a.jpg": "hidden",
        ".e.tar": "hidden",
        ".git/c.jpg": "hidden",
        "_b.jpg": "hidden",
        "_old/d.jpg": "hidden",
        "a.b.jpg": "file",
        "a_b.jpg": "file",
    }


def test_what_is_named_outright_counts(tmp_path: Path) -> None:
    put(tmp_path, ".hidden.jpg", "photo", "photo.dat")
    for name in (".hidden.jpg", "photo", "photo.dat"):
        assert listed(tmp_path / name) == {name: "file"}


def test_folders_with_a_photos_name_and_links(tmp_path: Path) -> None:
    put(tmp_path / "in", "album.jpg/a.jpg", "real/b.jpg")
    put(tmp_path / "elsewhere", "c.jpg")
    (tmp_path / "in" / "a_loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "first").symlink_to("real")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "dangling.tar").symlink_to("nowhere")
    (tmp_path / "in" / "z.jpg").symlink_to("real/b.jpg")
    assert listed(tmp_path / "in") == {
        "album.jpg": "special",
        "album.jpg/a.jpg": "file",
        "dangling.tar": "special",
        "other/c.jpg": "file",
        "real/b.jpg": "file",  # by its real name alone
        "z.jpg": "file",
    }


def test_names_of_any_bytes(tmp_path: Path) -> None:
    names = [b"\xff\xfe.jpg", b"new\nline.jpg", b"%41.jpg", b"#.jpg", "ü.jpg".encode(), b"[a]*?.jpg"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"photo")
    rows = list_images(str(tmp_path)).to_pylist()
    assert {row["path"] for row in rows} == {os.fsencode(tmp_path) + b"/" + name for name in names}
    assert {row["file_name"] for row in rows} == {
        "%FF%FE.jpg",
        "new\nline.jpg",
        "%41.jpg",
        "#.jpg",
        "ü.jpg",
        "[a]*?.jpg",
    }
    assert listed(tmp_path / "[a]*?.jpg") == {"[a]*?.jpg": "file"}  # a name first, a glob only if there is none


def test_a_root_of_any_bytes(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"\xff")
    put(root, "a.jpg")
    (row,) = list_images(str(root)).to_pylist()
    assert row["uri"] == f"{tmp_path}/%FF/a.jpg"
    assert row["path"] == os.fsencode(root) + b"/a.jpg"


def test_globs(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.png", "c.txt", "x/d.jpg", "x/y/e.jpg", "x/y/.f.jpg")
    assert list(listed(f"{tmp_path}/*.jpg")) == ["a.jpg"]
    assert list(listed(f"{tmp_path}/*")) == ["a.jpg", "b.png", "x/d.jpg", "x/y/.f.jpg", "x/y/e.jpg"]
    assert list(listed(f"{tmp_path}/**/*.jpg")) == ["a.jpg", "x/d.jpg", "x/y/.f.jpg", "x/y/e.jpg"]
    assert list(listed(f"{tmp_path}/[ab].*")) == ["a.jpg", "b.png"]
    assert list(listed(f"{tmp_path}/x/*/e.jpg")) == ["y/e.jpg"]


@pytest.mark.parametrize("place", ["", "memory://"])
def test_globs_below_folders_whose_names_read_like_globs(tmp_path: Path, place: str) -> None:
    put(tmp_path, "photos [2024]/a.jpg", "photos [2024]/[1]/b.jpg", "photos [2024]/x/[1]/c.jpg", "photos 2/d.jpg")
    put(tmp_path, "who?/e*/f.jpg")
    fsspec.filesystem("memory").put(str(tmp_path) + "/", f"{tmp_path}/", recursive=True)
    root = f"{place}{tmp_path}"
    assert list(listed(f"{root}/photos [2024]/*.jpg")) == ["a.jpg"]
    assert list(listed(f"{root}/photos [2024]/[1]/*.jpg")) == ["b.jpg"]
    assert list(listed(f"{root}/photos [2024]/*/[1]/*.jpg")) == ["x/[1]/c.jpg"]
    assert list(listed(f"{root}/photos [2024]/**/*.jpg")) == ["[1]/b.jpg", "a.jpg", "x/[1]/c.jpg"]
    assert list(listed(f"{root}/photos [0-9]/*.jpg")) == ["photos 2/d.jpg"]
    assert list(listed(f"{root}/who?/e*/?.jpg")) == ["f.jpg"]
    with pytest.raises(ValueError, match="no such file or folder"):
        list_images(f"{root}/photos [2024]/missing.jpg")


@pytest.mark.parametrize("images", ["nowhere", "nowhere/*.jpg", "*.png", "nowhere://x", "memory://nowhere"])
def test_what_is_not_there_is_one_line(tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="images") as caught:
        list_images(images)
    assert "\n" not in str(caught.value)


def test_the_output_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "out/b.jpg", "outside/c.jpg")
    (tmp_path / "linked").symlink_to(tmp_path)
    for exclude in (tmp_path / "out", tmp_path / "linked" / "out"):
        assert list(listed(tmp_path, str(exclude))) == ["a.jpg", "outside/c.jpg"]
    assert list(listed(f"{tmp_path}/*", str(tmp_path / "out"))) == ["a.jpg", "outside/c.jpg"]
    for elsewhere in (tmp_path.parent, tmp_path / "new", "s3://bucket/out"):
        assert len(listed(tmp_path, str(elsewhere))) == 3
    with pytest.raises(ValueError, match="inside or next to"):
        list_images(str(tmp_path), str(tmp_path))


def test_remote_listing_matches_local_listing(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "x/b.png", "x/.c.jpg", "notes.txt")
    (tmp_path / "t.tar").write_bytes(make_tar("a.jpg"))
    pq.write_table(pa.table({"image": [b"a"]}), tmp_path / "p.parquet")
    fsspec.filesystem("memory").put(str(tmp_path) + "/", "/listing/", recursive=True)
    remote, local = list_images("memory://listing"), list_images(str(tmp_path))
    for column in ("image_id", "file_name", "kind", "offset", "length"):
        assert remote[column] == local[column]
    assert remote["uri"][0].as_py() == "memory:///listing/a.jpg"
    assert list(listed("memory://listing/*.jpg")) == ["a.jpg"]
    assert list(listed("memory://listing/x/b.png")) == ["b.png"]


def test_links_of_an_index_page_to_itself_are_no_files(tmp_path: Path, web: str) -> None:
    put(tmp_path, "a.jpg", "b.txt", "x/c.jpg")
    for page in (tmp_path / "index.html", tmp_path / "x" / "index.html"):
        links = ["?C=N;O=D", *(f"{path.name}{'/' * path.is_dir()}" for path in page.parent.iterdir())]
        page.write_text("".join(f'<a href="{link}">{link}</a>' for link in links))
    assert listed(f"http://{web}/") == {"a.jpg": "file", "x/c.jpg": "file"}
    assert others_of(f"http://{web}/") == {".txt": 1}


def test_a_signed_address_is_used_but_not_written_down(tmp_path: Path, web: str) -> None:
    put(tmp_path, "a.jpg")
    images = f"http://{web}/a.jpg?X-Amz-Signature=secret"
    (row,) = list_images(images).to_pylist()
    assert "secret" not in str(row)
    assert (row["uri"], row["file_name"]) == (f"http://{web}/a.jpg", "a.jpg")
    assert fetch(row, images) == b"photo"


@pytest.mark.parametrize(
    ("uri", "clean"),
    [
        ("/photos/a?b#c@d.jpg", "/photos/a?b#c@d.jpg"),
        ("s3://bucket/key.jpg", "s3://bucket/key.jpg"),
        ("s3://AKIA:secret@bucket/key", "s3://bucket/key"),
        ("s3://AKIA:sec/ret+x@bucket/key", "s3://bucket/key"),
        ("s3://token@bucket/key", "s3://bucket/key"),
        ("s3://bucket/user@example.com/a.jpg", "s3://bucket/user@example.com/a.jpg"),
        ("https://user:p@ss@host:8080/a.jpg?sig=secret#token", "https://host:8080/a.jpg"),
        ("https://host:8080/user@example.com.jpg", "https://host:8080/user@example.com.jpg"),
        ("simplecache::https://user:secret@host/a.jpg", "simplecache::https://host/a.jpg"),
        ("zip://a.jpg::s3://k:secret@bucket/a.zip?token=secret", "zip://a.jpg::s3://bucket/a.zip"),
    ],
)
def test_redact(uri: str, clean: str) -> None:
    assert redact(uri) == clean


def test_shown_is_valid_text() -> None:
    assert shown(b"a\xff\xc3\xa4%41.jpg") == "a%FFä%41.jpg"
    shown(bytes(range(256))).encode("utf-8")

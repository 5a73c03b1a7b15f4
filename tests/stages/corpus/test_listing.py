"""Listing: what is a row, what it is called, in which order, and what is never shown."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.listing import SCHEMA
from stages.corpus.fetch import FetchError, fetch
from stages.corpus.listing import list_images
from stages.corpus.names import shown
from stages.corpus.tar_members import read_members
from stages.storage.location import redact


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"photo")


def listed(images: Path | str, exclude: str | None = None) -> dict[str, str]:
    return {row["file_name"]: row["kind"] for row in list_images(str(images), exclude).to_pylist()}


def make_tar(*members: str, format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = 1000
            tar.addfile(info, io.BytesIO(name.encode("utf-8", "surrogateescape").ljust(1000)))
    return buffer.getvalue()


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


LONG = "d/" * 80 + "n" * 60 + ".jpg"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_lie_where_the_headers_say(format: int) -> None:
    names = ["./a.jpg", "a.json", LONG, "ü \udcff.jpg", "b/c.JPG"]
    data = make_tar(*names, format=format)
    members, damaged_at = read_members(io.BytesIO(data))
    assert damaged_at is None
    for name, member in zip(names, members, strict=True):
        raw = name.encode("utf-8", "surrogateescape")
        assert member.name == raw.removeprefix(b"./")
        assert data[member.offset : member.offset + member.length] == raw.ljust(1000)
        assert member.regular


def test_tar_rows(tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(make_tar("./a.jpg", "a.json", "a.jpg", "_h.jpg", "../up.jpg", "x/../../up.jpg"))
    rows = list_images(str(tmp_path)).to_pylist()
    assert [(row["file_name"], row["kind"], row["bytes"]) for row in rows] == [
        ("t.tar#a.jpg", "tar", 1000),
        ("t.tar#a.jpg", "tar", 1000),
        ("t.tar#_h.jpg", "hidden", 1000),
        ("t.tar#../up.jpg", "special", 1000),
        ("t.tar#x/../../up.jpg", "special", 1000),
    ]
    assert len({row["image_id"] for row in rows}) == 5
    assert rows[0]["uri"] == f"{tmp_path}/t.tar#a.jpg"
    assert fetch(rows[1], str(tmp_path)) == b"a.jpg".ljust(1000)
    assert list_images(str(tmp_path / "t.tar")) == list_images(str(tmp_path))


@pytest.mark.parametrize(
    ("length", "names"),
    [
        (0, ["t.tar"]),
        (100, ["t.tar"]),
        (700, ["t.tar#a.jpg", "t.tar"]),
        (1536, ["t.tar#a.jpg", "t.tar"]),
        (1600, ["t.tar#a.jpg", "t.tar"]),
        (3072, ["t.tar#a.jpg", "t.tar#b.jpg", "t.tar"]),
        (3584, ["t.tar#a.jpg", "t.tar#b.jpg"]),
    ],
)
def test_a_tar_cut_short_says_so(tmp_path: Path, length: int, names: list[str]) -> None:
    (tmp_path / "t.tar").write_bytes(make_tar("a.jpg", "b.jpg")[:length])
    assert list(listed(tmp_path)) == names
    assert listed(tmp_path).get("t.tar", "special") == "special"


def test_damaged_tars_never_hang_or_raise() -> None:
    rng = np.random.default_rng(0)
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        whole = make_tar("a.jpg", LONG, "ü.jpg", format=format)
        for _ in range(300):
            damaged = bytearray(whole[: int(rng.integers(1, len(whole)))] if rng.random() < 0.3 else whole)
            for place in rng.integers(0, len(damaged), 20):
                damaged[place] ^= 1 << int(rng.integers(8))
            members, _ = read_members(io.BytesIO(damaged))
            for member in members:
                assert not member.regular or member.offset + member.length <= len(damaged)


@pytest.mark.parametrize("size", [b"-0000000512", b"\xff" * 11, b"\x80" + b"\xff" * 10])
def test_impossible_tar_sizes_are_damage(size: bytes) -> None:
    # Negative sizes sent tarfile backwards for ever (CVE-2025-8194); here with a valid checksum.
    header = bytearray(make_tar("a.jpg")[:512])
    header[124 : 124 + len(size)] = size
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    members, damaged_at = read_members(io.BytesIO(bytes(header) * 3))
    assert damaged_at is not None
    assert not any(member.regular for member in members)


def test_joined_tars_are_read_to_their_end(tmp_path: Path) -> None:
    one, two = make_tar("a.jpg", "b.jpg"), make_tar("a.jpg", "c.jpg")
    (tmp_path / "t.tar").write_bytes(one + two + bytes(1 << 17) + make_tar("d.jpg"))
    rows = list_images(str(tmp_path)).to_pylist()
    assert [row["file_name"].removeprefix("t.tar#") for row in rows] == ["a.jpg", "b.jpg", "a.jpg", "c.jpg", "d.jpg"]
    assert [fetch(row, str(tmp_path))[:5] for row in rows] == [b"a.jpg", b"b.jpg", b"a.jpg", b"c.jpg", b"d.jpg"]
    assert len({row["image_id"] for row in rows}) == 5
    (tmp_path / "t.tar").write_bytes(one + b"no tar" * 100)
    assert list(listed(tmp_path).values()) == ["tar", "tar", "special"]


def test_compressed_tars(tmp_path: Path) -> None:
    put(tmp_path, "a.tar.gz", "b.tgz", "c.jpg")
    assert listed(tmp_path) == {"a.tar.gz": "special", "b.tgz": "special", "c.jpg": "file"}
    with pytest.raises(ValueError, match=r"a\.tar\.gz.*decompress"):
        list_images(str(tmp_path / "a.tar.gz"))


def test_archives_that_are_not_read_are_rows_that_say_so(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", "b.7z", "c.mpo", "d.jxl", "e.HIF", "f.txt")
    kinds = {"a.zip": "special", "b.7z": "special", "c.mpo": "file", "d.jxl": "file", "e.HIF": "file"}
    assert listed(tmp_path) == kinds
    for row in list_images(str(tmp_path)).to_pylist()[:2]:
        with pytest.raises(FetchError, match="unpack it first"):
            fetch(row, str(tmp_path))
    with pytest.raises(ValueError, match=r"a\.zip.*unpack"):
        list_images(str(tmp_path / "a.zip"))


def test_a_server_that_sends_whole_files_for_parts_is_named(tmp_path: Path, web: str) -> None:
    (tmp_path / "s.tar").write_bytes(make_tar("a.jpg"))
    (row,) = (row for row in list_images(f"http://{web}/s.tar").to_pylist() if row["kind"] == "tar")
    with pytest.raises(FetchError, match="sends whole files for a part of one; copy the archive first"):
        fetch(row, f"http://{web}/s.tar")


def test_parquet_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": [1, 2, 3], "image": [b"a", b"b", None]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"bytes": [1, 2]}), tmp_path / "numbers.parquet")
    put(tmp_path, "broken.parquet")
    assert listed(tmp_path) == {
        "a.parquet#0": "parquet",
        "a.parquet#1": "parquet",
        "a.parquet#2": "parquet",
        "broken.parquet": "special",
    }
    with pytest.raises(ValueError, match="no binary column"):
        list_images(str(tmp_path / "numbers.parquet"))


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


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


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

"""Listing: what is a row, what it is called, in which order, and what is never shown."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import shutil
import tarfile
import threading
import zipfile
from collections import Counter
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
from stages.corpus.others import describe_others
from stages.corpus.tar_members import read_members
from stages.storage.location import redact


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"photo")


def listed(images: Path | str, exclude: str | None = None) -> dict[str, str]:
    return {row["file_name"]: row["kind"] for row in list_images(str(images), exclude).to_pylist()}


def others_of(images: Path | str) -> dict[str, int]:
    list_images(str(images), others=(others := Counter[str]()))
    return dict(others)


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


def test_files_in_tars_that_are_not_photos(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("a.jpg", "a.json", "in.tar", "in.zip", "x/in.tgz", "in.parquet", "_in.tar", "README"):
            tar.addfile(tarfile.TarInfo(name))
        for name in ("x", "y.d", "folder.tar"):
            (info := tarfile.TarInfo(name)).type = tarfile.DIRTYPE
            tar.addfile(info)
        (info := tarfile.TarInfo("link.txt")).type = tarfile.SYMTYPE
        tar.addfile(info)
    archives = ["t.tar#in.tar", "t.tar#in.zip", "t.tar#x/in.tgz", "t.tar#in.parquet"]
    assert listed(tmp_path) == {"t.tar#a.jpg": "tar", "t.tar#_in.tar": "hidden"} | dict.fromkeys(archives, "special")
    assert others_of(tmp_path) == {".json": 1, "no suffix": 1, ".txt": 1}
    for row in list_images(str(tmp_path)).to_pylist():
        if row["kind"] == "special":
            with pytest.raises(FetchError, match="an archive in a tar is not read; unpack the outer one first"):
                fetch(row, str(tmp_path))
    (tmp_path / "t.tar").write_bytes(make_tar())
    assert others_of(tmp_path) == {".tar of no files": 1}


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


def test_large_archives_on_such_a_server_are_rows(tmp_path: Path, web: str) -> None:
    (tmp_path / "s.tar").write_bytes(make_tar(*(f"{number}.jpg" for number in range(100))))
    images = [np.random.default_rng(number).bytes(50_000) for number in range(4)]
    pq.write_table(pa.table({"image": images}), tmp_path / "p.parquet")
    put(tmp_path, "a.jpg")
    rows = {row["file_name"]: row for row in list_images(f"http://{web}/").to_pylist()}
    assert fetch(rows["a.jpg"], f"http://{web}/") == b"photo"
    for name in ("s.tar", "p.parquet"):
        with pytest.raises(FetchError, match="could not be read in parts when it was listed; copy the archive first"):
            fetch(rows[name], f"http://{web}/")
        with pytest.raises(ValueError, match=rf"{name}: the archive cannot be read in parts .*copy it to a disk first"):
            list_images(f"http://{web}/{name}")


def test_what_is_in_a_zip_is_listed_by_its_uri(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("x/a.jpg", b"photo")
        file.writestr("b.txt", b"text")
    for images, name in ((f"zip://::{tmp_path}/z.zip", "x/a.jpg"), (f"zip://x::file://{tmp_path}/z.zip", "a.jpg")):
        (row,) = list_images(images).to_pylist()
        assert row["file_name"] == name
        assert fetch(row, images) == b"photo"
    put(tmp_path, "no.zip")
    for images in (f"zip://{tmp_path}/z.zip", f"zip://::{tmp_path}/no.zip", f"zip://::{tmp_path}/gone.zip"):
        with pytest.raises(ValueError, match=r"cannot be opened.*zip://::FILE"):
            list_images(images)


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


VIEWS = pa.struct({"bytes": pa.binary_view(), "path": pa.string()})
LISTS = [pa.list_(pa.binary()), pa.large_list(pa.binary_view()), pa.list_(VIEWS)]


@pytest.mark.parametrize("kind", LISTS)
def test_a_parquet_of_lists_of_images_says_so(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"image": pa.array([[], None], kind)}), tmp_path / "a.parquet")
    (row,) = list_images(str(tmp_path)).to_pylist()
    with pytest.raises(FetchError, match="bad_member: column 'image' holds lists of images"):
        fetch(row, str(tmp_path))
    with pytest.raises(ValueError, match=r"a\.parquet: column 'image' holds lists of images"):
        list_images(str(tmp_path / "a.parquet"))


def test_a_parquet_without_images_is_counted(tmp_path: Path) -> None:
    columns = [["a.jpg"], pa.array(["a.jpg"], pa.string_view()), [1], [None], pa.array([], pa.binary())]
    for number, column in enumerate(columns):
        pq.write_table(pa.table({"image": column}), tmp_path / f"{number}.parquet")
    twice = pa.Table.from_arrays([pa.array([b"a"]), pa.array([b"b"])], names=["image", "image"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    assert listed(tmp_path) == {}
    assert others_of(tmp_path) == {".parquet of no images": 6}


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

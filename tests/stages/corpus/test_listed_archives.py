"""Tars, zips and Parquet in the listing: their members are rows, and what is damaged or not read says so."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.corpus.fetch import FetchError, fetch
from stages.corpus.listing import list_images
from tests.helpers.listings import listed, make_tar, members_of, others_of, put

LONG = "d/" * 80 + "n" * 60 + ".jpg"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_lie_where_the_headers_say(format: int) -> None:
    names = ["./a.jpg", "a.json", LONG, "ü \udcff.jpg", "b/c.JPG"]
    data = make_tar(*names, format=format)
    members, damaged_at = members_of(data)
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
            members, _ = members_of(damaged)
            for member in members:
                assert not member.regular or member.offset + member.length <= len(damaged)


@pytest.mark.parametrize("size", [b"-0000000512", b"\xff" * 11, b"\x80" + b"\xff" * 10])
def test_impossible_tar_sizes_are_damage(size: bytes) -> None:
    # Negative sizes sent tarfile backwards for ever (CVE-2025-8194); here with a valid checksum.
    header = bytearray(make_tar("a.jpg")[:512])
    header[124 : 124 + len(size)] = size
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    members, damaged_at = members_of(bytes(header) * 3)
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

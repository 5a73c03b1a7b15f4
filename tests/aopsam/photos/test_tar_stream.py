"""The streaming walk through a tar: equal to `tarfile` on whole ones, and what a damaged one still gives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable

import numpy as np
import pytest

from aopsam.photos.tar_stream import MAX_MEMBER_BYTES, read_files

FILES = {f"./{'long/' * (n * 20)}{n}.bin": bytes([n]) * size for n, size in enumerate((0, 1, 512, 700, 3000))}


def tar_of(files: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(data: bytes) -> tuple[dict[str, bytes], list[str]]:
    problems: list[str] = []
    return dict(read_files(io.BytesIO(data), lambda name: True, problems.append)), problems


def header_at(data: bytes, name: str) -> int:
    return data.index(name.encode())


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_whole_tars_are_read_as_tarfile_reads_them(form: int, pack: Callable[[bytes], bytes]) -> None:
    data = tar_of(FILES, form)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    assert read(pack(data)) == (expected, [])


def test_a_gzip_in_several_parts_is_read_to_its_end() -> None:
    data = tar_of(FILES)
    assert read(gzip.compress(data[:1500]) + gzip.compress(data[1500:])) == (FILES, [])


def test_tars_behind_one_another_are_read_as_one() -> None:
    assert read(tar_of({"a": b"A"}) + tar_of({"b": b"B"})) == ({"a": b"A", "b": b"B"}, [])


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_other_encodings_become_valid_text(form: int) -> None:
    (name,), problems = read(tar_of({"\udce4.bin": b"A"}, form))
    assert not problems
    assert name == "\\xe4.bin"


def test_links_and_folders_have_no_content_and_wanted_links_are_named() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo("x")
            info.type, info.linkname = kind, "/etc/hostname"
            tar.addfile(info)
    files, problems = read(buffer.getvalue()[:1536] + tar_of({"a": b"A"}))
    assert files == {"a": b"A"}
    assert problems == ["x: is a link or a device, no file; not read"] * 2


@pytest.mark.parametrize("value", [b"9" * 5000, b"9" * 30])
def test_an_extended_header_of_absurd_numbers_is_passed_over(value: bytes) -> None:
    size = b"size=" + value + b"\n"
    assert read(pax_header(b"%d %s" % (len(size) + 5, size)) + tar_of({"a": b"A"})) == ({"a": b"A"}, [])
    assert read(pax_header(value + b" path=x\n") + tar_of({"a": b"A"})) == ({"a": b"A"}, [])


def test_a_long_extended_header_is_read_at_once() -> None:
    records = b"6 a=b\n" * 170_000
    assert read(pax_header(records) + tar_of({"a": b"A"})) == ({"a": b"A"}, [])


def pax_header(records: bytes) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    return info.tobuf() + records + bytes(-len(records) % 512)


def test_a_damaged_header_costs_its_member_alone() -> None:
    data = bytearray(tar_of({name: name.encode() * 400 for name in ("one", "two", "three")}))
    data[header_at(bytes(data), "two") + 150] ^= 1  # its checksum
    files, problems = read(bytes(data))
    assert list(files) == ["one", "three"]
    (problem,) = problems
    assert problem.startswith("byte 2048 of the tar")


def test_a_member_that_claims_a_huge_size_costs_itself_alone() -> None:
    info = tarfile.TarInfo("huge")
    info.size = 10**13
    data = tar_of({"a": b"A"})[:1024] + info.tobuf(tarfile.GNU_FORMAT) + tar_of({"b": b"B"})
    files, problems = read(data)
    assert files == {"a": b"A", "b": b"B"}
    assert problems == [f"huge: claims {10**13} bytes, over the limit of {MAX_MEMBER_BYTES}; not read"]


def test_a_name_that_claims_a_huge_size_is_not_read_into_memory() -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 10**13
    files, problems = read(info.tobuf(tarfile.GNU_FORMAT) + tar_of({"b": b"B"}))
    assert files == {"b": b"B"}
    assert "claims 10000000000000 bytes" in problems[0]


@pytest.mark.parametrize("end", [1300, 1800, 2048])
def test_a_cut_gives_what_came_before_and_a_line(end: int) -> None:
    files, problems = read(tar_of({"a": b"A", "b": b"B" * 900})[:end])
    assert files == {"a": b"A"} if end < 2048 else len(files) == 1
    assert len(problems) == 1
    assert "cut short at byte" in problems[0]


def test_a_cut_between_members_is_told_by_the_missing_end_mark() -> None:
    assert read(tar_of({"a": b"A"})[:1024]) == ({"a": b"A"}, ["cut short at byte 1024 of the tar: no end mark"])


def test_a_gzip_cut_short_and_one_broken_in_the_middle() -> None:
    noise = np.random.default_rng(0).bytes(200_000)
    packed = gzip.compress(tar_of({"a": noise, "b": noise[::-1]}))
    for broken in (packed[: len(packed) * 3 // 4], packed[:300_000] + b"\xff" * 50 + packed[300_050:]):
        files, problems = read(broken)
        assert files["a"] == noise
        assert files.get("b") != noise[::-1]
        assert problems[-1].startswith("cannot be read on from byte")


def test_what_is_no_tar_is_one_line() -> None:
    files, problems = read(b"some text" * 1000)
    assert not files
    assert "byte 0 of the tar" in problems[0]

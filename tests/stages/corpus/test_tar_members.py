"""Extended headers and sizes of tars that no archive holds."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from stages.corpus.listing import list_images
from tests.helpers.listings import members_of


def pax_header(records: bytes) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    return info.tobuf() + records + bytes(-len(records) % 512)


def member(name: str, size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [2**63 - 1, 2**63, 2**80])
def test_a_size_that_no_column_holds_costs_no_other_photo(tmp_path: Path, size: int) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.tar").write_bytes(member("c.jpg") + member("d.jpg", size))
    (tmp_path / "e.tar").write_bytes(pax_header(b"%d size=%d\n" % (len(str(size)) + 9, size)) + member("f.jpg"))
    names = list_images(str(tmp_path)).column("file_name").to_pylist()
    assert {"a.jpg", "b.tar#c.jpg", "b.tar", "e.tar"} <= set(names)


def test_a_long_extended_header_is_read_at_once() -> None:
    data = pax_header(b"6 a=b\n" * 170_000) + member("a.jpg") + bytes(1024)
    members, damaged_at = members_of(data)
    assert [each.name for each in members] == [b"a.jpg"]
    assert damaged_at is None


@pytest.mark.parametrize("records", [b"9" * 5000 + b" path=x\n", b"5014 size=" + b"9" * 5003 + b"\n"])
def test_absurd_numbers_are_damage(records: bytes) -> None:
    members, damaged_at = members_of(pax_header(records) + member("a.jpg") + bytes(1024))
    assert not members
    assert damaged_at is not None


def test_a_photo_whose_padding_alone_is_cut_is_whole() -> None:
    members, damaged_at = members_of(member("a.jpg", 3) + b"abcd")
    assert [(each.offset, each.length, each.regular) for each in members] == [(512, 3, True)]
    assert damaged_at == 516


def test_an_end_behind_an_extended_header_is_damage_at_the_end() -> None:
    data = pax_header(b"6 a=b\n")[:-10]
    assert members_of(data) == ([], len(data))

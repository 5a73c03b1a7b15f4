"""Tars as photos come in them, nearly sound: each photo is a row of the listing, or a row says what is damaged."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.listing import list_images
from stages.corpus.names import Role, role
from stages.corpus.tar_members import Member
from tests.helpers.listings import members_of
from tests.helpers.mutations import damaged, limited

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of an example that fails
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
NAMES = st.one_of(
    st.sampled_from(["a.jpg", "./a.jpg", "b/c.PNG", "b.txt", "../x.jpg", "/y.jpg", ".z.jpg", "\udce4.jpg", "é.jpg"]),
    st.sampled_from(["long/" * 30 + "x.jpg", "dir.jpg/", "a\nb.gif", "none"]),
    st.text("ab./_", min_size=1, max_size=4).map(lambda name: name + ".jpg"),
)
KINDS = st.sampled_from([tarfile.REGTYPE] * 12 + [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=draw(st.sampled_from(FORMATS))) as tar:
        for name in draw(st.lists(NAMES, max_size=5)):
            info = tarfile.TarInfo(name)
            info.type = draw(KINDS)
            info.size = draw(st.integers(0, 1100)) if info.isreg() else 0
            info.linkname = "" if info.isreg() else "a.jpg"
            tar.addfile(info, io.BytesIO(b"\xff" * info.size))
    whole = buffer.getvalue()
    # GNU's tar pads to 10 KiB; most of a tar as short as these would be zeros.
    return whole.rstrip(b"\0") + bytes(-len(whole.rstrip(b"\0")) % 512 + 1024) if draw(st.booleans()) else whole


@st.composite
def extended_headers(draw: st.DrawFn) -> bytes:
    """Draw a tar whose member has an extended header of odd records, and numbers in its own header that may be odd."""
    numbers = st.integers(0, 60) | st.sampled_from([2**31, 2**63 - 1, 2**63, 2**70, 10**30, 10**5000])
    values = st.one_of(
        numbers.map(lambda number: b"%d" % number if number < 2**99 else b"9" * 5000), st.binary(max_size=9)
    )
    records = b""
    for _ in range(draw(st.integers(0, 3))):
        key = draw(st.sampled_from([b"size", b"size", b"path", b"GNU.sparse.size", b"mtime", b"", b"hdrcharset"]))
        record = b" " + key + draw(st.sampled_from([b"=", b"=", b"=", b""])) + draw(values) + b"\n"
        length = next(digits for digits in range(1, 9) if len(str(len(record) + digits)) == digits) + len(record)
        records += (
            draw(st.sampled_from([b"%d" % length] * 8 + [b"0", b"-1", b"", b"1", b"9" * 5000, b"%d" % (length - 1)]))
            + record
        )
    extended, member = tarfile.TarInfo("x"), tarfile.TarInfo("a.jpg")
    extended.type = draw(st.sampled_from([b"x", b"x", b"x", b"g", b"L", b"K"]))
    extended.size = draw(st.sampled_from([len(records)] * 8 + [2**20, 2**21, 2**40, 5]))
    member.type = draw(st.sampled_from([b"0", b"0", b"0", b"S", b"1", b"5", b"7", b"q"]))
    member.size = draw(st.sampled_from([3, 3, 3, 600, 2**40, 2**63, 2**80]))
    head = extended.tobuf(tarfile.GNU_FORMAT) + records + bytes(-len(records) % 512)
    return (
        head + member.tobuf(tarfile.GNU_FORMAT) + b"abc" + bytes(509) + draw(st.sampled_from([bytes(1024), b"", b"x"]))
    )


def photos(data: bytes) -> Counter[bytes]:
    """Return the names of the photos of a sound tar, as `tarfile` lists them."""
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape", encoding="utf-8") as tar:
        names = [info.name.encode("utf-8", "surrogateescape") for info in tar]
    return Counter(name for name in map(_plain, names) if role(name) is Role.PHOTO)


def _plain(name: bytes) -> bytes:
    while name.startswith(b"./"):
        name = name[2:]
    return name.rstrip(b"/")


def listed(data: bytes) -> tuple[list[Member], int | None]:
    with limited():
        members, damaged_at = members_of(data)
    assert damaged_at is None or 0 <= damaged_at <= len(data)
    for member in members:
        if member.regular:
            assert 0 <= member.offset <= member.offset + member.length <= len(data)
    return members, damaged_at


def names(members: list[Member]) -> Counter[bytes]:
    return Counter(member.name for member in members if role(member.name) is Role.PHOTO)


@given(tars())
def test_sound_tars(data: bytes) -> None:
    members, damaged_at = listed(data)
    assert damaged_at is None
    assert names(members) == photos(data)
    assert all(set(data[each.offset : each.offset + each.length]) <= {255} for each in members)


@given(st.lists(tars(), min_size=2, max_size=3))
def test_joined_tars(parts: list[bytes]) -> None:
    members, damaged_at = listed(b"".join(parts))
    assert names(members) == sum(map(photos, parts), Counter()) or damaged_at is not None


@given(st.data())
def test_damaged_tars(data: st.DataObject) -> None:
    """What lies before the damage is listed as if there were none; if anything is lost, the offset of the damage is."""
    whole = data.draw(tars())
    broken = data.draw(damaged(whole))
    same = next((at for at, (one, other) in enumerate(zip(whole, broken, strict=False)) if one != other), None)
    same = min(len(whole), len(broken)) if same is None else same
    before = [each for each in listed(whole)[0] if each.offset + each.length <= same]
    members, damaged_at = listed(broken)
    assert members[: len(before)] == before
    if damaged_at is None:
        # Bytes that are gone in whole blocks leave no trace but the end of a tar, which must be there.
        assert not any(broken[-512:])
    if len(broken) == len(whole) and any(broken) and damaged_at is None and not _has_zero_header(whole, broken):
        # A name in an extended header has no checksum: the photo may have become another file.
        assert len(members) == len(listed(whole)[0])


def _has_zero_header(whole: bytes, broken: bytes) -> bool:
    """Return whether a header of the sound tar is a block of zeros now: the end of a tar, and so no damage."""
    with tarfile.open(fileobj=io.BytesIO(whole), errors="surrogateescape") as tar:
        starts = {at for info in tar for at in range(info.offset, info.offset_data, 512)}
    return not all(any(broken[at : at + 512]) for at in starts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tars")
    (folder / "a.tar").write_bytes(bytes(1024))
    list_images(str(folder))  # the first time it imports what takes seconds
    return folder


@given(data=extended_headers() | tars().flatmap(damaged))
def test_listing(folder: Path, data: bytes) -> None:
    """Every member is a row or among the others, a damage is one row more, whatever the numbers say."""
    members, damaged_at = listed(data)
    (folder / "a.tar").write_bytes(data)
    others = Counter[str]()
    with limited():
        rows = list_images(str(folder), others=others).to_pylist()
    assert len({row["image_id"] for row in rows}) == len(rows)
    kinds = Counter(row["kind"] for row in rows if role(row["file_name"].encode()) is Role.PHOTO)
    assert kinds.total() == names(members).total()
    damages = sum(row["file_name"] == "a.tar" for row in rows)
    assert damages == (damaged_at is not None)
    files = sum(not member.folder or role(member.name) is Role.PHOTO for member in members)
    assert len(rows) - damages + others.total() - others[".tar of no files"] == files

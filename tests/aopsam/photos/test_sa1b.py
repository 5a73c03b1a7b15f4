"""SA-1B shards: order, partners, broken members, links."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from aopsam.photos.sa1b import read_shard


def record(width: int = 4, height: int = 3) -> bytes:
    annotation = {"segmentation": {"size": [height, width], "counts": "0<"}, "bbox": [0, 0, 4, 3], "area": 12}
    return json.dumps({"image": {"width": width, "height": height}, "annotations": [annotation]}).encode()


def shard(members: list[tuple[str, bytes]]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def test_pairs_in_any_order() -> None:
    tar = shard([("./b.json", record()), ("./a.jpg", b"A"), ("./b.jpg", b"B"), ("./a.json", record(9, 7))])
    samples = list(read_shard(tar))
    assert [(s.id, s.jpeg, s.width, s.height) for s in samples] == [("b", b"B", 4, 3), ("a", b"A", 9, 7)]
    assert samples[0].annotations[0]["area"] == 12


def test_problems_are_named_and_the_rest_is_read() -> None:
    tar = shard(
        [
            ("./bad.jpg", b"x"),
            ("./bad.json", b"{not json"),
            ("./list.jpg", b"x"),
            ("./list.json", b"[]"),
            ("./alone.jpg", b"x"),
            ("./orphan.json", record()),
            ("./readme.txt", b"x"),
            ("./good.jpg", b"G"),
            ("./good.json", record()),
        ]
    )
    problems: list[str] = []
    assert [s.id for s in read_shard(tar, problems.append)] == ["good"]
    assert len(problems) == 4
    for word in ("bad.json", "list.json", "alone: photo without its JSON", "orphan: JSON without its photo"):
        assert any(word in line for line in problems), word


def test_all_photos_may_come_before_all_jsons_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aopsam.photos.sa1b.WAITING_BYTES", 100)
    photos = {str(n): bytes([n]) * 60 for n in range(9)}
    texts = [(f"{name}.json", record(width=int(name) + 1)) for name in photos]
    members = [(f"{name}.jpg", photo) for name, photo in photos.items()] + texts[::-1]
    for order in (members, members[::-1]):
        samples = list(read_shard(shard(order)))
        assert {sample.id: sample.jpeg for sample in samples} == photos
        assert all(sample.width == int(sample.id) + 1 for sample in samples)


def test_a_member_that_occurs_twice_is_named() -> None:
    tar = shard([("a.jpg", b"1"), ("a.jpg", b"2"), ("a.json", record()), ("._a.jpg", b"of macOS")])
    problems: list[str] = []
    assert [sample.jpeg for sample in read_shard(tar, problems.append, "s.tar")] == [b"2"]
    assert problems == ["s.tar: a: its photo occurs twice; the later one is used"]


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"image": {"width": 1e999, "height": 1}, "annotations": []}',
        b'{"image": {"width": 1, "height": 1}, "annotations": [{}], "annotations": []}',
        b'{"image": {"width": 1%s, "height": 1}, "annotations": []}' % (b"0" * 400),
        b'{"image": {"width": 1.5, "height": 1}, "annotations": []}',
        b'{"image": {"width": 0, "height": 1}, "annotations": []}',
    ],
)
def test_hostile_json_costs_its_image(text: bytes) -> None:
    problems: list[str] = []
    assert list(read_shard(shard([("a.jpg", b"A"), ("a.json", text)]), problems.append)) == []
    assert "a.json: not an SA-1B record" in problems[0]


@pytest.mark.parametrize("data", [bytes(1), bytes(100_000), shard([("a.txt", b"A")]).getvalue()])
def test_a_shard_without_photos_is_named(data: bytes) -> None:
    problems: list[str] = []
    assert list(read_shard(io.BytesIO(data), problems.append, "s.tar")) == []
    assert problems == ["s.tar: neither a photo nor a JSON is in it"]


def test_truncated_tar_gives_what_came_before() -> None:
    whole = shard([("./a.jpg", b"A"), ("./a.json", record()), ("./b.jpg", b"B" * 5000), ("./b.json", record())])
    problems: list[str] = []
    samples = list(read_shard(io.BytesIO(whole.getvalue()[:4000]), problems.append))
    assert [s.id for s in samples] == ["a"]
    assert problems


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("./a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        info = tarfile.TarInfo("./a.json")
        info.size = len(record())
        tar.addfile(info, io.BytesIO(record()))
    problems: list[str] = []
    assert list(read_shard(path, problems.append)) == []
    assert problems == [
        f"{path}: ./a.jpg: is a link or a device, no file; not read",
        f"{path}: a: JSON without its photo",
    ]


def test_members_may_leave_their_folder_in_name_only(tmp_path: Path) -> None:
    tar = shard([("../../evil.jpg", b"E"), ("../../evil.json", record())])
    assert [s.jpeg for s in read_shard(tar)] == [b"E"]
    assert list(tmp_path.iterdir()) == []

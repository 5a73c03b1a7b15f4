"""Photos without annotations, part by part: small sources in their order, large ones as a window, remote ones."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aopsam.photos.sa1b import Sample
from aopsam.training import stream
from aopsam.training.annotated import Annotated, Findings
from aopsam.training.pool import Pool
from aopsam.training.stream import StreamedPhotos
from stages.corpus.fetch import fetch
from stages.corpus.listing import list_images
from stages.train import listed
from stages.train.listed import bare, read_listed
from tests.helpers.counting_server import serve
from tests.helpers.listings import make_tar
from tests.helpers.made_shard import jpeg, write_shard

HW = (96, 128)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files around two tars and a Parquet file, three files a part; some are no photos."""
    monkeypatch.setattr(listed, "FILES_A_PART", 3)
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for seed, name in enumerate(("a", "c", "d", "deeper/b", "z", "zz")):
        (folder / f"{name}.jpg").write_bytes(jpeg(seed, HW))
    (folder / "cut.jpg").write_bytes(jpeg(9, HW)[:400])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_bytes(b"")
    for number, tar in enumerate(("b.tar", "deeper/e.tar")):
        names = {f"{number}-{n}": (jpeg(10 + 10 * number + n, HW), []) for n in range(4)}
        write_shard(folder / tar, names)
    table = pa.table({"image": [jpeg(40 + n, HW) for n in range(5)]})
    pq.write_table(table, folder / "p.parquet", row_group_size=2)
    return folder


def stored(photos: StreamedPhotos) -> list[bytes]:
    return [photo.rgb.tobytes() for photo in photos.photos]


def test_photos_of_small_sources_are_those_of_the_listing_in_its_order(folder: Path) -> None:
    problems: list[str] = []
    sources = [str(folder), str(folder / "b.tar")]
    first, behind = read_listed(sources, bare, problems.append, seed=3)
    rows = [(row, images) for images in sources for row in list_images(images).to_pylist()]
    rows = [(row, images) for row, images in rows if row["file_name"] not in ("cut.jpg", "empty.jpg")]
    assert first.is_all
    assert first.photos.ids == [row["file_name"] for row, _ in rows]
    assert len(first.photos) == 6 + 8 + 5 + 4
    expected = [bare(Sample("", fetch(row, images), 0, 0, []), Findings()) for row, images in rows]
    for photo, one in zip(first.photos, expected, strict=True):
        assert one is not None
        np.testing.assert_array_equal(photo.rgb, one.rgb)
    assert [line.split(": ")[:2] for line in problems] == [
        [str(folder), "9 other files not looked at (.json 8, .txt 1)"],
        [str(folder / "b.tar"), "4 other files not looked at (.json 4)"],
        ["cut.jpg", "corrupt_image"],
        [str(folder / "empty.jpg"), "empty_file"],
    ]
    assert len(behind.shards) > 6


def test_large_sources_are_a_window_that_depends_on_the_update_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WINDOW_BYTES", 15_000)

    problems: list[str] = []

    def windows(seed: int, updates: range, state: dict | None = None) -> tuple[list[tuple[str, ...]], Pool]:
        first, behind = read_listed([str(folder)], bare, problems.append, seed)
        photos = StreamedPhotos(first, range(len(first.photos)), behind, bare)
        pool = Pool([photos], 1)
        pool.begin(updates[0], 1, state)
        found = []
        for update in updates:
            pool.move(update)
            found.append(tuple(photo.id for photo in pool.sources[0]))
        return found, pool

    unbroken, pool = windows(0, range(50))
    told = sorted(line.partition(": ")[0] for line in problems + pool.news())
    assert told == [str(folder), str(folder / "empty.jpg"), "cut.jpg"]
    assert all(len(ids) < 10 for ids in unbroken)
    assert {name for ids in unbroken for name in ids} == {
        row["file_name"]
        for row in list_images(str(folder)).to_pylist()
        if row["file_name"] not in ("cut.jpg", "empty.jpg")
    }
    state = json.loads(json.dumps(pool.state(33)))
    assert state["at"] is not None
    assert windows(0, range(33, 50), state)[0] == unbroken[33:]
    assert windows(1, range(10))[0] != unbroken[:10]


NAMES = [f"{number:03}.jpg" for number in range(300)]


def grey(sample: Sample, findings: Findings) -> Annotated:
    """A photo of a member of `make_tar`."""
    assert sample.jpeg == sample.id.rpartition("#")[2].encode().ljust(1000)
    return Annotated(sample.id, np.zeros((1, 1, 3), np.uint8), [], np.zeros((0, 2)), np.zeros(0))


def test_a_remote_tar_is_read_by_one_request(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(make_tar(*NAMES))
    with serve(tmp_path) as (address, asked):
        first, _ = read_listed([f"http://{address}/s.tar"], grey, pytest.fail, seed=0)
        assert first.photos.ids == [f"s.tar#{name}" for name in NAMES]
        assert len([one for one in asked if one[0] == "GET"]) <= 3


def test_a_forked_process_goes_on_in_a_remote_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WINDOW_BYTES", 50_000)
    (tmp_path / "s.tar").write_bytes(make_tar(*NAMES))
    with serve(tmp_path) as (address, _):
        first, behind = read_listed([f"http://{address}/s.tar"], grey, pytest.fail, seed=0)
        expected = f"s.tar#{NAMES[len(first.photos)]}"

        def go_on() -> None:
            sample = behind.next()
            os._exit(0 if sample is not None and sample.id == expected else 1)

        child = multiprocessing.get_context("fork").Process(target=go_on)
        child.start()
        child.join(60)
        child.kill()
        assert child.exitcode == 0

"""Remote tars: listed by one read from start to end, their members read in order by few requests."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from stages.corpus.fetch import BYTES_A_READ, FetchError, fetch, fetch_each
from stages.corpus.listing import list_images
from tests.helpers.counting_server import serve
from tests.helpers.listings import make_tar

MEMBERS = {f"{number:03}.jpg": np.random.default_rng(number).bytes(100_000) for number in range(200)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    with tarfile.open(folder / "s.tar", "w") as tar:
        for name, data in MEMBERS.items():
            (info := tarfile.TarInfo(name)).size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.mark.parametrize("end", ["/s.tar", "/"])
def test_a_shard_of_200_photos_is_listed_by_three_requests_and_read_in_order(folder: Path, end: str) -> None:
    with serve(folder) as (address, asked):
        images = f"http://{address}{end}"
        rows = list_images(images).to_pylist()
        assert len(rows) == 200
        assert len([one for one in asked if one[1] == "/s.tar" and one[0] == "GET"]) <= 3
        asked.clear()
        for row, read in zip(rows, fetch_each(rows, images), strict=True):
            assert read() == MEMBERS[row["file_name"].partition("#")[2]]
        starts = [int(span.removeprefix("bytes=").partition("-")[0]) for _, _, span in asked if span]
        assert starts == sorted(starts)
        assert len(starts) == -(-200 * 100_000 // BYTES_A_READ)


def test_a_connection_that_breaks_costs_no_member(folder: Path) -> None:
    with serve(folder, breaks_at=5_000_000) as (address, asked):
        assert list_images(f"http://{address}/").num_rows == 200
        assert any(span for _, _, span in asked)


def test_members_that_cannot_be_read_together_say_why_for_themselves(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(make_tar("a.jpg", "b.jpg", "c.jpg"))
    with serve(tmp_path) as (address, _):
        images = f"http://{address}/"
        rows = list_images(images).to_pylist()
        readers = fetch_each(rows, images)
        (tmp_path / "s.tar").write_bytes(make_tar("a.jpg")[:1600])
        assert readers[0]() == b"a.jpg".ljust(1000)
        with pytest.raises(FetchError):
            readers[2]()
        assert fetch(rows[0], images) == b"a.jpg".ljust(1000)

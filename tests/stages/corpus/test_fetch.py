"""Every row of a manifest is either bytes or a reason; nothing hangs, nothing leaks."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stages.corpus.fetch
from aopsam.photos.decode import PhotoError, open_photo
from schemas.labels import Reason, Status
from stages.corpus.fetch import FetchError, fetch
from stages.corpus.listing import list_images
from tests.helpers.odd_files import GOOD, Expected, build_odd_files, one_colour_png

MAX_PIXELS = 100_000_000
HUGGING_FACE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
VIEWS = pa.struct({"bytes": pa.binary_view(), "path": pa.string()})
DICTIONARY = pa.dictionary(pa.int32(), pa.binary())
KINDS = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(7), DICTIONARY, HUGGING_FACE]


def refused(row: dict[str, object], images: str) -> Reason:
    with pytest.raises(FetchError) as caught:
        fetch(row, images)
    assert "\n" not in caught.value.message
    return caught.value.reason


def outcome(row: dict[str, object], images: str) -> tuple[Status, Reason]:
    try:
        open_photo(fetch(row, images), MAX_PIXELS)
    except FetchError as error:
        return (Status.REJECTED if error.reason == Reason.HIDDEN_NAME else Status.FAILED), error.reason
    except PhotoError as error:
        reason = Reason(error.kind)
        return (Status.REJECTED if reason == Reason.TOO_MANY_PIXELS else Status.FAILED), reason
    return Status.OK, Reason.NONE


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def expected(odd_folder: Path) -> dict[bytes, Expected]:
    return build_odd_files(odd_folder)


def test_odd_files_have_the_status_they_must(odd_folder: Path, expected: dict[bytes, Expected]) -> None:
    rows = {row["image_id"]: row for row in list_images(str(odd_folder)).to_pylist()}
    assert rows.keys() == {one.image_id for one in expected.values()}
    for name, (image_id, statuses, reasons) in expected.items():
        status, reason = outcome(rows[image_id], str(odd_folder))
        assert status in statuses, name
        assert reason in reasons, name
    for name in GOOD:
        assert fetch(rows[expected[name].image_id], str(odd_folder)) == (odd_folder / os.fsdecode(name)).read_bytes()


def test_the_bomb_is_a_whole_png() -> None:
    rgb = open_photo(one_colour_png(800, 300), MAX_PIXELS).rgb
    assert rgb.shape == (300, 800, 3)
    assert (rgb == 255).all()


def one_row(folder: Path) -> dict[str, object]:
    (row,) = list_images(str(folder)).to_pylist()
    return row


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    row = one_row(tmp_path)
    (tmp_path / "a.jpg").unlink()
    assert refused(row, str(tmp_path)) == Reason.NOT_FOUND


def test_a_file_that_became_a_pipe_or_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    row = one_row(tmp_path)
    (tmp_path / "a.jpg").unlink()
    os.mkfifo(tmp_path / "a.jpg")
    assert refused(row, str(tmp_path)) == Reason.NOT_A_FILE
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "a.jpg").mkdir()
    assert refused(row, str(tmp_path)) == Reason.NOT_A_FILE


def test_a_file_that_cannot_be_read_through(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("/proc/self/mem")  # opens, then reading fails
    assert refused(one_row(tmp_path), str(tmp_path)) == Reason.READ_ERROR


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_locked_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    (tmp_path / "a.jpg").chmod(0)
    (tmp_path / "b").mkdir(mode=0)
    for row in list_images(str(tmp_path)).to_pylist():
        assert refused(row, str(tmp_path)) == Reason.NOT_PERMITTED


def test_a_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    monkeypatch.setattr(stages.corpus.fetch, "MAX_BYTES", 5)
    assert fetch(one_row(tmp_path), str(tmp_path)) == b"photo"
    monkeypatch.setattr(stages.corpus.fetch, "MAX_BYTES", 4)
    assert refused(one_row(tmp_path), str(tmp_path)) == Reason.READ_ERROR


@pytest.mark.usefixtures("expected")
def test_a_tar_that_shrank(tmp_path: Path, odd_folder: Path) -> None:
    shutil.copy(odd_folder / "shard.tar", tmp_path)
    rows = {row["file_name"]: row for row in list_images(str(tmp_path)).to_pylist()}
    os.truncate(tmp_path / "shard.tar", 700)
    assert refused(rows["shard.tar#sa_1.jpg"], str(tmp_path)) == Reason.BAD_MEMBER


@pytest.mark.parametrize("kind", KINDS)
def test_parquet_rows(tmp_path: Path, kind: pa.DataType) -> None:
    images = [b"photo %d" % number for number in range(10)]
    values = [{"bytes": image, "path": "x"} for image in images] if pa.types.is_struct(kind) else list(images)
    values[3] = None
    table = pa.table({"id": range(10), "image": pa.array(values, kind)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    rows = list_images(str(tmp_path)).to_pylist()
    for number in (0, 9, 4, 5, 1):
        assert fetch(rows[number], str(tmp_path)) == images[number]
    assert refused(rows[3], str(tmp_path)) == Reason.EMPTY_FILE
    assert refused(rows[0] | {"offset": 10}, str(tmp_path)) == Reason.NOT_FOUND


def test_parquet_rows_of_views_in_structs(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.array([{"bytes": b"one"}, None], VIEWS)}), tmp_path / "a.parquet")
    one, none = list_images(str(tmp_path)).to_pylist()
    assert fetch(one, str(tmp_path)) == b"one"
    assert refused(none, str(tmp_path)) == Reason.EMPTY_FILE


@pytest.mark.usefixtures("expected")
def test_remote_files_tars_and_parquet(odd_folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(odd_folder / "good_1.jpg"), "/remote/good_1.jpg")
    memory.put(str(odd_folder / "shard.tar"), "/remote/shard.tar")
    with memory.open("/remote/a.parquet", "wb") as file:
        pq.write_table(pa.table({"bytes": [b"one", b"two"]}), file)
    rows = {row["file_name"]: row for row in list_images("memory://remote").to_pylist()}
    photo = (odd_folder / "good_1.jpg").read_bytes()
    assert fetch(rows["good_1.jpg"], "memory://remote") == photo
    assert fetch(rows["shard.tar#sa_1.jpg"], "memory://remote")[:3] == b"\xff\xd8\xff"
    assert refused(rows["shard.tar#empty.jpg"], "memory://remote") == Reason.EMPTY_FILE
    assert refused(rows["shard.tar#link.jpg"], "memory://remote") == Reason.BAD_MEMBER
    assert fetch(rows["a.parquet#1"], "memory://remote") == b"two"
    memory.rm("/remote", recursive=True)
    assert refused(rows["good_1.jpg"], "memory://remote") == Reason.NOT_FOUND


def test_fetch_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(FetchError(Reason.NOT_FOUND, "gone")))  # noqa: S301 - our own bytes
    assert (error.reason, error.message) == (Reason.NOT_FOUND, "gone")

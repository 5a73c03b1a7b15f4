"""Files of labels: whole or absent, named by their images, and what a resumed run finds."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.labels import SCHEMA, Reason
from stages.label.folder import refuse_foreign_tables, unit_name, write_unit
from stages.label.row import blank_row, with_reason
from stages.storage.tables import write_table
from tests.helpers.made_labels import done_images


def _rows(*ids: str) -> pa.Table:
    sources = [{"image_id": i, "uri": f"/x/{i}", "file_name": i} for i in ids]
    return pa.Table.from_pylist([with_reason(blank_row(s), Reason.NO_MASK, "") for s in sources], schema=SCHEMA)


@pytest.mark.parametrize("base", ["", "memory://"])
def test_a_unit_is_found_again(tmp_path: Path, base: str) -> None:
    folder = f"{base}{tmp_path}/labels"
    assert done_images(folder) == set()
    write_unit(_rows("a", "b"), folder)
    write_unit(_rows("c"), folder)
    assert done_images(folder) == {"a", "b", "c"}


def test_the_same_images_give_the_same_file(tmp_path: Path) -> None:
    first, again, other = (write_unit(_rows(*ids), str(tmp_path)) for ids in (("a", "b"), ("a", "b"), ("b", "a")))
    assert first == again == unit_name(["a", "b"]) != other
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_kill_leaves_is_removed_and_its_images_are_not_done(tmp_path: Path) -> None:
    whole = tmp_path / write_unit(_rows("a"), str(tmp_path))
    (tmp_path / unit_name(["cut"])).write_bytes(whole.read_bytes()[:-20])
    (tmp_path / unit_name(["empty"])).touch()
    (tmp_path / f".{unit_name(['b'])}.{uuid.uuid4().hex}.part").write_bytes(b"half")
    assert done_images(str(tmp_path)) == {"a"}
    assert list(tmp_path.iterdir()) == [whole]


FOREIGN = (
    *("notes.txt", "half-uploaded.parquet", "labels-1.parquet", "labels-cut.parquet", "mine.part", ".mine.part"),
    *("labels-" + "0" * 23 + ".parquet", "x-labels-" + "0" * 24 + ".parquet", ".labels-x.parquet.1234.part"),
)


def test_a_file_of_a_name_that_no_run_makes_is_never_deleted(tmp_path: Path) -> None:
    for name in FOREIGN:
        (tmp_path / name).write_bytes(b"PAR1")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    assert done_images(str(tmp_path)) == set()
    assert {path.name for path in tmp_path.iterdir()} == {*FOREIGN, "other.parquet"}


def test_a_folder_with_colons_is_not_the_folder_before_them(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in (unit_name(["a"]), f".{unit_name(['b'])}.{uuid.uuid4().hex}.part"):
        (tmp_path / "photos" / name).write_bytes(b"PAR1")
    assert done_images(f"{tmp_path}/photos::v2/labels") == done_images(f"{tmp_path}/photos::v2") == set()
    assert len(list((tmp_path / "photos").iterdir())) == 2
    write_unit(_rows("a"), f"{tmp_path}/photos::v2")
    assert done_images(f"{tmp_path}/photos::v2") == {"a"}
    assert len(list((tmp_path / "photos").iterdir())) == 2


def test_a_file_that_the_system_refuses_is_not_taken_for_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / unit_name(["a"])).symlink_to(tmp_path / "unmounted")
    with pytest.raises(FileNotFoundError):
        done_images(str(tmp_path))
    assert os.listdir(tmp_path) == [unit_name(["a"])]  # noqa: PTH208 - a link to nowhere


@pytest.mark.parametrize("made", ["cut", "another table"])
def test_a_foreign_table_is_refused_before_the_work(tmp_path: Path, made: str) -> None:
    write_unit(_rows("a"), str(tmp_path))
    write_table(_rows("b"), str(tmp_path / "merged.parquet"))
    refuse_foreign_tables(str(tmp_path))
    refuse_foreign_tables(str(tmp_path / "nowhere"))
    assert done_images(str(tmp_path)) == {"a", "b"}
    if made == "cut":
        (tmp_path / "upload.parquet").write_bytes(b"PAR1")
    else:
        pq.write_table(pa.table({"a": [1]}), tmp_path / "upload.parquet")
    with pytest.raises(ValueError, match=r"upload\.parquet: no table of labels, and not of a run; move it elsewhere"):
        refuse_foreign_tables(str(tmp_path))


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_table(_rows("a"), str(tmp_path / "x.parquet"))
    assert list(tmp_path.iterdir()) == []


def test_the_schema_survives_the_file(tmp_path: Path) -> None:
    name = write_unit(_rows("a"), str(tmp_path))
    schema = pq.read_schema(tmp_path / name)
    assert schema.equals(SCHEMA)
    assert schema.metadata == SCHEMA.metadata

"""Files of labels: whole or absent, named by their images, and what a resumed run finds."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.labels import SCHEMA, Reason
from stages.label.folder import done_images, unit_name, write_table, write_unit
from stages.label.row import blank_row, with_reason


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
    (tmp_path / "labels-cut.parquet").write_bytes(whole.read_bytes()[:-20])
    (tmp_path / "labels-empty.parquet").touch()
    (tmp_path / ".labels-x.parquet.1234.part").write_bytes(b"half")
    assert done_images(str(tmp_path)) == {"a"}
    assert list(tmp_path.iterdir()) == [whole]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert done_images(str(tmp_path)) == set()
    assert (tmp_path / "notes.txt").exists()


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

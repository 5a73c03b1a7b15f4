"""Small files joined to larger ones at the end of a run: nothing lost, nothing double, killed at any moment."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.labels import SCHEMA, Reason
from stages.label.folder import usable_files, write_unit
from stages.label.row import blank_row, with_reason
from stages.results import settle as module
from stages.results.gathered import Gathered
from stages.results.read import find_labels, read_labels
from stages.results.settle import settle
from tests.helpers.made_labels import made_out

KEY = "a.tar-0123456789ab"


def unit(*ids: str) -> pa.Table:
    sources = [{"image_id": i, "uri": f"/x/{i}", "file_name": i} for i in ids]
    return pa.Table.from_pylist([with_reason(blank_row(s), Reason.NO_MASK, "") for s in sources], schema=SCHEMA)


def ids(out: Path) -> list[str]:
    return sorted(pa.concat_tables(read_labels(str(out), ["image_id"])).column(0).to_pylist())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for number, key in ((1, ""), (2, ""), (3, KEY), (4, KEY), (5, KEY)):
        write_unit(unit(f"{number}a", f"{number}b"), f"{tmp_path}/labels", key)
    return tmp_path


ALL = sorted(f"{number}{letter}" for number in range(1, 6) for letter in "ab")


def test_files_of_an_archive_become_one_that_its_name_tells(out: Path) -> None:
    found = settle(str(out))
    assert found.status["empty"] == 10
    names = sorted(path.name for path in (out / "labels").iterdir())
    assert [name.partition("-joined-")[0] for name in names] == [f"labels-{KEY}", "labels"]
    assert ids(out) == ALL
    assert pq.read_schema(out / "labels" / names[0]).remove_metadata() == SCHEMA.remove_metadata()
    assert pq.ParquetFile(out / "labels" / names[0]).num_row_groups == 3
    before = {path: path.stat().st_mtime_ns for path in (out / "labels").iterdir()}
    settle(str(out))
    assert {path: path.stat().st_mtime_ns for path in (out / "labels").iterdir()} == before
    write_unit(unit("6"), f"{out}/labels", KEY)
    settle(str(out))
    assert len(list((out / "labels").iterdir())) == 2
    assert ids(out) == sorted([*ALL, "6"])


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_kill_while_files_are_joined_neither_loses_nor_doubles(
    out: Path, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    real, gone = LocalFileSystem.rm_file, 0

    def killed(self: LocalFileSystem, path: str) -> None:
        nonlocal gone
        if gone == removed:
            raise KeyboardInterrupt
        gone += 1
        real(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "rm_file", killed)
        with pytest.raises(KeyboardInterrupt):
            settle(str(out))
    assert ids(out) == ALL
    assert len(find_labels(str(out)).paths) < len(list((out / "labels").iterdir()))
    usable_files(f"{out}/labels")
    assert ids(out) == ALL
    settle(str(out))
    assert ids(out) == ALL
    assert len(list((out / "labels").iterdir())) == 2


def test_files_grow_to_a_size_and_large_ones_stay(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = max(path.stat().st_size for path in (out / "labels").iterdir())
    monkeypatch.setattr(module, "BYTES_A_FILE", 2 * size)
    monkeypatch.setattr(module, "LARGE", 10 * size)
    settle(str(out))
    assert len([path for path in (out / "labels").iterdir() if KEY in path.name]) == 2
    monkeypatch.setattr(module, "LARGE", 1)
    before = sorted((out / "labels").iterdir())
    settle(str(out))
    assert sorted((out / "labels").iterdir()) == before


def test_tables_that_no_run_made_are_counted_and_left_alone(out: Path) -> None:
    pq.write_table(unit("mine"), out / "labels/mine.parquet")
    assert settle(str(out)).status["empty"] == 11
    assert (out / "labels/mine.parquet").exists()


def test_what_files_hold_adds_up_whichever_way_they_are_read(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    whole = settle(str(out))
    parts = Gathered()
    for batch in read_labels(str(out), module.COLUMNS):
        for place in range(batch.num_rows):
            one = Gathered()
            one.add(batch.slice(place, 1))
            parts.merge(Gathered.of_json(one.to_json()))
    assert Gathered.of_json(whole.to_json()).to_json() == whole.to_json()
    assert (parts.status, parts.reason, parts.shown, parts.failures) == (
        whole.status,
        whole.reason,
        whole.shown,
        whole.failures,
    )
    assert whole.sums == pytest.approx(parts.sums)
    assert whole.area_px.counts.tolist() == parts.area_px.counts.tolist()
    assert whole.per_image.total == sum(row["status"] in ("ok", "empty") for row in rows)

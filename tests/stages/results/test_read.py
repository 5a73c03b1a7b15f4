from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import labels as labels_schema
from stages.results.read import UnreadableTable, find_labels, read_labels
from tests.helpers.made_labels import made_out, made_rows, write_labels


def test_out_and_its_labels_folder_are_the_same(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    for given in (str(out), str(out) + "/", str(out / "labels"), f"file://{out}"):
        table = pa.concat_tables(read_labels(given))
        assert table.schema.equals(labels_schema.SCHEMA)
        assert [row["image_id"] for row in rows] == table["image_id"].to_pylist()
        assert [len(row["masks"]) for row in rows] == [len(masks) for masks in table["masks"].to_pylist()]


def test_any_fsspec_file_system(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(str(out / "labels"), "/bucket/out/labels", recursive=True)
    assert pa.concat_tables(read_labels("memory://bucket/out")).num_rows == len(rows)
    memory.rm("/bucket", recursive=True)


def test_a_copied_folder_of_another_name_and_files_that_are_no_labels(tmp_path: Path) -> None:
    write_labels(made_rows(tmp_path / "images"), tmp_path / "copy" / "x.parquet")
    (tmp_path / "copy" / "_temporary.parquet").write_bytes(b"")
    (tmp_path / "copy" / ".x.parquet").write_bytes(b"")
    assert len(find_labels(str(tmp_path / "copy")).paths) == 1


@pytest.mark.parametrize("given", ["nowhere", "nothing", "begun"])
def test_no_labels(tmp_path: Path, given: str) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "images.parquet").write_bytes(b"")
    (tmp_path / "nothing" / "labels").mkdir(parents=True)
    (tmp_path / "nothing" / "images.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no labels/\*\.parquet there"):
        find_labels(str(tmp_path / given))


def test_columns_and_batches(tmp_path: Path) -> None:
    rows = made_rows(tmp_path / "images")
    write_labels(
        [row | {"image_id": f"{i:032x}"} for i, row in enumerate(rows * 20)], tmp_path / "labels" / "x.parquet"
    )
    batches = list(read_labels(str(tmp_path), ["status", "image_id"]))
    assert {tuple(batch.column_names) for batch in batches} == {("status", "image_id")}
    assert max(batch.num_rows for batch in batches) <= 64
    assert sum(batch.num_rows for batch in batches) == 140


def test_an_older_table_lacks_nullable_columns(tmp_path: Path) -> None:
    path = tmp_path / "labels" / "x.parquet"
    write_labels(made_rows(tmp_path / "images"), path)
    pq.write_table(pq.read_table(path).drop_columns(["seconds_rle"]), path)
    for columns in (None, ["image_id", "seconds_rle"]):
        table = pa.concat_tables(read_labels(str(tmp_path), columns))
        assert table["seconds_rle"].null_count == table.num_rows


def test_version_1_did_not_know_how_long_the_model_waited(tmp_path: Path) -> None:
    path = tmp_path / "labels" / "x.parquet"
    write_labels(made_rows(tmp_path / "images"), path)
    older = pq.read_table(path).drop_columns(["seconds_wait"]).replace_schema_metadata({"version": "1"})
    pq.write_table(older, path)
    table = pa.concat_tables(read_labels(str(tmp_path)))
    assert table.schema.equals(labels_schema.SCHEMA, check_metadata=True)
    assert table["seconds_wait"].null_count == table.num_rows == older.num_rows


def test_version_2_knew_no_parents(tmp_path: Path) -> None:
    path = tmp_path / "labels" / "x.parquet"
    rows = made_rows(tmp_path / "images")
    write_labels(rows, path)
    new = {"refinements", "masks_dropped"}
    older_mask = pa.list_(pa.struct([field for field in labels_schema.MASK if field.name != "parent"]))
    older = pa.schema(
        [
            field.with_type(older_mask) if field.name == "masks" else field
            for field in labels_schema.SCHEMA
            if field.name not in new
        ],
        metadata={"version": "2"},
    )
    for row in rows:
        for mask in row["masks"]:
            del mask["parent"]
    pq.write_table(pa.Table.from_pylist(rows, schema=older), path)
    table = pa.concat_tables(read_labels(str(tmp_path)))
    assert table.schema.equals(labels_schema.SCHEMA, check_metadata=True)
    masks = [mask for row in table["masks"].to_pylist() for mask in row]
    assert [mask["parent"] for mask in masks] == [None] * 12
    assert [mask["area"] for mask in masks] == [mask["area"] for row in rows for mask in row["masks"]]
    assert table["refinements"].null_count == table["masks_dropped"].null_count == table.num_rows


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    rows = made_rows(tmp_path / "images")
    path = tmp_path / "labels" / "x.parquet"
    write_labels(rows, path)
    good = path.read_bytes()
    newer = pa.Table.from_pylist(rows, schema=labels_schema.SCHEMA.with_metadata({"version": "99"}))
    cases = {"cut": good[: len(good) // 2], "empty": b"", "text": b"not a table"}
    for damaged in cases.values():
        path.write_bytes(damaged)
        with pytest.raises(UnreadableTable, match=r"x\.parquet: .+") as caught:
            list(read_labels(str(tmp_path)))
        assert "\n" not in str(caught.value)
    pq.write_table(newer, path)
    with pytest.raises(UnreadableTable, match=rf"labels version 99; this program reads up to {labels_schema.VERSION}"):
        list(read_labels(str(tmp_path)))
    pq.write_table(pa.table({"image_id": ["x"]}), path)
    with pytest.raises(UnreadableTable, match=r"'uri' .* is missing"):
        list(read_labels(str(tmp_path)))

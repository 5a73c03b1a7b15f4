from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stages.config.selection import Selection
from stages.results.export import export_labels
from tests.helpers.made_run import bitmaps, made_run


def test_datasets_opens_the_same_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    out, rows = made_run(tmp_path)
    to = tmp_path / "hf"
    exported = export_labels(str(out), "hf", str(to), Selection())
    assert (exported.images, exported.annotations) == (5, 28)
    data = datasets.load_dataset(str(to), cache_dir=str(tmp_path / "cache"))["train"]
    by_name = {row["file_name"]: row for row in data}
    assert len(data) == len(by_name) == 5
    for row in rows[:5]:
        read = by_name[row["file_name"]]
        assert read["image"].size == (row["width"], row["height"])
        assert len(read["masks"]) == len(row["masks"])
        for image, mask in zip(read["masks"], bitmaps(row), strict=True):
            np.testing.assert_array_equal(np.asarray(image), mask)
        assert read["scores"] == pytest.approx([mask["predicted_iou"] for mask in row["masks"]])
        assert read["areas"] == [mask["area"] for mask in row["masks"]]
    assert by_name["a.jpg"]["parents"] == [2, 2, -1, 2, 2, 2, 3]


@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # rdflib, of mlcroissant
def test_croissant_describes_the_files(tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    out, rows = made_run(tmp_path)
    export_labels(str(out), "hf", str(tmp_path / "hf"), Selection())
    data = croissant.Dataset(jsonld=str(tmp_path / "hf" / "croissant.json"))
    records = {record["photos/file_name"].decode(): record for record in data.records("photos")}
    assert set(records) == {row["file_name"] for row in rows[:5]}
    for row in rows[:4]:
        read = records[row["file_name"]]
        assert read["photos/image"].size == (row["width"], row["height"])
        for image, mask in zip(read["photos/masks"], bitmaps(row), strict=True):
            np.testing.assert_array_equal(np.asarray(image), mask)


def test_files_end_where_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("stages.results.export.hugging_face.ROW_GROUP_BYTES", 1)
    monkeypatch.setattr("stages.results.export.hugging_face.SHARD_BYTES", 1)
    out, rows = made_run(tmp_path)
    export_labels(str(out), "hf", str(tmp_path / "hf"), Selection())
    files = sorted((tmp_path / "hf" / "data").iterdir())
    names = [name for path in files for name in pq.read_table(path, columns=["file_name"])["file_name"].to_pylist()]
    assert len(files) == 5
    assert names == [row["file_name"] for row in rows[:5]]
    listed = json.loads((tmp_path / "hf" / "croissant.json").read_text())["distribution"]
    assert [item["@id"] for item in listed[:-1]] == [f"data/{path.name}" for path in files]

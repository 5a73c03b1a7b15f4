from __future__ import annotations

import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from aopsam.masks import rle
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.config.selection import Selection
from stages.results.export import export_labels
from stages.results.export.shards import shards
from stages.storage.folder import write_folder
from tests.helpers.made_labels import write_labels
from tests.helpers.made_run import bitmaps, made_run


def test_our_readers_of_sa1b_read_the_same_masks(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    exported = export_labels(str(out), "sa1b", str(tmp_path / "sa1b"), Selection())
    assert (exported.images, exported.annotations) == (5, 28)
    (shard,) = list_shards(str(tmp_path / "sa1b"))
    problems: list[str] = []
    samples = {sample.id: sample for sample in read_annotated(shard, problems.append)}
    assert problems == []
    assert set(samples) == {row["file_name"].rpartition(".")[0] for row in rows[:5]}
    for row in rows[:5]:
        sample = samples[row["file_name"].rpartition(".")[0]]
        assert (sample.width, sample.height) == (row["width"], row["height"])
        assert sample.jpeg.startswith(b"\xff\xd8\xff")
        for annotation, record in zip(sample.annotations, row["masks"], strict=True):
            for name in ("segmentation", "bbox", "area", "point_coords", "crop_box"):
                assert annotation[name] == record[name]
            assert annotation["predicted_iou"] == pytest.approx(record["predicted_iou"])
    first = samples["a"].annotations
    assert first[0]["parent"] == first[2]["id"]  # the ring lies in the mask of all pixels


def test_webdataset_reads_the_same_masks(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    out, rows = made_run(tmp_path)
    exported = export_labels(str(out), "webdataset", str(tmp_path / "wds"), Selection())
    assert (exported.images, exported.annotations) == (5, 28)
    urls = str(tmp_path / "wds" / "shard-000000.tar")
    read = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("jpg;png", "json"))
    by_name = {record["file_name"]: (rgb, record) for rgb, record in read}
    assert len(read) == 5
    for row in rows[:5]:
        rgb, record = by_name[row["file_name"]]
        assert rgb.shape == (row["height"], row["width"], 3)
        assert len(record["masks"]) == len(row["masks"])
        for item, mask in zip(record["masks"], bitmaps(row), strict=True):
            np.testing.assert_array_equal(rle.decode(item["segmentation"]), mask)


def test_a_shard_ends_where_it_is_full(tmp_path: Path) -> None:
    with write_folder(str(tmp_path / "x")) as folder, shards(folder, "{}.tar", 10) as tars:
        for number in range(3):
            tars.add({f"{number}.a": b"123456", f"{number}.b": b""})
    names = []
    for path in sorted((tmp_path / "x").iterdir()):
        with tarfile.open(path) as tar:
            names.append(tar.getnames())
    assert names == [["0.a", "0.b", "1.a", "1.b"], ["2.a", "2.b"]]


def test_names_that_leave_their_place_or_repeat_get_others(tmp_path: Path) -> None:
    from stages.results.export.sa1b import member_stem
    from stages.results.export.selection import Photo

    def stem(name: str) -> str:
        listed = {"file_name": name, "kind": "tar"}
        return member_stem(Photo(1, 1, {"file_name": name, "image_id": "0" * 32}, [], b"", listed))

    assert stem("x.tar#day/photo 1.jpg") == "day/photo 1"
    for name in ("x.tar#../../etc.jpg", "x.tar#/abs.jpg", "x.tar#a\\b.jpg", "x.tar#a\n.jpg", "x.tar#._a.jpg"):
        assert stem(name).endswith("-" + "0" * 32)
        assert "/" not in stem(name)


def test_shards_on_a_store_go_when_the_export_fails(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    memory = fsspec.filesystem("memory")
    export_labels(str(out), "sa1b", "memory://bucket/sa1b", Selection())
    assert list(memory.find("/bucket")) == ["/bucket/sa1b/sa_000000.tar"]
    with pytest.raises(ValueError, match=r"memory://bucket/sa1b: is not empty; give another --out"):
        export_labels(str(out), "sa1b", "memory://bucket/sa1b", Selection())
    memory.rm("/bucket", recursive=True)
    bad = rows[3]["masks"][0] | {"segmentation": {"size": [64, 64], "counts": "123"}}
    write_labels([*rows[2:3], rows[3] | {"masks": [bad]}], out / "labels" / "labels-b.parquet")
    for to in ("memory://bucket/sa1b", str(tmp_path / "sa1b")):
        with pytest.raises(ValueError, match=r"grey.png': mask 0: RLE runs add up to"):
            export_labels(str(out), "sa1b", to, Selection())
    assert memory.find("/bucket") == []
    assert {path.name for path in tmp_path.iterdir()} == {"images", "out"}

"""One reader for shards and instance files; photos of an instance file lie beside it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from tests.helpers.made_shard import jpeg, two_objects, write_shard


def instance_file(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 4, "height": 3} for n in (1, 2)]
    annotation = {"id": 1, "image_id": 2, "segmentation": [[0, 0, 4, 0, 4, 3, 0, 3]]}
    path.write_text(json.dumps({"images": images, "annotations": [annotation]}))
    return str(path)


@pytest.mark.parametrize("folder", [".", "annotations/images", "val2017"])
def test_photos_beside_an_instance_file(tmp_path: Path, folder: str) -> None:
    uri = instance_file(tmp_path / "annotations" / "instances.json")
    photos = tmp_path / ("annotations" if folder == "." else folder)
    photos.mkdir(exist_ok=True)
    (tmp_path / "annotations" / "aaa").mkdir()  # empty, and first by name
    (photos / "2.jpg").write_bytes(b"two")
    problems: list[str] = []
    (sample,) = read_annotated(uri, problems.append)
    assert (sample.id, sample.jpeg, sample.annotations[0]["area"]) == ("2", b"two", 12)
    assert len(problems) == 1
    assert "1.jpg" in problems[0]


def test_photos_in_two_folders_as_those_of_lvis(tmp_path: Path) -> None:
    uri = instance_file(tmp_path / "annotations" / "lvis.json")
    for number, folder in ((1, "train2017"), (2, "val2017")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{number}.jpg").write_bytes(folder.encode())
    problems: list[str] = []
    assert [sample.jpeg for sample in read_annotated(uri, problems.append)] == [b"train2017", b"val2017"]
    assert not problems


@pytest.mark.parametrize("text", ["{", "[]", '{"images": [], "annotations": []}', '{"images": [{"id": 1}]}'])
def test_what_is_no_instance_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    problems: list[str] = []
    assert list(read_annotated(str(path), problems.append)) == []
    assert len(problems) == 1
    assert "x.json" in problems[0]


def test_photos_that_are_nowhere_are_named(tmp_path: Path) -> None:
    problems: list[str] = []
    assert list(read_annotated(instance_file(tmp_path / "a" / "instances.json"), problems.append)) == []
    assert "such as ['1.jpg'], are neither beside it" in problems[0]


def test_shards_are_found_gzipped_too(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar.gz", "c.tgz", "d.json", "e.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [Path(found).name for found in list_shards(str(tmp_path))] == ["a.tar", "b.tar.gz", "c.tgz"]
    assert list_shards(str(tmp_path / "d.json")) == [f"file://{tmp_path}/d.json"]


def test_tars_are_read_as_before(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", {"a": (jpeg(0, (96, 128)), two_objects())})
    problems: list[str] = []
    samples = list(read_annotated(str(shard), problems.append))
    assert [(sample.id, len(sample.annotations)) for sample in samples] == [("a", 2)]
    assert not problems


def test_a_source_that_is_gone_is_a_line(tmp_path: Path) -> None:
    for name in ("a.tar", "a.json"):
        problems: list[str] = []
        assert list(read_annotated(str(tmp_path / name), problems.append)) == []
        assert len(problems) == 1
        assert name in problems[0]


def test_a_folder_of_photos_beside_masks_is_one_shard(tmp_path: Path) -> None:
    for folder, suffix in (("Imgs", "jpg"), ("GT", "png")):
        (tmp_path / folder).mkdir()
        for name in "ab":
            buffer = io.BytesIO()
            Image.fromarray(np.full((9, 8), 255, np.uint8)).save(buffer, "PNG" if suffix == "png" else "JPEG")
            (tmp_path / folder / f"{name}.{suffix}").write_bytes(buffer.getvalue())
    (tmp_path / "GT" / "b.png").unlink()
    (shard,) = list_shards(str(tmp_path))
    problems: list[str] = []
    (sample,) = read_annotated(shard, problems.append)
    assert (sample.id, sample.width, sample.height, sample.annotations[0]["area"]) == ("a", 8, 9, 72)
    assert len(problems) == 1
    assert problems[0].endswith("b.jpg: no mask b.png in the folder of masks")
    assert str(tmp_path) in problems[0]

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


def test_annotations_given_twice_are_named(tmp_path: Path) -> None:
    path = Path(instance_file(tmp_path / "x.json"))
    (tmp_path / "1.jpg").touch()
    path.write_text(path.read_text().removesuffix("}") + ', "annotations": []}')
    problems: list[str] = []
    assert list(read_annotated(str(path), problems.append)) == []
    assert "x.json: an object has the key 'annotations' twice" in problems[0]


def test_photos_that_are_nowhere_are_named(tmp_path: Path) -> None:
    problems: list[str] = []
    assert list(read_annotated(instance_file(tmp_path / "a" / "instances.json"), problems.append)) == []
    assert "such as ['1.jpg'], are neither in its folder" in problems[0]


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


def _picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 8), value, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("photos", "masks", "others"),
    [
        ("Imgs", "GT", ["Instance"]),  # NC4K, and the usual copies of COD10K and CAMO
        ("Image", "GT_Instance", ["GT_Object", "GT_Edge"]),  # COD10K's own
        ("Images/Test", "GT", ["Images/Train"]),  # CAMO's own: masks of both splits in one folder
        ("RGB", "GT", ["depth"]),  # SIP
        ("Imgs", "Instance gt", ["gt", "Instance name"]),  # SOC
        ("images", "masks", []),
    ],
)
def test_sets_of_salient_and_camouflaged_objects_in_their_own_layout(
    tmp_path: Path, photos: str, masks: str, others: list[str]
) -> None:
    for name in ("b", "a"):
        _picture(tmp_path / photos / f"{name}.jpg", 90)
        _picture(tmp_path / masks / f"{name}.png", 255)
    for folder in others:
        _picture(tmp_path / folder / ("c.jpg" if folder == "Images/Train" else "a.png"), 0)
    if "Images/Train" in others:
        _picture(tmp_path / masks / "c.png", 255)
    (shard,) = list_shards(str(tmp_path))
    problems: list[str] = []
    samples = list(read_annotated(shard, problems.append))
    assert [(sample.id, sample.annotations[0]["area"]) for sample in samples] == [("a", 72), ("b", 72)]
    assert problems == []


def photos_and_lines(root: Path, uri: str, names: list[str]) -> tuple[dict[str, str], list[str]]:
    """Write an instance file and read it: contents by name, and the lines without the file's name."""
    path, problems = root / uri, list[str]()
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "file_name": name, "width": 4, "height": 3} for n, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "annotations": []}))
    found = {sample.id: sample.jpeg.decode() for sample in read_annotated(str(path), problems.append)}
    return found, [line.partition(f"{path.name}: ")[2] for line in problems]


def write(root: Path, **files: str) -> None:
    """Write photos, named FOLDER__NAME, of these contents."""
    for name, content in files.items():
        path = root / (name.replace("__", "/") + ".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize("valid", [["a", "b"], ["b"], ["a", "b", "c"]])
def test_a_photo_of_another_split_is_never_read(tmp_path: Path, valid: list[str]) -> None:
    write(tmp_path, train__a="a of train", **{f"valid__{name}": "of valid" for name in valid})
    found, (line,) = photos_and_lines(tmp_path, "train/x.json", ["a.jpg", "b.jpg"])
    assert found == {"a": "a of train"}
    assert line.startswith("1 of 2 photos are not there, such as 'b.jpg'")


def test_a_split_without_photos_takes_none_of_another(tmp_path: Path) -> None:
    write(tmp_path, valid__a="of valid")
    (tmp_path / "valid" / "x.json").write_text("{}")
    found, (line,) = photos_and_lines(tmp_path, "train/x.json", ["a.jpg"])
    assert not found
    assert "neither in its folder" in line


def test_of_folders_that_differ_the_one_with_most_is_read(tmp_path: Path) -> None:
    write(tmp_path, one__a="1", one__b="1", two__b="2", two__c="2", two__d="2", three__e="3")
    found, (line,) = photos_and_lines(tmp_path, "all/x.json", [f"{name}.jpg" for name in "abcde"])
    assert found == {"b": "2", "c": "2", "d": "2", "e": "3"}  # one/b is another photo: one/ is of another set
    assert line.startswith("1 of 5 photos are ambiguous, such as 'a.jpg'")


def test_of_folders_that_differ_and_hold_as_many_none_is_read(tmp_path: Path) -> None:
    write(tmp_path, one__a="1", one__b="1", two__b="2", two__c="2", three__d="3")
    found, (missing, ambiguous) = photos_and_lines(tmp_path, "all/x.json", [f"{name}.jpg" for name in "abcde"])
    assert found == {"d": "3"}
    assert missing.startswith("1 of 5 photos are not there, such as 'e.jpg'")
    assert ambiguous.startswith("3 of 5 photos are ambiguous, such as ")
    assert f"{tmp_path}/one and {tmp_path}/two hold different photos" in ambiguous


def test_a_name_in_two_second_folders_is_ambiguous(tmp_path: Path) -> None:
    write(tmp_path, most__a="1", most__b="1", two__c="2", two__d="2", three__c="3")
    found, (line,) = photos_and_lines(tmp_path, "all/x.json", [f"{name}.jpg" for name in "abcd"])
    assert found == {"a": "1", "b": "1", "d": "2"}
    assert line.startswith("1 of 4 photos are ambiguous, such as 'c.jpg'")


def test_the_folder_that_the_file_names_comes_before_the_one_with_most(tmp_path: Path) -> None:
    write(tmp_path, train2017__a="train", val2017__a="val", val2017__b="val")
    found, (line,) = photos_and_lines(tmp_path, "annotations/instances_train2017.json", ["a.jpg", "b.jpg"])
    assert found == {"a": "train"}
    assert line.startswith("1 of 2 photos are ambiguous, such as 'b.jpg'")


def test_folders_that_repeat_each_other_are_one(tmp_path: Path) -> None:
    write(tmp_path, train__a="a", copy__a="a", other__b="b")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    found, problems = photos_and_lines(tmp_path, "annotations/x.json", ["a.jpg", "b.jpg"])
    assert found == {"a": "a", "b": "b"}
    assert not problems


def test_photos_behind_a_link_are_found(tmp_path: Path) -> None:
    write(tmp_path, elsewhere__deep__a="a")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "elsewhere" / "deep")
    assert photos_and_lines(tmp_path, "set/x.json", ["a.jpg"]) == ({"a": "a"}, [])


def test_masks_beside_photos_are_no_photos(tmp_path: Path) -> None:
    write(tmp_path, images__a="photo", masks__a="mask")
    assert photos_and_lines(tmp_path, "x.json", ["a.jpg"]) == ({"a": "photo"}, [])


def test_a_file_without_a_usable_name_names_each(tmp_path: Path) -> None:
    found, lines = photos_and_lines(tmp_path, "x.json", ["../a.jpg", ""])
    assert not found
    assert len(lines) == 2


def test_two_photos_of_two_thousand_are_read(tmp_path: Path) -> None:
    write(tmp_path, **{"images__0007": "7", "images__1234": "1234"})
    found, (line,) = photos_and_lines(tmp_path, "x.json", [f"{number:04}.jpg" for number in range(2000)])
    assert found == {"0007": "7", "1234": "1234"}
    assert line.startswith("1998 of 2000 photos are not there, such as '0000.jpg'")


@pytest.mark.parametrize("uri", ["x.json", "annotations/x.json", "images/x.json"])
@pytest.mark.parametrize("name", ["images\\a.jpg", "images/a.jpg", ".\\images\\a.jpg", "images\\\\a.jpg"])
def test_names_of_windows(tmp_path: Path, uri: str, name: str) -> None:
    write(tmp_path, images__a="a")
    found, problems = photos_and_lines(tmp_path, uri, [name])
    assert list(found.values()) == ["a"]
    assert not problems


def test_a_file_that_bears_the_backslash_comes_first(tmp_path: Path) -> None:
    write(tmp_path, images__a="other")
    (tmp_path / "images\\a.jpg").write_text("backslash")
    assert photos_and_lines(tmp_path, "x.json", ["images\\a.jpg"]) == ({"images/a": "backslash"}, [])

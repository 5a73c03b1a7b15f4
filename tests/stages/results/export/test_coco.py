from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import fsspec
import numpy as np
import pytest
from pycocotools.coco import COCO

from aopsam.masks import rle
from stages.config.selection import Selection
from stages.results.export import export_labels
from stages.results.export.exported import Exported
from stages.storage.atomic import write_text
from tests.helpers.made_labels import HOSTILE_NAME, made_out, write_labels


def export_coco(labels: str, out: str) -> Exported:
    return export_labels(labels, "coco", out, Selection())


def opened(path: Path) -> COCO:
    with redirect_stdout(io.StringIO()):
        return COCO(str(path))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
def test_pycocotools_opens_the_same_masks(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    exported = export_coco(str(out), str(tmp_path / "coco"))
    coco = opened(tmp_path / "coco" / "instances.json")
    labelled = {row["file_name"]: row for row in rows if row["status"] in ("ok", "empty")}
    assert str(exported).endswith("instances.json (left out: 2 failed, 1 rejected)")
    assert (exported.images, exported.annotations) == (4, 12)
    assert {image["file_name"] for image in coco.imgs.values()} == set(labelled)
    assert sorted(coco.imgs) == [1, 2, 3, 4]
    assert sorted(coco.anns) == list(range(1, 13))
    assert [category["name"] for category in coco.cats.values()] == ["object"]
    for image in coco.imgs.values():
        row = labelled[image["file_name"]]
        assert (image["width"], image["height"]) == (row["width"], row["height"])
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(annotations) == len(row["masks"])
        for annotation, mask in zip(annotations, row["masks"], strict=True):
            bitmap = coco.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(bitmap, rle.decode(mask["segmentation"]))
            rows_of, columns_of = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == (columns_of[0], rows_of[0], columns_of[-1] + 1, rows_of[-1] + 1)
            assert annotation["area"] == bitmap.sum()
            assert annotation["score"] == 0.9
            assert annotation["iscrowd"] == 0
            assert isinstance(annotation["segmentation"]["counts"], str)


def test_the_score_is_the_learned_one_where_there_is_one(tmp_path: Path) -> None:
    rows = made_out(tmp_path / "run")[2]
    for row in rows:
        for number, mask in enumerate(row["masks"]):
            mask["score"] = None if number % 2 else 0.25
    write_labels(rows, tmp_path / "labels" / "x.parquet")
    export_coco(str(tmp_path / "labels"), str(tmp_path / "coco"))
    annotations = json.loads((tmp_path / "coco" / "instances.json").read_text())["annotations"]
    assert [annotation["score"] for annotation in annotations[:4]] == [0.25, 0.9, 0.25, 0.9]


def test_parents_are_ids_of_annotations(tmp_path: Path) -> None:
    rows = made_out(tmp_path / "run")[2]
    parents = [1, 2, None, 2]
    for row in rows:
        for mask, parent in zip(row["masks"], parents, strict=False):
            mask["parent"] = parent
    write_labels(rows, tmp_path / "labels" / "x.parquet")
    export_coco(str(tmp_path / "labels"), str(tmp_path / "coco"))
    annotations = json.loads((tmp_path / "coco" / "instances.json").read_text())["annotations"]
    by_image: dict[int, list[dict]] = {}
    for annotation in annotations:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    assert len(by_image) == 3
    for found in by_image.values():
        ids = [annotation["id"] for annotation in found]
        assert [annotation["parent_id"] for annotation in found] == [ids[1], ids[2], None, ids[2]]


def test_numbers_do_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    write_labels(rows[2:], tmp_path / "turned" / "labels" / "a.parquet")
    write_labels(rows[:2], tmp_path / "turned" / "labels" / "b.parquet")
    export_coco(str(out), str(tmp_path / "one"))
    export_coco(str(tmp_path / "turned"), str(tmp_path / "two"))
    one, two = (json.loads((tmp_path / name / "instances.json").read_text()) for name in ("one", "two"))
    assert one["images"] == two["images"]
    assert sorted(one["annotations"], key=lambda item: item["id"]) == sorted(
        two["annotations"], key=lambda item: item["id"]
    )


def test_a_hostile_name_is_only_text(tmp_path: Path) -> None:
    _, _, rows = made_out(tmp_path)
    write_labels([rows[0] | {"file_name": HOSTILE_NAME}], tmp_path / "named" / "labels" / "a.parquet")
    export_coco(str(tmp_path / "named"), str(tmp_path / "coco"))
    assert opened(tmp_path / "coco" / "instances.json").imgs[1]["file_name"] == HOSTILE_NAME


def test_an_error_leaves_the_former_export(tmp_path: Path) -> None:
    _, out, rows = made_out(tmp_path)
    export_coco(str(out), str(tmp_path / "coco"))
    before = (tmp_path / "coco" / "instances.json").read_bytes()
    bad_mask = rows[0]["masks"][0] | {"segmentation": {"size": [80, 120], "counts": "123"}}
    cases = {
        "add up to": [rows[0] | {"masks": [bad_mask]}],
        "predicted_iou nan": [rows[0] | {"masks": [rows[0]["masks"][0] | {"predicted_iou": float("nan")}]}],
        "1 rows too many": [rows[0], rows[0]],
    }
    for expected, damaged in cases.items():
        write_labels(damaged, out / "labels" / "run_0-0.parquet")
        with pytest.raises(ValueError, match=expected):
            export_coco(str(out), str(tmp_path / "coco"))
        assert (tmp_path / "coco" / "instances.json").read_bytes() == before
        assert [path.name for path in (tmp_path / "coco").iterdir()] == ["instances.json"]


def test_any_fsspec_file_system(tmp_path: Path) -> None:
    _, out, _ = made_out(tmp_path)
    assert export_coco(str(out), "memory://bucket/coco/").path == "memory://bucket/coco/instances.json"
    memory = fsspec.filesystem("memory")
    assert len(json.loads(memory.cat_file("/bucket/coco/instances.json"))["annotations"]) == 12
    memory.rm("/bucket", recursive=True)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "new" / "x.txt"), "memory://atomic/x.txt"):
        filesystem, path = fsspec.url_to_fs(uri)
        with pytest.raises(ZeroDivisionError), write_text(uri) as file:
            print("half", 1 // 0, file=file)
        assert not filesystem.exists(path)
        with write_text(uri) as file:
            file.write("täxt")
            assert not filesystem.exists(path)
        assert filesystem.cat_file(path).decode() == "täxt"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["x.txt"]

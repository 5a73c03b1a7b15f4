from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest

from aopsam.masks import rle
from pipelines.export_labels import main as export_main
from pipelines.import_labels import main
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.config.selection import Selection
from stages.results.export.label_studio import brush_rle
from stages.results.export.selection import select
from tests.helpers.made_labels import disc, label_row, mask_record
from tests.helpers.made_run import bitmaps, made_run

FILES = {"coco": "instances.json", "label-studio": "tasks.json", "cvat": "annotations.xml"}
DELETED, RESHAPED, ADDED = 1, 3, 1
"""Remove mask 1 of each photo, reshape mask 3, add one."""


def new_mask(row: dict[str, Any]) -> np.ndarray:
    """The mask that people add to a photo."""
    return disc(row["height"], row["width"], row["width"] * 0.75, row["height"] * 0.2, 8)


def reshaped(row: dict[str, Any]) -> np.ndarray:
    """What people make of mask 3 of a photo."""
    mask = bitmaps(row)[RESHAPED]
    mask[:, : row["width"] - 6] = False
    return mask


def correct_coco(path: Path, rows: dict[str, dict[str, Any]], *, keeps_places: bool) -> None:
    record = json.loads(path.read_text())
    names = {image["id"]: image["file_name"] for image in record["images"]}
    annotations = [item for item in record["annotations"] if item["mask"] != DELETED]
    for item in annotations:
        if item["mask"] == RESHAPED:
            item["segmentation"] = rle.encode(reshaped(rows[names[item["image_id"]]]))
    for number, name in names.items():
        if rows[name]["masks"]:
            annotations.append({"image_id": number, "segmentation": rle.encode(new_mask(rows[name])), "category_id": 1})
    for number, item in enumerate(annotations):  # as tools do that number anew
        item["id"] = number + 1
        if not keeps_places:
            item.pop("mask", None)
    path.write_text(json.dumps(record | {"annotations": annotations}))


def brush(mask: np.ndarray, identity: str) -> dict[str, Any]:
    """A region as Label Studio has it; a small one is encoded by Label Studio's own code, which is slow."""
    encode = pytest.importorskip("label_studio_sdk.converter.brush").mask2rle
    if mask.size > 64 * 64:
        (ours,) = select(label_row("x", "x", *mask.shape[::-1], [mask_record(mask, (0, 0))]), Selection())
        encode = lambda _: brush_rle(ours).tolist()  # noqa: E731
    return {
        "id": identity,
        "type": "brushlabels",
        "original_width": mask.shape[1],
        "original_height": mask.shape[0],
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode(mask.astype(np.uint8) * 255), "brushlabels": ["object"]},
    }


def correct_label_studio(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    tasks = json.loads(path.read_text())
    for task in tasks:
        row = rows[task["data"]["file_name"]]
        result = task["predictions"][0]["result"]
        if result:
            result[RESHAPED] = brush(reshaped(row), f"mask-{RESHAPED}")
            result = [*(item for item in result if item["id"] != f"mask-{DELETED}"), brush(new_mask(row), "x7Hk2")]
        task["annotations"] = [
            {"id": 1, "result": [], "was_cancelled": False},
            {"id": 2, "result": result, "was_cancelled": False},
            {"id": 3, "result": [], "was_cancelled": True},
        ]
    path.write_text(json.dumps(tasks))


def correct_cvat(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    tree = ElementTree.parse(path)
    for image in tree.getroot().iter("image"):
        row = rows[image.attrib["name"]]
        for element in list(image):
            place = int(element.findtext("attribute[@name='mask']") or -1)
            if place == DELETED:
                image.remove(element)
            if place == RESHAPED:
                element.attrib |= whole_rle(reshaped(row))
        if row["masks"]:
            ElementTree.SubElement(image, "mask", {"label": "object", **whole_rle(new_mask(row))})
    tree.write(path)


def whole_rle(mask: np.ndarray) -> dict[str, str]:
    """A `<mask>` whose box is the whole photo."""
    flat = mask.ravel().tolist()
    lengths, value = [0], False
    for pixel in flat:
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    sides = {"left": "0", "top": "0", "width": str(mask.shape[1]), "height": str(mask.shape[0])}
    return {"rle": ", ".join(map(str, lengths)), **sides}


def correct(tool: str, path: Path, rows: list[dict[str, Any]], *, keeps_places: bool = True) -> None:
    by_name = {row["file_name"]: row for row in rows}
    if tool == "coco":
        correct_coco(path, by_name, keeps_places=keeps_places)
    elif tool == "cvat":
        correct_cvat(path, by_name)
    else:
        correct_label_studio(path, by_name)


@pytest.mark.parametrize("tool", FILES)
def test_what_people_changed_comes_back_exactly(tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, rows = made_run(tmp_path)
    assert export_main(["--labels", str(out), "--to", tool, "--out", str(tmp_path / "ex")]) == 0
    file = tmp_path / "ex" / FILES[tool]
    correct(tool, file, rows)
    back = tmp_path / "back"
    assert main(["--labels", str(out), "--from", tool, "--file", str(file), "--out", str(back)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"imported 5 photos to {back}: masks 20 kept, 4 reshaped, 4 deleted, 4 added"
        " (left out: 0 photos; not in the file: 0)"
    )
    changes = pq.read_table(back / "changes.parquet").to_pylist()
    for row in rows[:4]:
        mine = [change for change in changes if change["image_id"] == row["image_id"]]
        assert {change["mask"] for change in mine if change["change"] == "deleted"} == {DELETED}
        assert {change["mask"] for change in mine if change["change"] == "reshaped"} == {RESHAPED}
        assert {change["mask"] for change in mine if change["change"] == "kept"} == {0, 2, 4, 5, 6}
        (added,) = (change for change in mine if change["change"] == "added")
        assert (added["mask"], added["area_before"], added["area_after"]) == (None, None, new_mask(row).sum())
        (moved,) = (change for change in mine if change["change"] == "reshaped")
        assert moved["iou"] == pytest.approx(reshaped(row).sum() / bitmaps(row)[RESHAPED].sum())
    check_shard(back, out, rows, tool)


def check_shard(back: Path, out: Path, rows: list[dict[str, Any]], tool: str) -> None:
    problems: list[str] = []
    (shard,) = list_shards(str(back))
    samples = {sample.id: sample for sample in read_annotated(shard, problems.append)}
    assert problems == []
    assert len(samples) == 5
    for row in rows[:4]:
        sample = samples[row["file_name"].rpartition(".")[0]]
        assert sample.jpeg == Path(row["uri"]).read_bytes()
        masks = bitmaps(row)
        masks[RESHAPED] = reshaped(row)
        expected = [mask for place, mask in enumerate(masks) if place != DELETED] + [new_mask(row)]
        found = {mask.tobytes() for mask in (rle.decode(item["segmentation"]) for item in sample.annotations)}
        assert found == {mask.tobytes() for mask in expected}
        by_change = Counter(item["change"] for item in sample.annotations)
        assert by_change == {"kept": 5, "reshaped": 1, "added": 1}
        for item in sample.annotations:
            if item["change"] == "kept":
                assert item["point_coords"] == row["masks"][item["mask"]]["point_coords"]
            else:
                assert "point_coords" not in item
                assert "predicted_iou" not in item
    lineage = json.loads((back / "corrections.json").read_text())
    assert lineage["tool"] == tool
    assert lineage["labels"] == str(out)
    assert lineage["configuration_sha256"] == "ab" * 32
    assert lineage["changes"] == {"kept": 20, "reshaped": 4, "deleted": 4, "added": 4}


def test_a_tool_that_drops_places_is_followed_by_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, rows = made_run(tmp_path)
    export_main(["--labels", str(out), "--to", "coco", "--out", str(tmp_path / "ex")])
    correct("coco", tmp_path / "ex" / "instances.json", rows, keeps_places=False)
    words = ["--labels", str(out), "--from", "coco", "--file", str(tmp_path / "ex" / "instances.json")]
    assert main([*words, "--out", str(tmp_path / "back")]) == 0
    said = capsys.readouterr().out
    # Less than half of mask 3 is left: without its place it is another mask.
    assert "masks 20 kept, 0 reshaped, 8 deleted, 8 added" in said


def test_what_was_not_exported_is_not_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = made_run(tmp_path)
    flags = ["--labels", str(out), "--min-score", "0.65"]
    export_main([*flags, "--to", "coco", "--out", str(tmp_path / "ex")])
    words = [*flags, "--from", "coco", "--file", str(tmp_path / "ex" / "instances.json")]
    assert main([*words, "--out", str(tmp_path / "back")]) == 0
    assert "masks 16 kept, 0 reshaped, 0 deleted, 0 added" in capsys.readouterr().out


def test_photos_with_faults_and_strangers_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = made_run(tmp_path)
    export_main(["--labels", str(out), "--to", "coco", "--out", str(tmp_path / "ex")])
    file = tmp_path / "ex" / "instances.json"
    record = json.loads(file.read_text())
    numbers = {image["file_name"]: image["id"] for image in record["images"]}
    record["images"] = [image for image in record["images"] if image["file_name"] != "nothing.jpg"]
    record["images"].append({"id": 99, "file_name": "stranger.jpg"})
    for item in record["annotations"]:
        if item["image_id"] == numbers["a.jpg"] and item["mask"] == 0:
            item["segmentation"] = {"size": [90, 120], "counts": "123"}
    for image in record["images"]:
        if image["file_name"] == "sub/grey.png":
            image["width"] = 65
    file.write_text(json.dumps(record))
    words = ["--labels", str(out), "--from", "coco", "--file", str(file), "--out", str(tmp_path / "back")]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "imported 2 photos" in said.out
    assert said.out.endswith("(left out: 3 photos; not in the file: 1)\n")
    lines = sorted(said.err.splitlines())
    assert len(lines) == 3
    assert "a.jpg: annotation 1: RLE runs add up to 6 pixels" in lines[0]
    assert "stranger.jpg: not among the labelled photos" in lines[1]
    assert "sub/grey.png: 65 x 64 pixels in the file, 64 x 64 when it was labelled" in lines[2]


@pytest.mark.parametrize(
    ("tool", "content", "expected"),
    [
        ("coco", "[]", "no COCO file: needs the lists"),
        ("coco", "{", "Expecting property name"),
        ("coco", '{"images": [], "annotations": [{"image_id": 3}]}', "image_id 3, which no image has"),
        ("coco", '{"images": [{"id": 1, "file_name": "../x"}], "annotations": []}', "leaves the photos' folder"),
        ("coco", '{"images": [{"id": 1, "file_name": "s"}], "annotations": []}', "none of its 1 photos can be"),
        ("label-studio", "{}", "no tasks of Label Studio"),
        ("label-studio", '[{"image": "a.jpg"}]', "needs `data`"),
        ("cvat", "<x/>", "not <annotations>"),
        ("cvat", "<annotations>", "no XML"),
        ("cvat", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "declares a document type"),
        ("cvat", "<annotations><track/></annotations>", "tracks of a video"),
    ],
)
def test_files_that_are_none_end_with_one_line(
    tool: str, content: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = made_run(tmp_path)
    (tmp_path / "file").write_text(content)
    words = ["--labels", str(out), "--from", tool, "--file", str(tmp_path / "file"), "--out", str(tmp_path / "back")]
    assert main(words) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert expected in line
    assert line.startswith("import_labels: ")
    assert not (tmp_path / "back").exists()
    assert not list(tmp_path.glob(".back*"))

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from stages.config.selection import Selection
from stages.results.export import export_labels
from tests.helpers.made_labels import HOSTILE_NAME, write_labels
from tests.helpers.made_run import bitmaps, made_run


def mask_of(element: ElementTree.Element, hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: a `<mask>` pixel by pixel, as CVAT documents it: rows of its box, lengths of 0s and 1s in turn."""
    left, top, width, height = (int(element.attrib[name]) for name in ("left", "top", "width", "height"))
    pixels = [
        number % 2 == 1 for number, length in enumerate(element.attrib["rle"].split(",")) for _ in range(int(length))
    ]
    mask = np.zeros(hw, bool)
    mask[top : top + height, left : left + width] = np.array(pixels).reshape(height, width)
    return mask


def test_masks_read_as_cvat_documents_them_are_the_same(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    exported = export_labels(str(out), "cvat", str(tmp_path / "cvat"), Selection())
    assert (exported.images, exported.annotations) == (5, 28)
    root = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot()
    images = {image.attrib["name"]: image for image in root.iter("image")}
    assert set(images) == {row["file_name"] for row in rows[:5]}
    assert [name.text for name in root.iterfind("meta/task/labels/label/name")] == ["object"]
    for row in rows[:5]:
        image = images[row["file_name"]]
        hw = (row["height"], row["width"])
        assert (int(image.attrib["height"]), int(image.attrib["width"])) == hw
        masks = bitmaps(row)
        elements = {int(element.find("attribute[@name='mask']").text): element for element in image.iter("mask")}
        assert sorted(elements) == list(range(len(masks)))
        for number, mask in enumerate(masks):
            np.testing.assert_array_equal(mask_of(elements[number], hw), mask)
        order = [masks[number].sum() for number in elements]
        assert order == sorted(order, reverse=True)


@pytest.mark.filterwarnings("ignore")  # datumaro's own
def test_datumaro_reads_the_same_masks(tmp_path: Path) -> None:
    """Which CVAT itself reads with; no extra has it, as it wants older pyarrow, pandas and Pillow (docs/exports.md)."""
    datumaro = pytest.importorskip("datumaro")
    out, rows = made_run(tmp_path)
    export_labels(str(out), "cvat", str(tmp_path / "cvat"), Selection())
    (tmp_path / "cvat" / "images").symlink_to(tmp_path / "images")
    read = datumaro.Dataset.import_from(str(tmp_path / "cvat" / "annotations.xml"), "cvat")
    items = {item.id: item for item in read}
    assert set(items) == {row["file_name"].rpartition(".")[0] for row in rows[:5]}
    for row in rows[:5]:
        found = items[row["file_name"].rpartition(".")[0]].annotations
        masks = {int(each.attributes["mask"]): each for each in found}
        assert sorted(masks) == list(range(len(row["masks"])))
        for number, mask in enumerate(bitmaps(row)):
            np.testing.assert_array_equal(masks[number].image, mask)
            assert float(masks[number].attributes["score"]) == pytest.approx(row["masks"][number]["predicted_iou"])


def test_names_that_xml_cannot_hold_are_written_out(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    write_labels([rows[0] | {"file_name": HOSTILE_NAME + "\x01"}], out / "labels" / "labels-a.parquet")
    export_labels(str(out), "cvat", str(tmp_path / "cvat"), Selection())
    root = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot()
    assert HOSTILE_NAME.replace("\n", "\\x0a") + "\\x01" in {image.attrib["name"] for image in root.iter("image")}

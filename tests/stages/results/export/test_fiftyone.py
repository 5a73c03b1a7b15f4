from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.config.selection import Selection
from stages.results.export import export_labels
from tests.helpers.made_run import bitmaps, made_run


def placed(box_xywh: list[float], cut: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: an instance mask of FiftyOne, whose box is in shares of the photo."""
    left, top = round(box_xywh[0] * hw[1]), round(box_xywh[1] * hw[0])
    mask = np.zeros(hw, bool)
    mask[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return mask


def check(rows: list[dict[str, Any]], found: dict[str, list[tuple[list[float], np.ndarray, float]]]) -> None:
    assert set(found) == {row["file_name"] for row in rows[:5]}
    for row in rows[:5]:
        masks = bitmaps(row)
        assert len(found[row["file_name"]]) == len(masks)
        for (box, cut, confidence), mask, record in zip(found[row["file_name"]], masks, row["masks"], strict=True):
            np.testing.assert_array_equal(placed(box, cut, mask.shape), mask)
            assert confidence == pytest.approx(record["predicted_iou"])


def test_the_folder_holds_the_same_masks(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    exported = export_labels(str(out), "fiftyone", str(tmp_path / "fo"), Selection())
    assert (exported.images, exported.annotations) == (5, 28)
    found = {}
    for sample in json.loads((tmp_path / "fo" / "samples.json").read_text())["samples"]:
        assert (tmp_path / "fo" / sample["filepath"]).is_file()
        items = sample["masks"]["detections"]
        arrays = [np.load(io.BytesIO(zlib.decompress(base64.b64decode(i["mask"]["$binary"]["base64"])))) for i in items]
        found[sample["file_name"]] = [
            (i["bounding_box"], a, i["confidence"]) for i, a in zip(items, arrays, strict=True)
        ]
    check(rows, found)


@pytest.mark.filterwarnings("ignore")  # FiftyOne's own
def test_fiftyone_reads_the_same_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader alone: the rest of FiftyOne needs a MongoDB server, which its package downloads when installed."""
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "1")
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    out, rows = made_run(tmp_path)
    export_labels(str(out), "fiftyone", str(tmp_path / "fo"), Selection())
    given = importers.FiftyOneDatasetImporter(str(tmp_path / "fo"))
    assert given._is_legacy_format_data()
    found = {}
    with given._to_legacy_importer() as importer:
        for sample in importer:
            assert Path(sample.filepath).is_file()
            found[sample.file_name] = [(d.bounding_box, d.mask, d.confidence) for d in sample.masks.detections]
    check(rows, found)

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from stages.config.selection import Selection
from stages.results.export import export_labels
from tests.helpers.made_run import bitmaps, made_run


def test_the_sdk_decodes_the_same_masks(tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    out, rows = made_run(tmp_path)
    exported = export_labels(str(out), "label-studio", str(tmp_path / "ls"), Selection())
    assert (exported.images, exported.annotations, dict(exported.left_out)) == (5, 28, {"failed": 1})
    tasks = {task["data"]["file_name"]: task for task in json.loads((tmp_path / "ls" / "tasks.json").read_text())}
    assert set(tasks) == {row["file_name"] for row in rows[:5]}
    for row in rows[:5]:
        (prediction,) = tasks[row["file_name"]]["predictions"]
        assert len(prediction["result"]) == len(row["masks"])
        for result, mask, record in zip(prediction["result"], bitmaps(row), row["masks"], strict=True):
            pixels = brush.decode_rle(result["value"]["rle"]).reshape(row["height"], row["width"], 4)
            np.testing.assert_array_equal(pixels, np.repeat(mask[..., None], 4, axis=2) * 255)
            assert (result["original_width"], result["original_height"]) == (row["width"], row["height"])
            assert result["score"] == pytest.approx(record["predicted_iou"])


def test_tasks_are_what_the_interface_shows(tmp_path: Path) -> None:
    control = pytest.importorskip("label_studio_sdk.label_interface")
    out, _ = made_run(tmp_path)
    export_labels(str(out), "label-studio", str(tmp_path / "ls"), Selection())
    interface = control.LabelInterface((tmp_path / "ls" / "label_config.xml").read_text())
    interface.validate()
    for task in json.loads((tmp_path / "ls" / "tasks.json").read_text()):
        assert interface.validate_prediction(task["predictions"][0])
        assert task["data"]["image"] == "/data/local-files/?d=" + quote(task["data"]["file_name"])


def test_long_runs_are_several() -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    from aopsam.masks import rle
    from stages.results.export.label_studio import brush_rle
    from stages.results.export.selection import select
    from tests.helpers.made_labels import label_row, mask_record

    mask = np.zeros((700, 500), bool)
    mask[100:600, :] = True  # runs of over 2^16 values
    mask[3, 7] = True
    (chosen,) = select(label_row("a", "a", 500, 700, [mask_record(mask, (0, 0))]), Selection())
    decoded = brush.decode_rle(brush_rle(chosen).tolist()).reshape(700, 500, 4)[..., 3] > 0
    np.testing.assert_array_equal(decoded, mask)
    assert rle.area(chosen.record["segmentation"]) == mask.sum()

"""The code of docs/from_segment_anything.md runs as it stands there, on a smaller SAM."""

from __future__ import annotations

import re

import numpy as np
import pytest
import segment_anything
from segment_anything.modeling import Sam

from tests.helpers import ROOT


def test_the_notebooks_code_with_one_import_changed(
    small_sam: Sam, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/from_segment_anything.md").read_text(), re.DOTALL)
    monkeypatch.setattr(segment_anything, "sam_model_registry", {"vit_h": lambda checkpoint: small_sam})
    here = code.replace('device="cuda"', 'device="cpu"').replace("points_per_side=32", "points_per_side=2")
    here = here.replace("pred_iou_thresh=0.86", "pred_iou_thresh=0.0").replace("thresh=0.92", "thresh=0.0")
    found = {"image": scene[:120, :160], "np": np}
    exec(here, found)
    asked = {"segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box"}
    for record in found["masks"]:
        by_box = {"score", "parent", "box"} if not record["point_coords"] else {"score", "parent"}
        assert set(record) == asked | by_box
    assert len(found["masks2"]) > 0
    assert found["overlay"].any()

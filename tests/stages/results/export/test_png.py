from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aopsam.masks import nesting, rle
from aopsam.masks.runs import Runs
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.config.selection import Selection
from stages.results.export import export_labels
from tests.helpers.made_run import bitmaps, iou, made_run


def test_a_map_holds_every_mask_flat(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    exported = export_labels(str(out), "png", str(tmp_path / "png"), Selection())
    lines = [json.loads(line) for line in (tmp_path / "png" / "masks.jsonl").read_text().splitlines()]
    assert (len(lines), sum(len(line["masks"]) for line in lines)) == (exported.images, exported.annotations) == (5, 28)
    (shard,) = list_shards(str(tmp_path / "png"))
    problems: list[str] = []
    samples = {sample.id[-32:]: sample for sample in read_annotated(shard, problems.append)}
    for row in rows[:4]:
        (line,) = (line for line in lines if line["image_id"] == row["image_id"])
        with Image.open(tmp_path / "png" / line["file"]) as image:
            ids = np.asarray(image)
        flat = [rle.decode(rle.from_runs(runs)) for runs in nesting.flattened([Runs.of_mask(m) for m in bitmaps(row)])]
        assert [item["area"] for item in line["masks"]] == [int(mask.sum()) for mask in flat]
        for item, mask in zip(line["masks"], flat, strict=True):
            np.testing.assert_array_equal(ids == item["id"], mask)
        found = [rle.decode(annotation["segmentation"]) for annotation in samples[row["image_id"]].annotations]
        assert [iou(one, other) for one, other in zip(found, flat, strict=True)] == [1] * 7


def test_masks_that_overlap_fit_no_map(tmp_path: Path) -> None:
    out, _ = made_run(tmp_path)
    with pytest.raises(ValueError, match="--overlap nested: png can hold flat alone"):
        export_labels(str(out), "png", str(tmp_path / "png"), Selection(overlap="nested"))
    assert not (tmp_path / "png").exists()

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from stages.config.selection import Selection
from stages.results.export import export_labels
from tests.helpers.made_labels import disc, mask_record, write_labels
from tests.helpers.made_run import bitmaps, iou, made_run


def test_supervision_reads_the_same_masks(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    out, rows = made_run(tmp_path)
    to = tmp_path / "yolo"
    exported = export_labels(str(out), "yolo", str(to), Selection())
    assert (exported.images, exported.annotations) == (5, 28)
    read = supervision.DetectionDataset.from_yolo(str(to / "images"), str(to / "labels"), str(to / "data.yaml"))
    assert len(read) == 5
    assert read.classes == ["object"]
    by_id = {Path(path).stem[-32:]: (image, detections) for path, image, detections in read}
    for row in rows[:4]:
        image, detections = by_id[row["image_id"]]
        assert image.shape[:2] == (row["height"], row["width"])
        assert len(detections) == 7
        for read_back, mask in zip(np.asarray(detections.mask, bool), bitmaps(row), strict=True):
            assert iou(read_back, mask) >= 0.95
    assert len(by_id[rows[4]["image_id"]][1]) == 0


def test_polygons_filled_are_the_same_masks(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    export_labels(str(out), "yolo", str(tmp_path / "yolo"), Selection())
    for row in rows[:4]:
        (text,) = (tmp_path / "yolo" / "labels").glob(f"*{row['image_id']}.txt")
        size = row["width"], row["height"]
        lines = text.read_text().splitlines()
        assert len(lines) == 7
        for line, mask in zip(lines, bitmaps(row), strict=True):
            points = (np.array(line.split()[1:], float).reshape(-1, 2) * size).astype(int)
            filled = Image.new("1", size)
            ImageDraw.Draw(filled).polygon([tuple(point) for point in points.tolist()], fill=1, outline=1)
            assert iou(np.asarray(filled), mask) >= 0.95


def test_points_cut_off_and_points_rounded_are_the_same_pixels(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    export_labels(str(out), "yolo", str(tmp_path / "yolo"), Selection())
    (text,) = (tmp_path / "yolo" / "labels").glob(f"*{rows[0]['image_id']}.txt")
    for line, mask in zip(text.read_text().splitlines(), bitmaps(rows[0]), strict=True):
        points = np.array(line.split()[1:], float).reshape(-1, 2) * (rows[0]["width"], rows[0]["height"])
        x, y = np.round(points).astype(int).T
        np.testing.assert_array_equal(points.astype(int).T, [x, y])
        assert mask[y, x].sum() >= len(x) - 2  # a cut between parts may turn on its way, there and back
        rows_of, columns_of = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (x.min(), x.max(), y.min(), y.max()) == (columns_of[0], columns_of[-1], rows_of[0], rows_of[-1])


def test_masks_in_parts_far_apart_are_counted(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    far = disc(90, 120, 10, 45, 6) | disc(90, 120, 110, 45, 6)  # 89 pixels between two of 113
    near = disc(90, 120, 30, 45, 25) | disc(90, 120, 60, 45, 3)
    rows[0]["masks"] = [mask_record(mask, (1, 1)) for mask in (far, near)]
    write_labels(rows[:1], out / "labels" / "labels-a.parquet")
    (out / "labels" / "labels-b.parquet").unlink()
    exported = export_labels(str(out), "yolo", str(tmp_path / "yolo"), Selection())
    assert (exported.annotations, exported.inexact) == (2, 1)
    assert str(exported).endswith("\n1 masks are in parts too far apart for one polygon: their IoU may be below 0.95")
    assert export_labels(str(out), "coco", str(tmp_path / "coco"), Selection()).inexact == 0


def test_photos_lie_upright_whatever_their_file_says(tmp_path: Path) -> None:
    out, rows = made_run(tmp_path)
    export_labels(str(out), "yolo", str(tmp_path / "yolo"), Selection())
    files = {path.stem[-32:]: path for path in (tmp_path / "yolo" / "images").iterdir()}
    for row in rows[:5]:
        with Image.open(files[row["image_id"]]) as image:
            assert image.size == (row["width"], row["height"])
            assert image.getexif().get(0x0112, 1) == 1
            assert image.mode in ("L", "RGB")
    assert files[rows[0]["image_id"]].read_bytes() == (tmp_path / "images" / "a.jpg").read_bytes()

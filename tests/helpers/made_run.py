"""The OUT of a labelling run made without labelling, whose photos are there, with masks of every shape."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aopsam.masks import rle
from stages.corpus.index import write_part
from stages.corpus.listing import list_images
from tests.helpers.made_labels import disc, label_row, mask_record, summary, unlabelled_row, write_labels

NAMES = ("a.jpg", "sub/turned.jpg", "c #1.png", "sub/grey.png", "nothing.jpg")
"""Photos: one with EXIF orientation, one with alpha, one grey, one without a mask."""


def shapes(height: int, width: int) -> list[np.ndarray]:
    """(H, W) bool each: with holes, in parts, at the right and lower edge, all, tiny, one in another."""
    ring = disc(height, width, width * 0.4, height * 0.5, height * 0.4)
    ring &= ~disc(height, width, width * 0.35, height * 0.5, height * 0.12)
    ring &= ~disc(height, width, width * 0.5, height * 0.6, height * 0.08)
    parts = disc(height, width, width * 0.2, height * 0.2, 9) | disc(height, width, width * 0.2 + 26, height * 0.2, 9)
    corner = disc(height, width, width, height, height * 0.3)
    pixel = np.zeros((height, width), bool)
    pixel[height // 2, width - 1] = True
    line = np.zeros((height, width), bool)
    line[height - 1, 3:30] = True
    inner = disc(height, width, width * 0.95, height * 0.9, 5)
    return [ring, parts, np.ones((height, width), bool), corner, pixel, line, inner]


def made_run(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """(OUT, rows) under `folder`: 4 photos with 7 masks each, one without, one that failed; its photos in `images`."""
    images, out = folder / "images", folder / "out"
    (images / "sub").mkdir(parents=True)
    sizes = {"a.jpg": (120, 90), "sub/turned.jpg": (80, 100), "c #1.png": (150, 70), "sub/grey.png": (64, 64)}
    for number, (name, (width, height)) in enumerate({**sizes, "nothing.jpg": (50, 40)}.items()):
        rgb = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        image = Image.fromarray(rgb)
        if name == "sub/turned.jpg":  # stored lying on its side
            exif = Image.Exif()
            exif[0x0112] = 6
            image.transpose(Image.Transpose.ROTATE_90).save(images / name, exif=exif)
            continue
        if name == "c #1.png":
            image.putalpha(128)
        if name == "sub/grey.png":
            image = image.convert("L")
        image.save(images / name)
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    rows = []
    listing = list_images(str(images))
    ids = dict(zip(listing["file_name"].to_pylist(), listing["image_id"].to_pylist(), strict=True))
    for name in NAMES:
        width, height = sizes.get(name, (50, 40))
        scores = (0.9, 0.8, 0.5, 0.95, 0.3, 0.6, 0.7)
        masks = shapes(height, width) if name in sizes else []
        records = [mask_record(mask, (1, 1), score) for mask, score in zip(masks, scores, strict=False)]
        for record in records:  # a point on the mask
            y, x = np.argwhere(rle.decode(record["segmentation"]))[0].tolist()
            record["point_coords"] = [[float(x), float(y)]]
        digest = hashlib.sha256((images / name).read_bytes()).hexdigest()
        row = label_row(name, str(images / name), width, height, records)
        rows.append(row | {"image_id": ids[name], "content_sha256": digest})
    broken = unlabelled_row("broken.jpg", str(images / "broken.jpg"), "failed", "corrupt_image", "cut short")
    rows.append(broken | {"image_id": ids["broken.jpg"]})
    write_labels(rows[:2], out / "labels" / "labels-a.parquet")
    write_labels(rows[2:], out / "labels" / "labels-b.parquet")
    write_part(str(out), "files-00000", listing)
    manifest = summary(rows)
    manifest["configuration"]["images"] = str(images)
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out, rows


def bitmaps(row: dict[str, Any]) -> list[np.ndarray]:
    """(H, W) bool each: the masks of a row of labels."""
    return [rle.decode(mask["segmentation"]) for mask in row["masks"]]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks of one shape."""
    assert one.shape == other.shape
    return float((one & other).sum() / (one | other).sum())

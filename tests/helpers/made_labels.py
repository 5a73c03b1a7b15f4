"""A small OUT folder of a labelling run, made without labelling: real photos on disk, real rows in real tables."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from aopsam.masks import rle
from schemas import labels
from schemas import listing as listing_schema
from stages.corpus.index import write_part
from stages.label.account import bound_by
from stages.label.folder import usable_files
from stages.storage.tables import read_column


def disc(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    """(H, W) bool: a disc, clipped by the image."""
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(columns - x, rows - y) < radius


def mask_record(
    mask: np.ndarray, point_xy: tuple[float, float], predicted_iou: float = 0.9, score: float | None = None
) -> dict[str, Any]:
    """A record of one mask as the label actor writes it."""
    encoded = rle.encode(mask)
    height, width = mask.shape
    return {
        "segmentation": encoded,
        "bbox": [float(value) for value in rle.sam_bbox_xywh(rle.bbox_xywh(encoded))],
        "area": int(mask.sum()),
        "predicted_iou": predicted_iou,
        "stability_score": 0.97,
        "score": score,
        "point_coords": [[float(point_xy[0]), float(point_xy[1])]],
        "box": None,
        "crop_box": [0.0, 0.0, float(width), float(height)],
        "parent": None,
    }


def label_row(file_name: str, uri: str, width: int, height: int, masks: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of a readable image: `ok` with masks, `empty` without."""
    return {
        "image_id": image_id(file_name),
        "uri": uri,
        "file_name": file_name,
        "content_sha256": hashlib.sha256(file_name.encode()).hexdigest(),
        "width": width,
        "height": height,
        "status": "ok" if masks else "empty",
        "reason": "none" if masks else "no_mask",
        "message": "",
        "masks": masks,
        "prompts_proposed": 40,
        "prompts_decoded": 30,
        "refinements": 0,
        "masks_dropped": 0,
        "seconds_read": 0.01,
        "seconds_photo": 0.02,
        "seconds_encode": 0.3,
        "seconds_prompt": 0.05,
        "seconds_decode": 0.5,
        "seconds_filter": 0.04,
        "seconds_rle": 0.03,
        "seconds_wait": 0.01,
    }


def unlabelled_row(file_name: str, uri: str, status: str, reason: str, message: str) -> dict[str, Any]:
    """A row of an image that was not labelled."""
    row = label_row(file_name, uri, 1, 1, [])
    nothing = dict.fromkeys(name for name in row if name.startswith("seconds_"))
    unread = {"content_sha256": None, "width": None, "height": None, "prompts_proposed": 0, "prompts_decoded": 0}
    return row | nothing | unread | {"status": status, "reason": reason, "message": message}


def image_id(file_name: str) -> str:
    """32 hex digits of the name."""
    return hashlib.sha256(file_name.encode()).hexdigest()[:32]


HOSTILE_NAME = "<script>alert('1')</script>\n\"x\"\u202egpj.jpg"


def made_rows(images: Path) -> list[dict[str, Any]]:
    """Photos written into `images`, and the rows that a run would give: 3 ok, 1 empty, 1 rejected, 2 failed."""
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    sizes = {"a.png": (120, 80), "sub/b.png": (60, 90), "c #1.png": (200, 30), "flat.png": (16, 16)}
    for number, (name, (width, height)) in enumerate(sizes.items()):
        path = images / name
        path.parent.mkdir(exist_ok=True)
        rgb = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(rgb).save(path)
        centres = [] if name == "flat.png" else [(width * share, height * share) for share in (0.2, 0.5, 0.8, 0.5)]
        masks = [mask_record(disc(height, width, x, y, 3 + 5 * i), (x, y)) for i, (x, y) in enumerate(centres)]
        rows.append(label_row(name, str(path), width, height, masks))
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (images / HOSTILE_NAME.replace("/", "")).write_bytes(b"")
    broken = str(images / "broken.jpg")
    rows.append(unlabelled_row("broken.jpg", broken, "failed", "corrupt_image", "cut short <b>"))
    hostile = HOSTILE_NAME.replace("/", "")
    rows.append(unlabelled_row(hostile, str(images / hostile), "failed", "empty_file", "no bytes"))
    rows.append(
        unlabelled_row("huge.png", str(images / "huge.png"), "rejected", "too_many_pixels", "40000 x 40000 pixels")
    )
    return rows


def write_labels(rows: list[dict[str, Any]], path: Path) -> None:
    """One Parquet file of labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=labels.SCHEMA), path, row_group_size=2)


def listing(rows: list[dict[str, Any]]) -> pa.Table:
    """The manifest table that belongs to rows of labels (or is too long for them: the caller chooses)."""
    listed = [
        {
            "image_id": row["image_id"],
            "uri": row["uri"],
            "file_name": row["file_name"],
            "path": row["uri"].encode(),
            "kind": "file",
            "offset": None,
            "length": None,
            "bytes": None,
        }
        for row in rows
    ]
    return pa.Table.from_pylist(listed, schema=listing_schema.SCHEMA)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run writes into OUT/manifest.json."""
    statuses, reasons = ([row[key] for row in rows] for key in ("status", "reason"))
    stages = {stage: float(rows[0][f"seconds_{stage}"]) for stage in ("wait", *labels.MODEL_STAGES)}
    reading = {stage: float(rows[0][f"seconds_{stage}"]) for stage in labels.READING_STAGES}
    return {
        "images": len(rows),
        "masks": sum(len(row["masks"]) for row in rows),
        "status": {status: statuses.count(status) for status in sorted(set(statuses))},
        "reason": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "failed_share": statuses.count("failed") / len(rows),
        "images_per_second": 1.25,
        "seconds": len(rows) / 1.25,
        "configuration": {
            "prompts": "aop",
            "sam": "tiny",
            "max_pixels": 10**8,
            "strategy_options": {"smoothing_sigma": 2.0},
        },
        "configuration_sha256": "ab" * 32,
        "weights": {"sam": {"name": "tiny", "sha256": "cd" * 32}, "predictor": {"name": "tiny", "sha256": "ef" * 32}},
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "machine": {"cpus": 2, "gpus": 0, "memory_gib": 24.0},
        "stages": stages,
        "reading": reading,
        "bound_by": bound_by(stages, reading),
    }


def made_out(folder: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """(images, OUT, rows): two files of labels, the listing and manifest.json under `folder`."""
    images, out = folder / "images", folder / "out"
    rows = made_rows(images)
    write_labels(rows[:4], out / "labels" / "run_0-0.parquet")
    write_labels(rows[4:], out / "labels" / "run_1-0.parquet")
    write_part(str(out), "files-00000", listing(rows))
    (out / "manifest.json").write_text(json.dumps(summary(rows)))
    return images, out, rows


def done_images(folder: str) -> set[str]:
    """Ids of the images that have a row; what killed writes left behind goes (`usable_files`)."""
    names = [name for mine in usable_files(folder).values() for name in mine]
    return set(read_column(folder, names, "image_id").to_pylist())

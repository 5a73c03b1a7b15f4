"""Runs for galleries, made without labelling, and what the scripts of a gallery tell."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers.made_labels import made_rows, write_labels


def with_content(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the digests of their files, as a run has them."""
    for row in rows:
        if row["width"] is not None:
            row["content_sha256"] = hashlib.sha256(Path(row["uri"]).read_bytes()).hexdigest()
    return rows


def made_run(folder: Path, out: str = "out") -> tuple[Path, Path, list[dict[str, Any]]]:
    """(images, OUT, rows): photos, and labels of them; scores fall from a.png on, and masks have parents."""
    images = folder / "images"
    rows = with_content(made_rows(images))
    for number, row in enumerate(row for row in rows if row["status"] == "ok"):
        for place, mask in enumerate(row["masks"]):
            mask["predicted_iou"] = 0.9 - 0.1 * number
            mask["parent"] = 3 if place == 1 else None
    write_labels(rows, folder / out / "labels" / "x.parquet")
    return images, folder / out, rows


def made_trace() -> dict[str, Any]:
    """Two rounds of a photo of 120 × 80 px whose masks answer points at (24, 16), (60, 40) and (96, 64)."""
    prompts = [([24, 16], 1, None), ([100, 10], 1, "near <b>"), ([60, 40], 2, None), ([96, 64], 2, None)]
    prompts.append(([10, 70], 2, "late"))
    grey = np.zeros((8, 12), np.uint8)
    grey[2, 5], grey[4, 1] = 255, 64
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return {
        "prompts": [
            {"point_coords": point, "box": None, "confidence": 0.5, "round": number, "dropped": reason}
            for point, number, reason in prompts
        ],
        "maps": [{"crop_box": [0, 0, 120, 80], "png": buffer.getvalue(), "highest": 0.25}],
    }


def told(path: Path) -> tuple[str, list[Any]]:
    """(function, arguments) of a script of a gallery."""
    found = re.fullmatch(r"aopsam\.(\w+)\((.*)\);\n", path.read_text(encoding="ascii"))
    assert found
    return found[1], json.loads(f"[{found[2]}]")


def index_of(gallery: Path) -> list[dict[str, Any]]:
    """Photos of a gallery's index, in order."""
    scripts = [told(path) for path in sorted((gallery / "data").glob("*.js")) if path.name.startswith("rows-")]
    found: list[dict[str, Any]] = []
    for function, (first, *columns, values) in scripts:
        assert (function, first) == ("rows", len(found))
        rows = zip(*columns, map(list, zip(*values, strict=True)), strict=True)
        found += [dict(zip(("name", "key", "size", "note", "values"), row, strict=True)) for row in rows]
    return found


def photo_of(gallery: Path, key: str) -> dict[str, Any]:
    """Item of a gallery: the facts that it shows of a photo."""
    function, (named, given) = told(gallery / "photos" / key[:2] / f"{key}.js")
    assert (function, named) == ("photo", key)
    return given

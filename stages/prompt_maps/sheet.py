"""Draw a contact sheet of some prompt maps."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from stages.prompt_maps.rows import PromptMapRows
from stages.storage.atomic import write_bytes


def contact_sheet(rows: PromptMapRows, count: int = 12, columns: int = 4) -> bytes:
    """Draw a PNG of some rows, evenly spaced: each photo in grey, its map in red, dark where the map is not valid."""
    tiles = []
    for index in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int):
        row = rows[int(index)]
        grey = row["image"].mean(axis=2, keepdims=True).repeat(3, axis=2) * (0.35 + 0.65 * row["valid"][..., None])
        heat = row["map"].astype(np.float32)[..., None]
        tiles.append((grey * (1 - heat) + np.array([255, 40, 0]) * heat).astype(np.uint8))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    lines = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(lines)).save(buffer, "PNG")
    return buffer.getvalue()


def write_sheet(folder: str) -> str:
    """Write the contact sheet of a folder of prompt maps into the folder; return its path."""
    path = f"{folder}/sheet.png"
    write_bytes(path, contact_sheet(PromptMapRows([folder])))
    return path

"""Draw a contact sheet of some edge maps."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from stages.edge_maps.files import read_edge_maps
from stages.storage.atomic import write_bytes

COUNT, COLUMNS, SIDE_PX = 12, 4, 208


def write_sheet(folder: str) -> str:
    """Write a PNG of some edge maps of a folder, evenly spaced, edges white, into the folder; return its path."""
    maps = read_edge_maps(folder)
    digests = sorted(maps)
    chosen = [digests[n] for n in np.unique(np.linspace(0, len(digests) - 1, COUNT).round().astype(int))]
    sheet = Image.new("L", (COLUMNS * SIDE_PX, -(-len(chosen) // COLUMNS) * SIDE_PX))
    for number, digest in enumerate(chosen):
        tile = Image.fromarray(maps[digest])
        tile.thumbnail((SIDE_PX, SIDE_PX))
        sheet.paste(tile, (number % COLUMNS * SIDE_PX, number // COLUMNS * SIDE_PX))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    path = f"{folder}/sheet.png"
    write_bytes(path, buffer.getvalue())
    return path

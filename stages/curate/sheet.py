"""Draw the contact sheet of a curation: chosen photos, and each duplicate with the photo kept in its place."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from schemas.curation import Reason
from stages.curate.actor import THUMBNAIL

COLUMNS, CHOSEN_ROWS, PAIR_ROWS = 8, 5, 4
_CELL, _CAPTION, _HEAD = THUMBNAIL + 8, 18, 40
INK, FAINT = "#1d2733", "#5d6b7a"


def sheet_png(descriptions: pa.Table, curation: pa.Table) -> bytes:
    """Draw a PNG: chosen photos, evenly taken from the order of choice, and pairs of duplicate and kept photo.

    Args:
        descriptions: `stages.curate.actor.DESCRIPTIONS`, N rows.
        curation: schemas/curation.py, the same N photos.
    """
    names = curation.column("image_id").to_pylist()
    place_of = {name: place for place, name in enumerate(names)}
    order = curation.column("order").to_numpy(zero_copy_only=False)
    by_order = np.argsort(order)[: int(curation.column("chosen").to_numpy().sum())]  # nulls are NaN and come last
    duplicate_of = curation.column("duplicate_of").to_pylist()
    duplicates = np.flatnonzero(np.array(curation.column("reason").to_pylist()) == Reason.DUPLICATE)
    shown = _evenly(by_order, COLUMNS * CHOSEN_ROWS)
    pairs = _evenly(duplicates, COLUMNS // 2 * PAIR_ROWS)
    sections = [
        (
            f"Chosen: {len(shown)} of {len(by_order):,}, in the order of choice",
            [(int(row), f"{int(order[row]) + 1} · {names[row]}") for row in shown],
        ),
        (
            f"Near-duplicates: {len(pairs)} of {len(duplicates):,} left out, each with the photo that stayed",
            [
                cell
                for row in pairs
                for kept in [place_of[duplicate_of[row]]]
                for cell in ((int(row), f"out · {names[row]}"), (kept, f"stayed · {names[kept]}"))
            ],
        ),
    ]
    heights = [_HEAD + -(-len(cells) // COLUMNS) * (_CELL + _CAPTION) for _, cells in sections]
    canvas = Image.new("RGB", (COLUMNS * _CELL + 16, sum(heights) + 16), "white")
    draw = ImageDraw.Draw(canvas)
    thumbnails = descriptions.column("thumbnail")
    text, small = ImageFont.load_default(17), ImageFont.load_default(12)
    top = 8
    for (title, cells), height in zip(sections, heights, strict=True):
        draw.text((12, top + 10), title, INK, text)
        for number, (row, caption) in enumerate(cells):
            x, y = 8 + number % COLUMNS * _CELL, top + _HEAD + number // COLUMNS * (_CELL + _CAPTION)
            picture = Image.open(io.BytesIO(thumbnails[row].as_py()))
            canvas.paste(picture, (x + (_CELL - picture.width) // 2, y + (_CELL - picture.height) // 2))
            draw.text((x + _CELL / 2, y + _CELL + 2), _fitted(draw, caption, small), FAINT, small, anchor="mt")
        top += height
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]


def _fitted(draw: ImageDraw.ImageDraw, caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Shorten a caption that is wider than a cell: its middle is left out."""
    shown, keep = caption, len(caption)
    while draw.textlength(shown, font) > _CELL - 6:
        keep -= 1
        shown = f"{caption[: keep - keep // 2]}…{caption[len(caption) - keep // 2 :]}"
    return shown

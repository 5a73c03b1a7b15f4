"""Make the parts of a gallery: a photo's pictures and masks, the index of all photos, the page; read without a server.

A page that is opened as a file may load pictures and scripts that lie below it, but nothing by `fetch`. So all data are
scripts, each one call of a function of `gallery.js` with JSON; names and messages become text there, never markup.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from aopsam.masks import rle
from aopsam.masks.runs import union
from aopsam.report.overlay import RGB, colours_by_size, overlay, resampled_runs
from aopsam.report.page import printable, render

DRAWN = 3
"""Version of what `draw_photo` makes; with another number, pictures are drawn again."""

SMALL_PX = 360
"""Longer side of a thumbnail."""

ROWS_A_CHUNK = 2000
"""Photos in a script of the index: the first is some 200 KB, and shows the first page before the others are there."""

BOTH, ONLY = (148, 163, 184), ((249, 115, 22), (20, 184, 166))
"""Colours of a comparison: masks that both sides have, and those that only the first, only the second has."""

MAP_COLOURS = ((49, 18, 59), (58, 130, 246), (41, 239, 162), (237, 208, 58), (214, 48, 9), (122, 4, 3))
"""Colours of a confidence map, from 0 to its highest value: violet, blue, green, yellow, red."""

MAP_DENSITY = 0.85
"""Opacity of the confidence map at its highest value; at 0 the photo alone is seen."""

MOST_MAP_PX = 1024
"""Longer side of a confidence map; the predictor's have 256."""

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Choice:
    """A column of the index that holds one of a few words; filtered by these."""

    title: str
    values: Sequence[str]


@dataclass(frozen=True)
class Number:
    """A column of the index that holds numbers or nothing; filtered by a range, and an order of the photos.

    Attributes:
        title: of the filter.
        digits: after the point.
        caption: what is said below a picture, with `#` for the number; nothing if empty.
    """

    title: str
    digits: int = 0
    caption: str = ""


Columns = Sequence[Choice | Number]


@dataclass(frozen=True)
class Item:
    """A photo in the index.

    Attributes:
        order: what items are sorted by; the worst first.
        name: of its file.
        key: of its pictures and masks; empty where there are none.
        size: width and height, px; (0, 0) where unknown.
        note: why it has no masks, or is not shown.
        values: one a column.
        traced: whether it tells how it was prompted.
        mapped: whether it has a confidence map.
    """

    order: tuple[Any, ...]
    name: str
    key: str
    size: tuple[int, int]
    note: str
    values: tuple[str | float | None, ...]
    traced: bool = False
    mapped: bool = False


@dataclass(frozen=True)
class Drawn:
    """Files of a photo: a script of its masks, its picture (a JPEG; None where it cannot be read), its thumbnail."""

    script: str
    large: bytes | None
    small: bytes


@dataclass(frozen=True)
class Side:
    """Masks of a photo by one labelling.

    Attributes:
        records: as in the labels table.
        partners: in a comparison, for each mask the place of its partner on the other side and their IoU, or None.
        trace: how the photo was prompted, as in the labels table, if known.
    """

    records: Records
    partners: Sequence[tuple[int, float] | None] | None = None
    trace: Mapping[str, Any] | None = None


def shown_hw(size: tuple[int, int], px: int) -> tuple[int, int]:
    """Return rows and columns at which a photo of (width, height) is shown: its longer side at most `px`."""
    share = min(1.0, px / max(size))
    return max(1, round(size[1] * share)), max(1, round(size[0] * share))


def covered(records: Records, size: tuple[int, int]) -> float:
    """Return the share of a photo of (width, height) px that masks cover, measured on a thumbnail.

    Raises:
        ValueError: a mask is malformed.
    """
    height, width = shown_hw(size, SMALL_PX)
    runs = [resampled_runs(record["segmentation"] or {}, height, width) for record in records]
    return union(runs).area / (height * width) if runs else 0.0


def draw_photo(
    rgb: npt.NDArray[np.uint8] | None,
    size: tuple[int, int],
    sides: Sequence[Side],
    facts: Sequence[tuple[str, str]],
    px: int,
    key: str,
) -> Drawn:
    """Make the files of a photo.

    Args:
        rgb: (H, W, 3) uint8; None draws the masks on grey.
        size: width and height, px.
        sides: one, or two that are compared.
        facts: names and values, told in this order.
        px: longer side of the picture.
        key: of these files.

    Raises:
        ValueError: a mask or a trace is malformed.
    """
    height, width = shown_hw(size, px)
    photo = np.full((height, width, 3), 128, np.uint8) if rgb is None else _resized(rgb, (height, width))
    colours = [_colours(side, number) for number, side in enumerate(sides)]
    told = {
        "size": size,
        "shown": [width, height],
        "photo": rgb is not None,
        "facts": [[printable(name), printable(value)] for name, value in facts],
        "sides": [
            [_mask(record, colour, partner, size, (height, width)) for record, colour, partner in told_masks]
            for told_masks in (
                zip(side.records, colour, side.partners or [None] * len(side.records), strict=True)
                for side, colour in zip(sides, colours, strict=True)
            )
        ],
        "trace": _trace(sides[0].trace),
    }
    thumbnail = _resized(photo, shown_hw(size, SMALL_PX))
    masks = [[{"segmentation": record["segmentation"]} for record in side.records] for side in sides]
    drawn = [overlay(thumbnail, *masked) for masked in zip(masks, colours, strict=True)]
    gap = np.full((thumbnail.shape[0], 6, 3), 128, np.uint8)
    small = drawn[0] if len(drawn) == 1 else np.concatenate([drawn[0], gap, drawn[1]], axis=1)
    return Drawn(call("aopsam.photo", key, told), None if rgb is None else _jpeg(photo), _jpeg(small))


def _colours(side: Side, number: int) -> list[RGB]:
    if side.partners is None:
        return colours_by_size([int(record["area"] or 0) for record in side.records])
    return [ONLY[number] if partner is None else BOTH for partner in side.partners]


def _mask(
    record: Mapping[str, Any],
    colour: RGB,
    partner: tuple[int, float] | None,
    size: tuple[int, int],
    hw: tuple[int, int],
) -> dict[str, Any]:
    """Return what the page knows of a mask; what the table does not hold is left out."""
    crop = record["crop_box"]
    told = {
        "counts": rle.from_runs(resampled_runs(record["segmentation"] or {}, *hw))["counts"],
        "colour": "#" + "".join(f"{round(part):02x}" for part in colour),
        "area": record["area"],
        "bbox": _rounded(record["bbox"], 1),
        "iou": _rounded(record["predicted_iou"], 3),
        "stability": _rounded(record["stability_score"], 3),
        "score": _rounded(record["score"], 3),
        "points": _rounded(record["point_coords"], 1),
        "box": _rounded(record["box"], 1),
        "crop": None if not crop or (crop[2], crop[3]) == size else _rounded(crop, 1),
        "parent": record["parent"],
        "partner": None if partner is None else [partner[0], round(partner[1], 3)],
    }
    return {name: value for name, value in told.items() if value is not None}


def _trace(trace: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what the page knows of how a photo was prompted: of each prompt its place, round and reason."""
    if trace is None:
        return None
    prompts = trace["prompts"] or []
    reasons = sorted({prompt["dropped"] for prompt in prompts if prompt["dropped"] is not None})
    return {
        "reasons": [printable(reason) for reason in reasons],
        "prompts": [
            [
                _rounded(prompt["point_coords"] or prompt["box"], 1),
                prompt["round"],
                -1 if prompt["dropped"] is None else reasons.index(prompt["dropped"]),
            ]
            for prompt in prompts
        ],
        "maps": [[_rounded(shown["crop_box"], 0), _coloured(shown["png"])] for shown in trace["maps"] or []],
    }


def _coloured(png: bytes) -> str:
    """Return a grey PNG as the address of one in colours that grow denser with its values.

    Raises:
        ValueError: it is no small grey PNG.
    """
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
            if opened.mode != "L" or max(opened.size) > MOST_MAP_PX:
                raise ValueError(f"{opened.mode}, {opened.width} × {opened.height}")
            opened.load()
            coloured = opened.convert("L")
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, of a chunk that is broken
        raise ValueError(f"a confidence map that is no grey PNG of at most {MOST_MAP_PX} px ({error})") from error
    values = np.linspace(0, 1, 256)
    stops = np.linspace(0, 1, len(MAP_COLOURS))
    palette = np.stack([np.interp(values, stops, channel) for channel in np.transpose(MAP_COLOURS)], axis=1)
    coloured.putpalette(np.rint(palette).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    coloured.save(buffer, "PNG", transparency=bytes(np.rint(255 * MAP_DENSITY * values**0.5).astype(np.uint8)))
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _rounded(value: Any, digits: int) -> Any:
    """Round numbers, also of lists of lists; what is not finite becomes None."""
    if isinstance(value, list | tuple):
        return [_rounded(entry, digits) for entry in value]
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits) if digits else round(value)


def _resized(rgb: npt.NDArray[np.uint8], hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(rgb).resize((hw[1], hw[0]), Image.Resampling.LANCZOS, reducing_gap=3.0))


def _jpeg(rgb: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def index_scripts(items: Sequence[Item], columns: Columns) -> Iterator[str]:
    """Yield the scripts of the index, `ROWS_A_CHUNK` photos each, in the order of `items`."""
    for first in range(0, len(items), ROWS_A_CHUNK):
        some = items[first : first + ROWS_A_CHUNK]
        values = [
            [
                column.values.index(str(item.values[place]))
                if isinstance(column, Choice)
                else _rounded(item.values[place], column.digits)
                for item in some
            ]
            for place, column in enumerate(columns)
        ]
        yield call(
            "aopsam.rows",
            first,
            [printable(item.name) for item in some],
            [item.key for item in some],
            [list(item.size) for item in some],
            [printable(item.note) for item in some],
            values,
        )


def contents(items: Sequence[Item], columns: Columns, chunks: Sequence[str], sides: Sequence[str]) -> dict[str, Any]:
    """Return what the page must know before it has the index.

    Args:
        items: all photos.
        columns: of the index.
        chunks: names of the index's scripts.
        sides: names of the labellings.
    """
    return {
        "rows": len(items),
        "traced": any(item.traced for item in items),
        "mapped": any(item.mapped for item in items),
        "chunks": list(chunks),
        "sides": [printable(name) for name in sides],
        "columns": [_described(column, [item.values[place] for item in items]) for place, column in enumerate(columns)],
    }


def _described(column: Choice | Number, values: Sequence[Any]) -> dict[str, Any]:
    if isinstance(column, Choice):
        counts = [values.count(value) for value in column.values]
        return {"title": column.title, "choices": list(column.values), "counts": counts}
    known = [value for value in values if value is not None]
    step = 10**-column.digits
    return {
        "title": column.title,
        "choices": None,
        "caption": column.caption,
        "digits": column.digits,
        "low": math.floor(min(known, default=0) / step) * step,
        "high": math.ceil(max(known, default=0) / step) * step,
    }


def gallery_html(
    title: str, lines: Sequence[str], told: Mapping[str, Any], contents_file: str, script_file: str, back: str = ""
) -> str:
    """Return the page of a gallery.

    Args:
        title: its heading.
        lines: below it.
        told: of `contents`.
        contents_file: name of the script that holds `told`.
        script_file: name of `gallery_script`.
        back: address of the run's report; nothing if empty.
    """
    values = {"first": f"data/{told['chunks'][0]}" if told["chunks"] else ""}
    values |= {"contents": f"data/{contents_file}", "script": f"data/{script_file}"}
    return render("gallery.html", title=title, lines=lines, told=told, back=back, scripts=values)


def gallery_script() -> str:
    """Return the script of the page."""
    return (Path(__file__).parent / "gallery.js").read_text(encoding="utf-8")


def call(function: str, *values: Any) -> str:
    """Return a script that calls a function with JSON, in ASCII and without a `<`."""
    texts = [json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c") for value in values]
    return f"{function}({','.join(texts)});\n"

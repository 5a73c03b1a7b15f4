"""Draw how `aop` labels a photo, for docs/how_it_works.md: confidence map, rounds of prompts, masks; and for README.md
masks of some samples.

    python docs/make_pictures.py

Counts stand in the pictures, so that they are those of the run that drew them.
"""

from __future__ import annotations

import aopsam  # isort: skip - beside a CPU torch it comes before segment_anything

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from segment_anything.modeling import Sam

from aopsam.everything.ledger import Labelled
from aopsam.report.overlay import overlay

DOCS = Path(__file__).parent
SAMPLES = DOCS.parent / "samples"
PHOTO = "astronaut"
OF_README, OF_README_PX = ("coffee", "rocket", "astronaut"), 280
"""Photos of README's picture, and its height."""

PANEL_PX = 330
"""Longer side of a photo in a picture."""
CAPTION_PX = 24
YELLOW, RED, WHITE, BLACK = (255, 214, 10), (235, 30, 40), (255, 255, 255), (0, 0, 0)


def draw_pictures(rgb: np.ndarray, model: Sam, grid: int = 32) -> dict[str, Image.Image]:
    """Label a photo with `aop` and with a grid; return name → picture.

    Args:
        rgb: (H, W, 3) uint8.
        model: a SAM.
        grid: points per side of the grid that the masks are shown beside.
    """
    labelled = aopsam.AutoMaskGenerator(model, output_mode="coco_rle").label(rgb, trace=True)
    by_grid = aopsam.AutoMaskGenerator(model, output_mode="coco_rle", prompts=f"grid-{grid}").label(rgb)
    assert labelled.trace is not None
    (shown,) = labelled.trace.maps
    highest = float(shown.confidence.max())
    heat = ImageOps.colorize(
        Image.fromarray(np.rint(shown.confidence / highest * 255).astype(np.uint8)), BLACK, YELLOW, mid=RED
    )
    rounds = range(1, 1 + max(prompt["round"] for prompt in labelled.trace.prompts))
    told = "{} prompts, {} masks".format
    masks = [
        _panel(
            overlay(_small(rgb), _without_prompts(run.records)),
            f"{name}: {told(run.prompts_decoded, len(run.records))}",
        )
        for name, run in (("aop", labelled), (f"grid-{grid}", by_grid))
    ]
    return {
        "map": _side_by_side([_panel(_small(rgb), "the photo"), _panel(heat, f"confidence, 0 to {highest:.2f}")], 2),
        "rounds": _side_by_side([_round(rgb, labelled, number) for number in rounds], 2),
        "masks": _side_by_side(masks, 2),
    }


def draw_masks(photos: Sequence[np.ndarray], model: Sam) -> Image.Image:
    """Label photos (H, W, 3) uint8 with `aop`; return them with their masks, side by side."""
    generator = aopsam.AutoMaskGenerator(model, output_mode="coco_rle")
    drawn = [Image.fromarray(overlay(rgb, _without_prompts(generator.generate(rgb)))) for rgb in photos]
    drawn = [each.resize((round(each.width * OF_README_PX / each.height), OF_README_PX)) for each in drawn]
    joined = Image.new("RGB", (sum(each.width + 6 for each in drawn) - 6, OF_README_PX), WHITE)
    for place, each in enumerate(drawn):
        joined.paste(each, (sum(other.width + 6 for other in drawn[:place]), 0))
    return joined


def _round(rgb: np.ndarray, labelled: Labelled, number: int) -> Image.Image:
    """Draw the photo after a round: masks so far, prompts decoded in it, dropped after it, and still waiting."""
    assert labelled.trace is not None
    prompts = labelled.trace.prompts
    sent = {tuple(each["box"] or each["point_coords"]): each["round"] for each in prompts if each["dropped"] is None}
    found = [each for each in labelled.records if sent[tuple(each.get("box") or each["point_coords"][0])] <= number]
    decoded = [each for each in prompts if each["dropped"] is None and each["round"] == number]
    dropped = [each for each in prompts if each["dropped"] is not None and each["round"] == number]
    waiting = [each for each in prompts if each["round"] > number]
    picture = Image.fromarray(overlay(_small(rgb), _without_prompts(found)))
    draw, scale = ImageDraw.Draw(picture), picture.width / rgb.shape[1]
    for some, mark in ((waiting, _ring), (dropped, _cross), (decoded, _dot)):
        for prompt in some:
            if prompt["box"] is not None:
                draw.rectangle([scale * place for place in prompt["box"]], outline=YELLOW)
                continue
            x, y = (scale * place for place in prompt["point_coords"])
            mark(draw, x, y)
    left = f", {len(waiting)} wait" if waiting else ""
    return _panel(picture, f"round {number}: {len(decoded)} decoded, {len(dropped)} dropped{left}")


def _ring(draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
    draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline=BLACK, width=3)
    draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline=WHITE, width=1)


def _cross(draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
    for colour, width in ((WHITE, 5), (RED, 2)):
        draw.line((x - 4, y - 4, x + 4, y + 4), colour, width)
        draw.line((x - 4, y + 4, x + 4, y - 4), colour, width)


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
    draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=YELLOW, outline=BLACK, width=2)


def _without_prompts(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"segmentation": record["segmentation"]} for record in records]


def _small(rgb: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(rgb)
    picture.thumbnail((PANEL_PX, PANEL_PX))
    return np.asarray(picture)


def _panel(picture: Image.Image | np.ndarray, caption: str) -> Image.Image:
    """Put a caption over a picture, enlarged to a panel's size where it is smaller."""
    inside = ImageOps.contain(
        picture if isinstance(picture, Image.Image) else Image.fromarray(picture), (PANEL_PX,) * 2
    )
    panel = Image.new("RGB", (inside.width, inside.height + CAPTION_PX), WHITE)
    panel.paste(inside, (0, CAPTION_PX))
    ImageDraw.Draw(panel).text((4, 4), caption, BLACK, ImageFont.load_default(15))
    return panel


def _side_by_side(panels: Sequence[Image.Image], columns: int) -> Image.Image:
    """Join panels of one size, row by row."""
    width, height = panels[0].width + 8, panels[0].height + 8
    joined = Image.new("RGB", (width * min(columns, len(panels)), height * -(-len(panels) // columns)), WHITE)
    for place, panel in enumerate(panels):
        joined.paste(panel, (width * (place % columns), height * (place // columns)))
    return joined


def _sample(name: str) -> np.ndarray:
    with Image.open(SAMPLES / f"{name}.jpg") as opened:
        return np.asarray(opened.convert("RGB"))


if __name__ == "__main__":
    tiny = aopsam.load_sam("tiny")
    pictures = {f"aop_{name}": picture for name, picture in draw_pictures(_sample(PHOTO), tiny).items()}
    pictures["samples"] = draw_masks([_sample(name) for name in OF_README], tiny)
    for name, picture in pictures.items():
        picture.save(DOCS / f"{name}.jpg", quality=68, optimize=True)

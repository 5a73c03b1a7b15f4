"""Write OUT/report.html of a labelling run: what its tables hold, and a sample of photos read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from aopsam.photos.decode import open_photo
from aopsam.report.overlay import overlay
from aopsam.report.page import GALLERY, Distribution, Sample, report_html
from stages.corpus.fetch import FetchError, fetch
from stages.corpus.index import read_listing
from stages.results.gathered import Gathered
from stages.storage import atomic
from stages.storage.location import open_filesystem

LONG_SIDE = 640
"""Longer side of a shown photo, px."""


def write_report(out: str, images: str, summary: Mapping[str, Any], gathered: Gathered) -> str:
    """Write the page of a finished run.

    Args:
        out: the run's folder, with its listing.
        images: the run's --images, from which the sample's photos are read again.
        summary: its manifest (see `aopsam.report.page.report_html`); `configuration` has `max_pixels`.
        gathered: what its tables hold.

    Returns:
        Path or URI of the page.

    Raises:
        ValueError: no listing there.
        OSError: the listing cannot be read or the page not be written.
    """
    sources = _sources(out, [row["image_id"] for row in gathered.shown])
    max_pixels = summary["configuration"]["max_pixels"]
    page = report_html(
        summary,
        prompts={
            "proposed": int(gathered.sums["prompts_proposed"]),
            "decoded": int(gathered.sums["prompts_decoded"]),
            "masks kept": summary["masks"],
        },
        distributions=_distributions(gathered),
        samples=[_sample(row, sources.get(row["image_id"]), images, max_pixels) for row in gathered.shown],
        failures=gathered.failures,
        gallery=_has_gallery(out),
    )
    path = f"{out.rstrip('/')}/report.html"
    with atomic.write_text(path) as opened:
        opened.write(page)
    return path


def _has_gallery(out: str) -> bool:
    filesystem, root = open_filesystem(out)
    return bool(filesystem.exists(f"{root}/{GALLERY}"))


def _sample(row: Mapping[str, Any], source: dict[str, Any] | None, images: str, max_pixels: int) -> Sample:
    """Draw one photo with its masks, or say why it cannot be shown (it may be gone since it was labelled)."""
    about = (
        f"{len(row['masks'])} masks from {row['prompts_decoded']} of {row['prompts_proposed']} prompts"
        f" · {row['width']} × {row['height']} px"
    )
    if source is None:
        return Sample(row["file_name"], f"{about} · not in the listing")
    try:
        photo = open_photo(fetch(source, images), max_pixels).rgb
        if photo.shape[:2] != (row["height"], row["width"]):
            return Sample(row["file_name"], f"{about} · another photo lies there now")
        small = _shrunk(photo)
        return Sample(row["file_name"], about, small, overlay(small, row["masks"]))
    except (FetchError, ValueError) as error:
        return Sample(row["file_name"], f"{about} · cannot be shown: {error}")


def _shrunk(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Shrink a photo to at most `LONG_SIDE` px on its longer side."""
    image = Image.fromarray(rgb)
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _distributions(found: Gathered) -> list[Distribution]:
    """Return the histograms of the page."""
    return [
        Distribution("Masks per image", "images by their number of masks", found.per_image),
        Distribution("Mask area", "masks by their pixels, logarithmic", found.area_px, log=True),
        Distribution("Predicted IoU", "masks by the decoder's own estimate", found.predicted_iou),
        Distribution("Score", "masks by their learned score", found.score),
        Distribution("Stability", "masks by their stability score", found.stability),
    ]


def _sources(out: str, image_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Read rows of the listing by image id."""
    wanted = pa.array(image_ids, pa.string())
    found: dict[str, dict[str, Any]] = {}
    for part in read_listing(out):
        for row in part.filter(pc.is_in(part["image_id"], wanted)).to_pylist():
            found[row["image_id"]] = row
    return found

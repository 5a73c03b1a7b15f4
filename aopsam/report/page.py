"""Make the page of a labelling run: one HTML file, no scripts, nothing from the network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from aopsam.report.charts import histogram_svg, short
from aopsam.report.histogram import Histogram


@dataclass(frozen=True)
class Sample:
    """One photo shown with its masks."""

    file_name: str
    about: str
    """Line below the picture."""
    photo: npt.NDArray[np.uint8] | None = None
    """Photo (H, W, 3) uint8, at the size it is shown; None where it could not be read again."""
    masked: npt.NDArray[np.uint8] | None = None
    """Photo of the same size with its masks drawn."""


@dataclass(frozen=True)
class Failure:
    """One image that was not labelled."""

    file_name: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True)
class Distribution:
    """One histogram of the page."""

    title: str
    about: str
    """Name and unit of the values counted."""
    histogram: Histogram
    log: bool = False


def report_html(
    summary: Mapping[str, Any],
    prompts: Mapping[str, int],
    distributions: Sequence[Distribution],
    samples: Sequence[Sample],
    failures: Sequence[Failure],
    gallery: bool = False,
) -> str:
    """Return the page of a labelling run as HTML text.

    Args:
        summary: the run's manifest: `images`, `masks`, `seconds`, `images_per_second`, `status` and `reason` (name ->
            images), `stages` (what the model's thread spends its time on -> mean seconds an image), `reading` (what
            other threads do at the same time -> mean seconds an image), `bound_by` (`stage`, `share`),
            `configuration` (with `sam` and `prompts`), `configuration_sha256`; further mappings of it (`actors`,
            `not_looked_at`, `weights`, `versions`, `machine`) are listed at the end.
        prompts: step -> count, in order: prompts proposed, prompts decoded, masks kept.
        distributions: the histograms, in order.
        samples: photos with their masks, in order.
        failures: images not labelled, as many as are to be listed.
        gallery: whether there is one, to be linked.
    """
    unlabelled = summary["status"].get("failed", 0) + summary["status"].get("rejected", 0)
    stages = _shares(summary["stages"])
    details = {name: flattened(summary[name]) for name in _DETAILS if summary.get(name)}
    charts = [(entry.title, entry.about, _chart(entry) if entry.histogram.total else None) for entry in distributions]
    return render(
        "report.html",
        summary=summary,
        unlabelled=unlabelled,
        prompts=prompts,
        charts=charts,
        stages=stages,
        samples=samples,
        failures=failures,
        details=details,
        gallery=Markup(_WITH_GALLERY if gallery else _WITHOUT_GALLERY),
    )


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder; what is not markup already is escaped."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(Path(__file__).parent),
    )
    environment.filters |= {"printable": printable, "jpeg": _jpeg_uri, "short": short}
    return environment.get_template(template).render(**values)


def printable(text: str) -> str:
    """Return `text` with control characters and those that turn its direction shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


GALLERY = "gallery/index.html"
"""Folder of a run's gallery, next to its report."""

_WITHOUT_GALLERY = (
    '<p class="soft" id="gallery">Every photo: <code>python pipelines/browse_labels.py --labels OUT</code></p>'
)
_WITH_GALLERY = f'<p id="gallery"><a href="{GALLERY}">Browse every photo</a></p>'


def with_gallery_link(html: str) -> str:
    """Return the page of a labelling run with a link to its gallery, in place of how to write one."""
    return html.replace(_WITHOUT_GALLERY, _WITH_GALLERY)


_DETAILS = ("configuration", "actors", "not_looked_at", "weights", "versions", "machine")


def _chart(entry: Distribution) -> str:
    return histogram_svg(entry.histogram, entry.title, log=entry.log, mark=entry.histogram.median())


def _shares(stages: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Return (stage, mean seconds, share of all) in the order of the work."""
    total = sum(stages.values()) or 1.0
    return [(name, seconds, seconds / total) for name, seconds in stages.items()]


def flattened(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested values to pairs (dotted name, text)."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += flattened(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", "—" if value is None or value == {} else str(value)))
    return rows


def _jpeg_uri(rgb: npt.NDArray[np.uint8]) -> str:
    """Encode an image as a data URI of a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

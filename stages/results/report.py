"""Write OUT/report.html of a labelling run: one pass over its tables, and a sample of photos read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from aopsam.photos.decode import open_photo
from aopsam.report.histogram import Histogram
from aopsam.report.overlay import overlay
from aopsam.report.page import Distribution, Failure, Sample, report_html
from schemas.labels import Status
from stages.corpus.fetch import FetchError, fetch
from stages.results.read import read_labels
from stages.storage import atomic
from stages.storage.location import open_filesystem

LONG_SIDE = 640
"""Longer side of a shown photo, px."""
LISTED_FAILURES = 100

_COLUMNS = [
    *("image_id", "file_name", "width", "height", "status", "reason", "message"),
    *("masks", "prompts_proposed", "prompts_decoded"),
]


@dataclass
class _Gathered:
    """Figures, samples and failures of one pass over the tables; their size does not grow with the corpus."""

    samples: int
    """Number of photos to show: those with the smallest ids, which are hashes, so a random sample, always the same."""
    per_image: Histogram = field(default_factory=lambda: Histogram.of_edges(np.arange(10_002)))
    area_px: Histogram = field(default_factory=lambda: Histogram.of_edges(10 ** np.arange(0, 9.05, 0.1)))
    predicted_iou: Histogram = field(default_factory=lambda: Histogram.of_edges(np.arange(241) / 200))
    stability: Histogram = field(default_factory=lambda: Histogram.of_edges(np.arange(201) / 200))
    score: Histogram = field(default_factory=lambda: Histogram.of_edges(np.arange(201) / 200))
    proposed: int = 0
    decoded: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, batch: pa.Table) -> None:
        """Count a batch of label rows."""
        self.proposed += pc.sum(batch["prompts_proposed"]).as_py() or 0
        self.decoded += pc.sum(batch["prompts_decoded"]).as_py() or 0
        labelled = batch.filter(pc.is_in(batch["status"], pa.array([Status.OK, Status.EMPTY])))
        self.per_image.add(pc.list_value_length(labelled["masks"]).to_numpy())
        for masks in labelled["masks"].chunks:
            records = masks.flatten()
            self.area_px.add(_numbers(records, "area"))
            self.predicted_iou.add(_numbers(records, "predicted_iou"))
            self.stability.add(_numbers(records, "stability_score"))
            self.score.add(_numbers(records, "score"))
        ok = batch.filter(pc.equal(batch["status"], Status.OK))
        if len(self.shown) == self.samples and self.shown:
            ok = ok.filter(pc.less(ok["image_id"], self.shown[-1]["image_id"]))
        self.shown = sorted(self.shown + ok.to_pylist(), key=lambda row: row["image_id"])[: self.samples]
        others = batch.filter(pc.is_in(batch["status"], pa.array([Status.FAILED, Status.REJECTED])))
        rows = others.select(["file_name", "status", "reason", "message"]).to_pylist()
        failures = self.failures + [Failure(**row) for row in rows]
        self.failures = sorted(failures, key=lambda failure: (failure.reason, failure.file_name))[:LISTED_FAILURES]

    def distributions(self) -> list[Distribution]:
        """Return the histograms of the page."""
        return [
            Distribution("Masks per image", "images by their number of masks", self.per_image),
            Distribution("Mask area", "masks by their pixels, logarithmic", self.area_px, log=True),
            Distribution("Predicted IoU", "masks by the decoder's own estimate", self.predicted_iou),
            Distribution("Score", "masks by their learned score", self.score),
            Distribution("Stability", "masks by their stability score", self.stability),
        ]


def write_report(out: str, images: str, summary: Mapping[str, Any], samples: int = 12) -> str:
    """Write the page of a finished run.

    Args:
        out: the run's folder, with `labels/` and `images.parquet`.
        images: the run's --images, from which the sample's photos are read again.
        summary: its manifest (see `aopsam.report.page.report_html`); `configuration` has `max_pixels`.
        samples: photos to show at most.

    Returns:
        Path or URI of the page.

    Raises:
        ValueError: no labels there, or a file of them cannot be read.
        OSError: `images.parquet` cannot be read or the page not be written.
    """
    gathered = _Gathered(samples)
    for batch in read_labels(out, _COLUMNS):
        gathered.add(batch)
    sources = _sources(out, [row["image_id"] for row in gathered.shown])
    max_pixels = summary["configuration"]["max_pixels"]
    page = report_html(
        summary,
        prompts={"proposed": gathered.proposed, "decoded": gathered.decoded, "masks kept": summary["masks"]},
        distributions=gathered.distributions(),
        samples=[_sample(row, sources.get(row["image_id"]), images, max_pixels) for row in gathered.shown],
        failures=gathered.failures,
    )
    path = f"{out.rstrip('/')}/report.html"
    with atomic.write_text(path) as opened:
        opened.write(page)
    return path


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


def _sources(out: str, image_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Read rows of the listing by image id, from OUT/images.parquet."""
    wanted = pa.array(image_ids, pa.string())
    found: dict[str, dict[str, Any]] = {}
    filesystem, path = open_filesystem(f"{out.rstrip('/')}/images.parquet")
    with filesystem.open(path, "rb") as opened, pq.ParquetFile(opened) as parquet:
        for batch in parquet.iter_batches():
            for row in batch.filter(pc.is_in(batch["image_id"], wanted)).to_pylist():
                found[row["image_id"]] = row
    return found


def _numbers(records: pa.StructArray, name: str) -> npt.NDArray[np.float64]:
    """Return a field of mask records as float64; null is NaN."""
    return records.field(name).cast(pa.float64()).to_numpy(zero_copy_only=False)

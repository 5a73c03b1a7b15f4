"""Figures, samples and failures of a labelling run, of any of its files, added up; their size does not grow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from aopsam.report.histogram import Histogram
from aopsam.report.page import Failure
from schemas.labels import MODEL_STAGES, READING_STAGES, Status

SAMPLES = 12
"""Photos to show: those with the smallest ids, which are hashes, so a random sample, always the same."""
LISTED_FAILURES = 100

COLUMNS = (
    *("image_id", "file_name", "width", "height", "status", "reason", "message"),
    *("masks", "prompts_proposed", "prompts_decoded"),
    *(f"seconds_{stage}" for stage in (*READING_STAGES, *MODEL_STAGES, "wait")),
)
"""Columns of the labels that are read."""

_SUMS = COLUMNS[8:]


@dataclass
class Gathered:
    """Sums, samples and failures of the rows of some label files.

    Attributes:
        status, reason: images by these.
        sums: sums of prompts, seconds and masks, by column.
        per_image, area_px, predicted_iou, stability, score: histograms of labelled images and of masks.
        shown: label rows of the photos to show.
        failures: images that were not labelled, the first by reason and name.
    """

    status: Counter[str] = field(default_factory=Counter)
    reason: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    per_image: Histogram = field(default_factory=lambda: Histogram.of_edges(np.arange(10_002)))
    area_px: Histogram = field(default_factory=lambda: Histogram.of_edges(10 ** np.arange(0, 9.05, 0.1)))
    predicted_iou: Histogram = field(default_factory=lambda: Histogram.of_edges(np.arange(241) / 200))
    stability: Histogram = field(default_factory=lambda: Histogram.of_edges(np.arange(201) / 200))
    score: Histogram = field(default_factory=lambda: Histogram.of_edges(np.arange(201) / 200))
    shown: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, batch: pa.Table) -> None:
        """Count a batch of label rows, with the columns `COLUMNS`."""
        self.status.update(batch["status"].to_pylist())
        self.reason.update(batch["reason"].to_pylist())
        self.sums.update({name: pc.sum(batch[name]).as_py() or 0 for name in _SUMS})
        self.sums["masks"] += pc.sum(pc.list_value_length(batch["masks"])).as_py() or 0
        labelled = batch.filter(pc.is_in(batch["status"], pa.array([Status.OK, Status.EMPTY])))
        self.per_image.add(pc.list_value_length(labelled["masks"]).to_numpy())
        for masks in labelled["masks"].chunks:
            records = masks.flatten()
            self.area_px.add(_numbers(records, "area"))
            self.predicted_iou.add(_numbers(records, "predicted_iou"))
            self.stability.add(_numbers(records, "stability_score"))
            self.score.add(_numbers(records, "score"))
        ok = batch.filter(pc.equal(batch["status"], Status.OK))
        if len(self.shown) == SAMPLES:
            ok = ok.filter(pc.less(ok["image_id"], self.shown[-1]["image_id"]))
        columns = ["image_id", "file_name", "width", "height", "masks", "prompts_proposed", "prompts_decoded"]
        others = batch.filter(pc.is_in(batch["status"], pa.array([Status.FAILED, Status.REJECTED])))
        rows = others.select(["file_name", "status", "reason", "message"]).to_pylist()
        self._keep(ok.select(columns).to_pylist(), [Failure(**row) for row in rows])

    def merge(self, other: Gathered) -> None:
        """Add what other files hold."""
        for counts in ("status", "reason", "sums"):
            getattr(self, counts).update(getattr(other, counts))
        for name in _HISTOGRAMS:
            getattr(self, name).counts += getattr(other, name).counts
        self._keep(other.shown, other.failures)

    def _keep(self, shown: list[dict[str, Any]], failures: list[Failure]) -> None:
        self.shown = sorted(self.shown + shown, key=lambda row: row["image_id"])[:SAMPLES]
        failures = self.failures + failures
        self.failures = sorted(failures, key=lambda failure: (failure.reason, failure.file_name))[:LISTED_FAILURES]

    def to_json(self) -> str:
        """Return all of it as text."""
        histograms = {name: getattr(self, name).counts.tolist() for name in _HISTOGRAMS}
        rest = {"status": self.status, "reason": self.reason, "sums": self.sums, "shown": self.shown}
        return json.dumps(histograms | rest | {"failures": [failure.__dict__ for failure in self.failures]})

    @classmethod
    def of_json(cls, text: str) -> Gathered:
        """Return what `to_json` gave."""
        found, read = cls(), json.loads(text)
        for counts in ("status", "reason", "sums"):
            getattr(found, counts).update(read[counts])
        for name in _HISTOGRAMS:
            getattr(found, name).counts += np.array(read[name], np.int64)
        found._keep(read["shown"], [Failure(**row) for row in read["failures"]])
        return found


_HISTOGRAMS = [entry.name for entry in fields(Gathered) if isinstance(getattr(Gathered(), entry.name), Histogram)]


def gather(batches: Iterable[pa.Table]) -> Gathered:
    """Count batches of label rows, with the columns `COLUMNS`."""
    found = Gathered()
    for batch in batches:
        found.add(batch)
    return found


def _numbers(records: pa.StructArray, name: str) -> npt.NDArray[np.float64]:
    """Return a field of mask records as float64; null is NaN."""
    return records.field(name).cast(pa.float64()).to_numpy(zero_copy_only=False)

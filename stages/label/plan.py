"""From a labelling job to its cost: a few photos are labelled here, and the labels thrown away."""

from __future__ import annotations

import os
import resource
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import torch

from aopsam.training.plan import clock
from schemas.labels import MODEL_STAGES, READING_STAGES
from schemas.listing import SCHEMA
from stages.config.label_config import LabelConfig
from stages.corpus.fetch import BYTES_A_READ
from stages.corpus.index import key_of, read_part
from stages.corpus.listing import open_corpus, parts_of
from stages.corpus.walk import Found
from stages.engine.resources import Resources
from stages.label.account import bound_by
from stages.label.flow import Flow, next_grown, unit_size
from stages.label.folder import DoneIds
from stages.label.job import LabelJob
from stages.label.prefetch import AHEAD_PX
from stages.storage.tables import table_bytes

MOST_PHOTOS = 3
"""Photos that are labelled."""

MOST_MEMBERS = 256
"""Members that are looked at of an archive that is not known yet; its size says how many there are."""

MOST_ARCHIVES = 4
"""Such archives that are looked at; the rest is taken to be like them."""


@dataclass(frozen=True)
class Survey:
    """Photos, bytes and archives of a corpus.

    Attributes:
        photos: of it, estimated where `exact` is false.
        done: of them that have their row already.
        size: of those to be labelled, in bytes; those whose size is not known without reading count nothing.
        archives: tars and Parquet files.
        unlisted: of them that a run must still read to list.
        exact: whether every photo was counted.
        sample: some rows of those to be labelled.
    """

    photos: int
    done: int
    size: int
    archives: int
    unlisted: int
    exact: bool
    sample: pa.Table


@dataclass(frozen=True)
class LabelPlan:
    """The cost of a run on machines like this one.

    Attributes:
        survey: what there is.
        remote: whether the photos lie in a store that counts requests.
        config: what is done to each.
        resources: what does it.
        measured: photos that count; one more came before them, unless there is no other.
        measured_on: torch device.
        stages: `wait` and what the model's thread does → mean seconds a photo.
        reading: what the threads that open photos do → mean seconds a photo.
        actor_bytes: largest memory of this process, which did what an actor does.
        row_bytes: of a label row, compressed.
        price: of an actor's hour; None where it was not given.
    """

    survey: Survey
    remote: bool
    config: LabelConfig
    resources: Resources
    measured: int
    measured_on: str
    stages: dict[str, float]
    reading: dict[str, float]
    actor_bytes: int
    row_bytes: float
    price: float | None

    @property
    def images(self) -> int:
        """Number of photos to be labelled."""
        return self.survey.photos - self.survey.done

    def __str__(self) -> str:
        actor, ahead, survey = self.actor_bytes / 1e9, 3 * AHEAD_PX / 1e9, self.survey
        about = "" if survey.exact else "about "
        within = f" in {survey.archives} archives" if survey.archives else ""
        lines = [
            f"images   {about}{self.images} to label{within}, {survey.size / 1e6:.1f} MB; {survey.done} done",
            f"model    {self.config.sam}, {self.config.prompts} prompts",
            f"actors   {self.resources}",
            f"memory   {actor + ahead:.2f} GB an actor ({actor:.2f} measured here, {ahead:.2f} for photos open ahead),"
            f" {self.resources.actors * (actor + ahead):.2f} GB in all, Ray's own processes apart",
        ]
        if self.remote:
            lines.append(f"requests {self._requests()} to list and read the photos")
        if self.measured == 0:
            return "\n".join([*lines, "speed    unknown: none of the photos tried could be labelled"])
        seconds = sum(self.stages.values())
        rate, bound = self.resources.actors / seconds, bound_by(self.stages, self.reading)
        size = self.images * self.row_bytes
        lines += [
            f"output   {size / 1e6:.1f} MB of labels, {self.row_bytes / 1e3:.1f} kB an image; about"
            f" {self._units()} files while it runs, some {max(1, survey.archives, round(size / 2**28))} in the end",
            f"speed    {rate:.2f} images/s; {seconds:.2f} s an image, {self.measured} measured on {self.measured_on},"
            " alone",
            f"time     {clock(self.images / rate)}, bound by {bound['stage']} ({bound['share']:.0%} of it);"
            f" {self.images * seconds / 3600:.2f} hours of actors",
        ]
        if self.price is not None:
            lines.append(f"cost     {self.images * seconds / 3600 * self.price:.2f} at {self.price:g} an actor's hour")
        return "\n".join(lines)

    def _units(self) -> int:
        """Return about how many files a run writes, as if all photos were in one archive."""
        units, cut, grown = 0, 0, 1
        while cut < self.images:
            units, cut = units + 1, cut + unit_size(grown, self.images - cut)
            grown = next_grown(grown, cut, None)
        return units

    def _requests(self) -> int:
        """Return about how many requests are made of a store: one to list an archive, then its photos some MB each."""
        survey = self.survey
        inside = -(-survey.size // BYTES_A_READ) if survey.archives else self.images
        return survey.unlisted + min(self.images, inside)


def survey_corpus(flow: Flow) -> Survey:
    """Count the photos of a corpus; archives that are not known yet by the first members of some of them."""
    corpus, found = open_corpus(flow.images, exclude=flow.out)
    loose = DoneIds(f"{flow.out}/labels", flow.done.get("", []))
    photos = done = size = archives = unlisted = 0
    guessed: list[int] = []
    known_bytes = known_photos = 0
    samples = [SCHEMA.empty_table()]
    for part in parts_of(corpus, found, others := Counter[str]()):
        if not isinstance(part, Found):
            rows, mine = corpus.table(part), loose
            local = corpus.location.filesystem is None
        else:
            archives += 1
            known = read_part(flow.out, key_of(part.relative), part.stamp)
            mine, local = DoneIds(f"{flow.out}/labels", flow.done.get(key_of(part.relative), [])), False
            if known is None:
                unlisted += 1
                if len(guessed) >= MOST_ARCHIVES:
                    guessed.append(part.size or 0)
                    continue
                members = list(islice(corpus.rows_of_archive(part, others), MOST_MEMBERS + 1))
                rows = corpus.table(members)
                if len(members) > MOST_MEMBERS:
                    ends = [(row.offset or 0) + (row.length or 0) for row in members]
                    known_bytes, known_photos = known_bytes + max(ends), known_photos + len(members)
                    guessed.append(part.size or 0)
                    samples.append(rows)
                    continue
            else:
                rows = known.rows
        todo = rows.filter(mine.lacks(rows))
        photos, done = photos + rows.num_rows, done + rows.num_rows - todo.num_rows
        size += (pc.sum(todo.column("bytes")).as_py() or 0) + (_sizes_on_disk(todo) if local else 0)
        if sum(sample.num_rows for sample in samples) < MOST_MEMBERS:
            samples.append(todo)
    photos += round(sum(guessed) * known_photos / known_bytes) if known_bytes else 0
    return Survey(photos, done, size + sum(guessed), archives, unlisted, not guessed, pa.concat_tables(samples))


def plan_labelling(job: LabelJob, resources: Resources, price: float | None = None) -> LabelPlan:
    """Label at most `MOST_PHOTOS` photos of those to do, spread over what was found, and throw the labels away.

    Args:
        job: what is to be labelled.
        resources: of the run that is planned.
        price: of an actor's hour.
    """
    survey = survey_corpus(job.flow)
    files = survey.sample.filter(pc.invert(pc.is_in(survey.sample.column("kind"), pa.array(["hidden", "special"]))))
    places = sorted({number * files.num_rows // MOST_PHOTOS for number in range(min(MOST_PHOTOS, files.num_rows))})
    device = "cpu" if resources.device == "cuda" and not torch.cuda.is_available() else resources.device
    threads_before = torch.get_num_threads()
    try:
        rows = job.labelling(replace(resources, device=device)).label()(files.take(places))
    finally:
        torch.set_num_threads(threads_before)
    rows = rows.filter(pc.is_in(rows.column("status"), pa.array(["ok", "empty"])))
    if rows.num_rows > 1:  # the first is slower: memory is touched for the first time
        rows = rows.slice(1)
    return LabelPlan(
        survey=survey,
        remote="://" in job.flow.images and not job.flow.images.startswith("file:"),
        config=job.config,
        resources=resources,
        measured=rows.num_rows,
        measured_on=device,
        stages=_means(rows, ("wait", *MODEL_STAGES)),
        reading=_means(rows, READING_STAGES),
        actor_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        row_bytes=len(table_bytes(rows)) / max(1, rows.num_rows),
        price=price,
    )


def _sizes_on_disk(todo: pa.Table) -> int:
    """Return the bytes of local files that were listed without their size; files that are gone count nothing."""
    unknown = todo.filter(pc.and_(pc.is_null(todo.column("bytes")), pc.equal(todo.column("kind"), "file")))
    size = 0
    for path in unknown.column("path").to_pylist():
        with suppress(OSError):
            size += os.stat(path).st_size  # noqa: PTH116 - pathlib knows no bytes
    return size


def _means(rows: pa.Table, stages: tuple[str, ...]) -> dict[str, float]:
    return {stage: pc.mean(rows.column(f"seconds_{stage}")).as_py() or 0.0 for stage in stages}

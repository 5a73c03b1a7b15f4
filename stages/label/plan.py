"""From a labelling job to its cost: a few photos are labelled here, and the labels thrown away."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import torch

from aopsam.training.plan import clock
from schemas.labels import MODEL_STAGES, READING_STAGES
from stages.config.label_config import LabelConfig
from stages.engine.resources import Resources
from stages.label.account import bound_by
from stages.label.job import LabelJob
from stages.label.prefetch import AHEAD_PX
from stages.storage.location import locate

MOST_PHOTOS = 3


@dataclass(frozen=True)
class LabelPlan:
    """The cost of a run on machines like this one.

    Attributes:
        images: that are to be labelled.
        done: that have their row already.
        size: of those to be labelled, in bytes; those whose size is not known without reading count nothing.
        config: what is done to each.
        resources: what does it.
        measured: photos that count; one more came before them, unless there is no other.
        measured_on: torch device.
        stages: `wait` and what the model's thread does → mean seconds a photo.
        reading: what the threads that open photos do → mean seconds a photo.
        actor_bytes: largest memory of this process, which did what an actor does.
    """

    images: int
    done: int
    size: int
    config: LabelConfig
    resources: Resources
    measured: int
    measured_on: str
    stages: dict[str, float]
    reading: dict[str, float]
    actor_bytes: int

    def __str__(self) -> str:
        actor, ahead = self.actor_bytes / 1e9, 3 * AHEAD_PX / 1e9
        lines = [
            f"images   {self.images} to label, {self.size / 1e6:.1f} MB; {self.done} done",
            f"model    {self.config.sam}, {self.config.prompts} prompts",
            f"actors   {self.resources}",
            f"memory   {actor + ahead:.2f} GB an actor ({actor:.2f} measured here, {ahead:.2f} for photos open ahead),"
            f" {self.resources.actors * (actor + ahead):.2f} GB in all, Ray's own processes apart",
        ]
        if self.measured == 0:
            return "\n".join([*lines, "speed    unknown: none of the photos tried could be labelled"])
        seconds = sum(self.stages.values())
        rate, bound = self.resources.actors / seconds, bound_by(self.stages, self.reading)
        lines += [
            f"speed    {rate:.2f} images/s; {seconds:.2f} s an image, {self.measured} measured on {self.measured_on},"
            " alone",
            f"time     {clock(self.images / rate)}, bound by {bound['stage']} ({bound['share']:.0%} of it)",
        ]
        return "\n".join(lines)


def plan_labelling(job: LabelJob, resources: Resources) -> LabelPlan:
    """Label at most `MOST_PHOTOS` photos of those to do, spread over the listing, and throw the labels away.

    Args:
        job: what is to be labelled.
        resources: of the run that is planned.
    """
    config, images, listing = job.config, job.images, job.listing
    todo = listing.filter(pc.invert(pc.is_in(listing.column("image_id"), pa.array(job.done, pa.string()))))
    files = todo.filter(pc.invert(pc.is_in(todo.column("kind"), pa.array(["hidden", "special"]))))
    places = sorted({number * files.num_rows // MOST_PHOTOS for number in range(min(MOST_PHOTOS, files.num_rows))})
    device = resources.device if torch.cuda.is_available() else "cpu"
    threads_before = torch.get_num_threads()
    try:
        rows = job.actor(replace(resources, device=device))()(files.take(places))
    finally:
        torch.set_num_threads(threads_before)
    rows = rows.filter(pc.is_in(rows.column("status"), pa.array(["ok", "empty"])))
    if rows.num_rows > 1:  # the first is slower: memory is touched for the first time
        rows = rows.slice(1)
    return LabelPlan(
        images=todo.num_rows,
        done=listing.num_rows - todo.num_rows,
        size=(pc.sum(todo.column("bytes")).as_py() or 0) + _sizes_on_disk(todo, images),
        config=config,
        resources=resources,
        measured=rows.num_rows,
        measured_on=device,
        stages=_means(rows, ("wait", *MODEL_STAGES)),
        reading=_means(rows, READING_STAGES),
        actor_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _sizes_on_disk(todo: pa.Table, images: str) -> int:
    """Return the bytes of local files that were listed without their size; files that are gone count nothing."""
    if locate(images).filesystem is not None:
        return 0
    unknown = todo.filter(pc.and_(pc.is_null(todo.column("bytes")), pc.equal(todo.column("kind"), "file")))
    size = 0
    for path in unknown.column("path").to_pylist():
        with suppress(OSError):
            size += os.stat(path).st_size  # noqa: PTH116 - pathlib knows no bytes
    return size


def _means(rows: pa.Table, stages: tuple[str, ...]) -> dict[str, float]:
    return {stage: pc.mean(rows.column(f"seconds_{stage}")).as_py() or 0.0 for stage in stages}

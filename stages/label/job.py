"""A labelling job, from a configuration, photos and OUT: checked before the work, then what is left is labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa

from stages.config.label_config import LabelConfig
from stages.corpus.listing import list_images
from stages.corpus.others import describe_others
from stages.engine.resources import Resources, start
from stages.label.actor import LabelPhotos, make_generator, weights_of
from stages.label.folder import FailedRow, done_images, passing_failures, refuse_foreign_tables, write_table
from stages.config.manifest import check_configuration, finished_manifest, write_manifest
from stages.label.progress import Progress
from stages.label.retry import label_again
from stages.label.row import check_columns
from stages.label.run import label_listing
from stages.storage.atomic import check_writable
from stages.storage.location import redact

WRITTEN = ("labels/", "images.parquet", "manifest.json", "report.html")
"""Folder and files in OUT."""


@dataclass(frozen=True)
class LabelJob:
    """A labelling run before its first photo.

    Attributes:
        config: what is done to each photo.
        images: folder, glob, tar shards or Parquet; a path or URI.
        out: folder of the run, without a slash at its end.
        listing: rows of schemas/listing.py, of all photos.
        others: files beside them that are not looked at, by suffix.
        done: ids of photos that have their row, and keep it.
        failed: rows by image id that are to be made again, in their files.
        configuration: all that decides which masks come out, as the manifest records it.
    """

    config: LabelConfig
    images: str
    out: str
    listing: pa.Table
    others: Counter[str]
    done: set[str]
    failed: dict[str, FailedRow]
    configuration: dict[str, Any]

    @classmethod
    def prepare(cls, config: LabelConfig, images: str, out: str, threads: int, retry_failed: bool = False) -> LabelJob:
        """Check everything that can be checked before work begins, and list the photos; write nothing.

        Args:
            config: what is done to each photo.
            images: folder, glob, tar shards or Parquet; a path or URI.
            out: folder of the run.
            threads: CPU threads of a model.
            retry_failed: take up photos again whose failure may have passed (`schemas.labels.PASSING`).

        Raises:
            ValueError: a configuration that does not work, an OUT of another one or that cannot be written, or no
                photos.
            OSError: something that cannot be read.
        """
        check_columns()
        config, out = config.with_written_options(), out.rstrip("/")
        if finished_manifest(out) is None:  # a finished run may lie where nothing can be written
            check_writable(out, *WRITTEN)
        weights = weights_of(make_generator(config))
        # Threads too: they change the order of sums, and with it the last digits.
        configuration = config.as_dict() | {"images": redact(images), "weights": weights, "threads": threads}
        check_configuration(out, configuration)
        listing = list_images(images, exclude=out, others=(others := Counter[str]()))
        if listing.num_rows == 0:
            seen = f" ({describe_others(others)})" if others else ""
            raise ValueError(f"{redact(images)}: no photos there{seen}; give a folder, glob, tar or Parquet of photos")
        refuse_foreign_tables(f"{out}/labels")
        done = done_images(f"{out}/labels")
        listed = set(listing.column("image_id").to_pylist())
        found = passing_failures(f"{out}/labels") if retry_failed else {}
        failed = {image_id: row for image_id, row in found.items() if image_id in listed}
        job = cls(config, images, out, listing, others, done - failed.keys(), failed, configuration)
        if job.undone:
            check_writable(out, *WRITTEN)
        return job

    def __str__(self) -> str:
        of = f"{self.undone} of {self.listing.num_rows} images"
        others = f"{describe_others(self.others)}\n" if self.others else ""
        return f"{others}labelling {of}: {self.config.sam}, {self.config.prompts} prompts"

    @property
    def undone(self) -> int:
        """Number of photos to label: those without a row, and those that failed and are taken up again."""
        return sum(image_id not in self.done for image_id in self.listing.column("image_id").to_pylist())

    def finished(self) -> dict[str, Any] | None:
        """Return the manifest where the run is finished and nothing is left to do, else None."""
        return finished_manifest(self.out) if self.undone == 0 else None

    def begin(self) -> None:
        """Write OUT's manifest and listing, so that a later command can tell what the labels are."""
        write_manifest(self.out, self.configuration, "running", {})
        write_table(self.listing, f"{self.out}/images.parquet")

    def label(self, actors: int | None, threads: int | None, rows_per_file: int | None) -> tuple[Progress, int]:
        """Label photos without a row, then again those that failed; print progress; return it, and how many actors."""
        progress = Progress(self.undone)
        if not self.undone:
            return progress, 0
        resources = start(actors, threads, self.undone)
        print(f"{self}, {resources}", flush=True)
        folder, make = f"{self.out}/labels", self.actor(resources)
        new = label_listing(self.listing, folder, make, resources, rows_per_file)
        for account in chain(new, label_again(self.listing, folder, self.failed, make, resources)):
            progress.add(account)
        progress.close()
        return progress, resources.actors

    def actor(self, resources: Resources) -> Callable[[], LabelPhotos]:
        """Return what builds the labeller in an actor."""
        return partial(LabelPhotos, self.config, self.images, resources.device, resources.threads, resources.readers)

"""From a configuration, photos and OUT to a checked labelling job: what is to be labelled, how, what is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from stages.config.label_config import LabelConfig
from stages.corpus.listing import list_images
from stages.corpus.others import describe_others
from stages.label.actor import LabelPhotos, make_generator, weights_of
from stages.label.folder import done_images, refuse_foreign_tables, write_table
from stages.label.manifest import check_configuration, finished_manifest, write_manifest
from stages.label.row import check_columns
from stages.runner import Resources
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
        done: ids of photos that have their row.
        configuration: all that decides which masks come out, as the manifest records it.
    """

    config: LabelConfig
    images: str
    out: str
    listing: pa.Table
    others: Counter[str]
    done: set[str]
    configuration: dict[str, Any]

    @classmethod
    def prepare(cls, config: LabelConfig, images: str, out: str, threads: int) -> LabelJob:
        """Check everything that can be checked before work begins, and list the photos; write nothing.

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
        job = cls(config, images, out, listing, others, done_images(f"{out}/labels"), configuration)
        if job.undone:
            check_writable(out, *WRITTEN)
        return job

    def __str__(self) -> str:
        of = f"{self.undone} of {self.listing.num_rows} images"
        others = f"{describe_others(self.others)}\n" if self.others else ""
        return f"{others}labelling {of}: {self.config.sam}, {self.config.prompts} prompts"

    @property
    def undone(self) -> int:
        """Number of photos that have no row yet."""
        return sum(image_id not in self.done for image_id in self.listing.column("image_id").to_pylist())

    def finished(self) -> dict[str, Any] | None:
        """Return the manifest where the run is finished and nothing is left to do, else None."""
        return finished_manifest(self.out) if self.undone == 0 else None

    def begin(self) -> None:
        """Write OUT's manifest and listing, so that a later command can tell what the labels are."""
        write_manifest(self.out, self.configuration, "running", {})
        write_table(self.listing, f"{self.out}/images.parquet")

    def actor(self, resources: Resources) -> Callable[[], LabelPhotos]:
        """Return what builds the labeller in an actor."""
        return partial(LabelPhotos, self.config, self.images, resources.device, resources.threads, resources.readers)

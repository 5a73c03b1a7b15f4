"""A labelling job, from a configuration, photos and OUT: checked before the work, then what is left is labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from stages.config.label_config import LabelConfig
from stages.config.manifest import check_configuration, finished_manifest, write_manifest
from stages.corpus.index import LISTING, read_listing
from stages.corpus.listing import open_corpus, parts_of
from stages.corpus.names import Role, role
from stages.corpus.others import describe_others
from stages.corpus.walk import Found
from stages.engine.resources import Resources
from stages.label.account import Account
from stages.label.actor import LabelOpened, LabelPhotos, make_generator, weights_of
from stages.label.flow import Flow, is_undone
from stages.label.folder import FailedRow, passing_failures, refuse_foreign_tables, usable_files
from stages.label.opened import BYTES_A_UNIT, OpenPhotos
from stages.label.progress import LabelProgress
from stages.label.retry import label_again
from stages.label.row import check_columns
from stages.label.run import Labelling, label_corpus
from stages.registry.reference import resolve_predictor
from stages.storage.atomic import check_writable
from stages.storage.location import redact
from stages.storage.tables import list_names

WRITTEN = ("labels/", f"{LISTING}/", "manifest.json", "report.html")
"""Folders and files in OUT."""


@dataclass(frozen=True)
class LabelJob:
    """A labelling run before its first photo.

    Attributes:
        config: what is done to each photo.
        flow: the corpus, OUT, and which label files there are.
        failed: rows by image id that are to be made again, in their files.
        configuration: all that decides which masks come out, as the manifest records it.
        photos_at_once: labelled together by an actor.
        trace: share of photos whose rows tell how they were prompted; it changes no mask.
    """

    config: LabelConfig
    flow: Flow
    failed: Mapping[str, FailedRow]
    configuration: dict[str, Any]
    photos_at_once: int = 1
    trace: float = 0.0

    @classmethod
    def prepare(
        cls,
        config: LabelConfig,
        images: str,
        out: str,
        threads: int,
        retry_failed: bool = False,
        photos_at_once: int = 1,
        trace: float = 0.0,
    ) -> LabelJob:
        """Check everything that can be checked before work begins; write nothing.

        Args:
            config: what is done to each photo.
            images: folder, glob, tar shards or Parquet; a path or URI.
            out: folder of the run.
            threads: CPU threads of a model.
            retry_failed: take up photos again whose failure may have passed (`schemas.labels.PASSING`).
            photos_at_once: photos that an actor labels together.
            trace: share of photos whose rows tell how they were prompted.

        Raises:
            ValueError: a configuration that does not work, an OUT of another one or that cannot be written, or no
                photos.
            OSError: something that cannot be read.
        """
        check_columns()
        config, out = config.with_written_options(), out.rstrip("/")
        config = replace(config, predictor=resolve_predictor(config.predictor))
        if finished_manifest(out) is None:  # a finished run may lie where nothing can be written
            check_writable(out, *WRITTEN)
        weights = weights_of(make_generator(config))
        # Threads too, and photos at once: they change the order of sums, and with it the last digits.
        configuration = config.as_dict() | {"images": redact(images), "weights": weights, "threads": threads}
        configuration |= {} if photos_at_once == 1 else {"photos_at_once": photos_at_once}
        check_configuration(out, configuration)
        _check_photos(images, out)
        refuse_foreign_tables(f"{out}/labels")
        done = usable_files(f"{out}/labels")
        files = [name for names in done.values() for name in names]
        failed = passing_failures(f"{out}/labels", files) if retry_failed else {}
        flow = Flow(images, out, done, old="images.parquet" in list_names(out))
        return cls(config, flow, failed, configuration, photos_at_once, trace)

    def __str__(self) -> str:
        again = f" ({len(self.failed)} of them again)" if self.failed else ""
        return f"labelling photos{again}: {self.config.sam}, {self.config.prompts} prompts"

    @property
    def out(self) -> str:
        """Folder of the run, without a slash at its end."""
        return self.flow.out

    def finished(self) -> tuple[dict[str, Any], int] | None:
        """Return manifest and number of photos where the run is finished and nothing is left to do, else None."""
        manifest = finished_manifest(self.out)
        if manifest is None or self.failed:
            return None
        photos, undone = is_undone(self.flow)
        return None if undone else (manifest, photos)

    def begin(self) -> None:
        """Write OUT's manifest, so that a later command can tell what the labels are.

        Raises:
            ValueError: OUT cannot be written.
        """
        check_writable(self.out, *WRITTEN)
        write_manifest(self.out, self.configuration, "running", {})

    def label(self, resources: Resources, rows_per_file: int | None, max_seconds: float) -> LabelProgress:
        """Label photos without a row, then again those that failed; print progress; return it.

        Args:
            resources: of `stages.engine.resources.start`.
            rows_per_file: photos in one output file, the unit that a kill loses; None for a twentieth, 4 to 256.
            max_seconds: longest time for a photo.
        """
        apart = BYTES_A_UNIT if resources.openers else None
        least = min(self.photos_at_once, rows_per_file or self.photos_at_once)
        flow = replace(self.flow, rows_a_unit=rows_per_file, bytes_a_unit=apart, least_a_unit=least)
        labelling = self.labelling(resources, max_seconds)
        progress = LabelProgress()
        progress.expect(len(self.failed))
        new = label_corpus(flow, labelling, resources)
        for told in chain(new, self._again(labelling, resources)):
            progress.hear(told)
        progress.close()
        return progress

    def _again(self, labelling: Labelling, resources: Resources) -> Iterator[Account]:
        if self.failed:
            yield from label_again(read_listing(self.out), f"{self.out}/labels", self.failed, labelling, resources)

    def labelling(self, resources: Resources, max_seconds: float | None = None) -> Labelling:
        """Return what is done to the photos on these resources."""
        device, threads, readers = resources.device, resources.threads, resources.readers
        at_once, trace = self.photos_at_once, self.trace
        return Labelling(
            label=partial(LabelPhotos, self.config, self.flow.images, device, threads, readers, at_once, trace),
            open=partial(OpenPhotos, self.flow.images, self.config.max_pixels, readers),
            label_opened=partial(LabelOpened, self.config, device, threads, at_once, trace),
            max_seconds=max_seconds,
        )


def _check_photos(images: str, out: str) -> None:
    """Check that there are photos, or archives that may hold some.

    Raises:
        ValueError: there are none, or what was named outright cannot be used.
    """
    corpus, found = open_corpus(images, exclude=out)
    first = next(parts_of(corpus, found, others := Counter[str]()), None)
    if first is None:
        raise ValueError(no_photos(images, others))
    if corpus.explicit and isinstance(first, Found) and role(first.relative) is Role.PARQUET:
        next(corpus.rows_of_archive(first, others), None)


def no_photos(images: str, others: Mapping[str, int]) -> str:
    """Return the line that says that there is nothing to label."""
    seen = f" ({describe_others(others)})" if others else ""
    return f"{redact(images)}: no photos there{seen}; give a folder, glob, tar or Parquet of photos"

"""The label actor: rows of the listing in, label rows out; everything between bytes and RLE in one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import torch

from aopsam._allocator import keep_freed_memory
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.ledger import Labelled
from aopsam.everything.options import WEIGHTS
from aopsam.masks import kernels
from aopsam.sam.encode import set_encoder_precision
from aopsam.sam.openvino_encoder import use_openvino
from aopsam.sam.registry import load_sam
from schemas import labels
from schemas.labels import Reason
from stages.config.label_config import LabelConfig
from stages.config.strategy_spec import options_here
from stages.engine.journal import Lost
from stages.engine.steps import alive
from stages.label.opened import photos_of
from stages.label.prefetch import AHEAD_PX, Opened, Prefetch
from stages.label.row import blank_row, given_up, labelled, labels_table, taken, with_reason
from stages.registry.reference import open_predictor
from stages.storage.fetched import local_file


def make_generator(config: LabelConfig, device: str = "cpu") -> AutoMaskGenerator:
    """Build the generator that a configuration describes, with records in COCO RLE.

    Raises:
        ValueError: a model, strategy, option or file that does not exist or does not fit.
    """
    model = load_sam(config.sam, local_file(config.checkpoint)).to(device)
    if config.encoder_runtime == "openvino":
        if model.device.type != "cpu":
            raise ValueError(f"encoder_runtime: openvino runs on a CPU, not on {device}; use torch")
        try:
            use_openvino(model, config.encoder_precision)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    else:
        set_encoder_precision(model, config.encoder_precision)
    return AutoMaskGenerator(
        model,
        output_mode="coco_rle",
        prompts=config.prompts,
        predictor=open_predictor(config.predictor),
        strategy_options=options_here(config.prompts, config.strategy_options),
        **asdict(config.options) | {name: local_file(getattr(config.options, name)) for name in WEIGHTS},
    )


def weights_of(generator: AutoMaskGenerator) -> dict[str, Any]:
    """Return name and SHA-256 of the weights that a generator uses, by role."""
    sam = {"name": generator.model.name, "sha256": generator.model.sha256}
    others = {name: getattr(generator, name) for name in WEIGHTS}
    digests = {name: {"sha256": network.sha256} for name, network in others.items() if network is not None}
    return {"sam": sam} | digests | generator.strategies[0].weights()


class _Model:
    """Generator in a thread of its own, since each thread that computes with torch would have helpers of its own."""

    def __init__(self, config: LabelConfig, device: str, threads: int, at_once: int, trace: float) -> None:
        keep_freed_memory()
        kernels()  # compiled here rather than while the first photo waits
        self.thread = ThreadPoolExecutor(1, "model", initializer=torch.set_num_threads, initargs=(threads,))
        self.generator = self.thread.submit(make_generator, config, device).result()
        self._at_once, self._trace = at_once, trace
        self._free_since: float | None = None

    def label_all(self, photos: Iterator[Opened], number: int) -> Iterator[Future[dict[str, Any]]]:
        """Queue photos behind those of earlier calls; yield their rows as they are to be had."""
        made = self._label(photos)
        rows = deque(self.thread.submit(next, made) for _ in range(number))
        return (rows.popleft() for _ in range(number))

    def _label(self, photos: Iterator[Opened]) -> Iterator[dict[str, Any]]:
        """Yield the rows of photos, labelled in groups; runs in the model's thread."""
        for group in in_groups(self._take(photos), self._at_once):
            rows = label_photos(self.generator, group, self._trace)
            self._free_since = time.perf_counter()
            yield from rows

    def _take(self, photos: Iterator[Opened]) -> Iterator[Opened]:
        """Yield the photos; their rows tell how long the model's thread waited for them."""
        while True:
            alive()
            free_since = self._free_since or time.perf_counter()
            photo = next(photos, None)
            if photo is None:
                return
            self._free_since = time.perf_counter()
            yield replace(photo, row=taken(photo.row, self._free_since - free_since))


def in_groups(photos: Iterator[Opened], at_once: int) -> Iterator[list[Opened]]:
    """Yield photos in groups of `at_once`, fewer where they would have more than `AHEAD_PX` pixels together."""
    group: list[Opened] = []
    for photo in photos:
        if group and sum(other.pixels for other in group) + photo.pixels > AHEAD_PX:
            yield group
            group = []
        group.append(photo)
        if len(group) == at_once:
            yield group
            group = []
    if group:
        yield group


class LabelPhotos:
    """Labels the photos of tables of the listing; whatever happens to one, it becomes a row.

    Made to be called from two threads at once: the model works on the photos of one call at a time, in the order of
    the calls, while other threads read and decode the photos that come next, those of the next call too.
    """

    def __init__(
        self,
        config: LabelConfig,
        images: str,
        device: str = "cpu",
        threads: int = 1,
        readers: int = 1,
        at_once: int = 1,
        trace: float = 0.0,
    ) -> None:
        """Load the model.

        Args:
            config: what to do to each photo.
            images: the run's --images, from which storage credentials are read again.
            device: torch device.
            threads: CPU threads of the model; explicit, since Ray gives a worker one.
            readers: threads that read and decode photos ahead of the model.
            at_once: photos of a call that are labelled together, some 32 megapixels at most.
            trace: share of photos whose rows tell how they were prompted.
        """
        self._prefetch = Prefetch(images, config.max_pixels, readers)
        self._calls_in_order = threading.Lock()
        self._model = _Model(config, device, threads, at_once, trace)
        self.generator = self._model.generator

    def __call__(self, listing: pa.Table) -> pa.Table:
        """Label rows of schemas/listing.py; return as many rows of schemas/labels.py, in the same order."""
        sources = listing.to_pylist()
        with self._calls_in_order:  # of the model and of the photos alike, or each would wait for the other
            rows = self._model.label_all(self._prefetch.open(sources), len(sources))
        # To Arrow one by one: the objects of a whole unit's masks would take many times the memory.
        return pa.concat_tables([labels.SCHEMA.empty_table(), *(labels_table([row.result()]) for row in rows)])

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Return the label row of one row of the listing that ends its worker or takes too long."""
        return given_up(blank_row(item.to_pylist()[0]), why)


class LabelOpened:
    """Labels photos that were opened elsewhere (`stages.label.opened`), as `LabelPhotos` does."""

    def __init__(
        self, config: LabelConfig, device: str = "cpu", threads: int = 1, at_once: int = 1, trace: float = 0.0
    ) -> None:
        """Load the model; see `LabelPhotos`."""
        self._model = _Model(config, device, threads, at_once, trace)

    def __call__(self, photos: pa.Table) -> pa.Table:
        """Label rows of `OPENED`; return as many rows of schemas/labels.py, in the same order."""
        rows = self._model.label_all(photos_of(photos), photos.num_rows)
        return pa.concat_tables([labels.SCHEMA.empty_table(), *(labels_table([row.result()]) for row in rows)])

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Return the label row of one photo that ends its worker or takes too long."""
        return given_up(next(photos_of(item)).row, why)


def label_photos(generator: AutoMaskGenerator, photos: Sequence[Opened], trace: float = 0.0) -> list[dict[str, Any]]:
    """Turn opened photos into their label rows, together; never raises for what a photo does.

    Args:
        generator: labels them.
        photos: opened, or not to be had.
        trace: share of photos whose rows tell how they were prompted.
    """
    whole = [(photo.rgb, photo.row["image_id"]) for photo in photos if photo.rgb is not None]
    traced = [is_traced(image_id, trace) for _, image_id in whole]
    outcomes = iter(generator.label_together([rgb for rgb, _ in whole], alive, traced))
    return [photo.row if photo.rgb is None else _row(photo, next(outcomes)) for photo in photos]


def is_traced(image_id: str, share: float) -> bool:
    """Return whether a photo belongs to the share that is traced: by its id, a hash, so that every run agrees."""
    return int(image_id[:8], 16) < share * 2**32


def _row(photo: Opened, outcome: Labelled | Exception) -> dict[str, Any]:
    try:
        if isinstance(outcome, Exception):
            raise outcome
        return labelled(photo.row, outcome)
    except Exception as error:
        return with_reason(photo.row, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

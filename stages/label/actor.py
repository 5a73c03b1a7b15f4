"""The label actor: rows of the listing in, label rows out; everything between bytes and RLE in one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import torch

from aopsam._allocator import keep_freed_memory
from aopsam.everything.generator import AutoMaskGenerator
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
from stages.label.prefetch import Opened, Prefetch
from stages.label.row import blank_row, given_up, labelled, labels_table, with_reason
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
        **asdict(config.options) | {"scorer": local_file(config.options.scorer)},
    )


def weights_of(generator: AutoMaskGenerator) -> dict[str, Any]:
    """Return name and SHA-256 of the weights that a generator uses, by role."""
    sam = {"name": generator.model.name, "sha256": generator.model.sha256}
    scorer = {} if generator.scorer is None else {"scorer": {"sha256": generator.scorer.sha256}}
    return {"sam": sam} | scorer | generator.strategies[0].weights()


class _Model:
    """Generator in a thread of its own, since each thread that computes with torch would have helpers of its own."""

    def __init__(self, config: LabelConfig, device: str, threads: int) -> None:
        keep_freed_memory()
        self.thread = ThreadPoolExecutor(1, "model", initializer=torch.set_num_threads, initargs=(threads,))
        self.generator = self.thread.submit(make_generator, config, device).result()
        self._free_since: float | None = None

    def label(self, photos: Iterator[Opened]) -> dict[str, Any]:
        """Label the next photo, in the model's thread; its row tells how long that waited for it."""
        alive()
        free_since = self._free_since or time.perf_counter()
        photo = next(photos)
        row = label_photo(self.generator, photo, time.perf_counter() - free_since)
        self._free_since = time.perf_counter()
        return row

    def label_all(self, photos: Iterator[Opened], number: int) -> Iterator[Future[dict[str, Any]]]:
        """Queue photos behind those of earlier calls; yield their rows as they are to be had."""
        rows = deque(self.thread.submit(self.label, photos) for _ in range(number))
        return (rows.popleft() for _ in range(number))


class LabelPhotos:
    """Labels the photos of tables of the listing, one at a time; whatever happens to one, it becomes a row.

    Made to be called from two threads at once: the model works on the photos of one call at a time, in the order of
    the calls, while other threads read and decode the photos that come next, those of the next call too.
    """

    def __init__(
        self, config: LabelConfig, images: str, device: str = "cpu", threads: int = 1, readers: int = 1
    ) -> None:
        """Load the model.

        Args:
            config: what to do to each photo.
            images: the run's --images, from which storage credentials are read again.
            device: torch device.
            threads: CPU threads of the model; explicit, since Ray gives a worker one.
            readers: threads that read and decode photos ahead of the model.
        """
        self._prefetch = Prefetch(images, config.max_pixels, readers)
        self._calls_in_order = threading.Lock()
        self._model = _Model(config, device, threads)
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
    """Labels photos that were opened elsewhere (`stages.label.opened`), one at a time, as `LabelPhotos` does."""

    def __init__(self, config: LabelConfig, device: str = "cpu", threads: int = 1) -> None:
        """Load the model; see `LabelPhotos`."""
        self._model = _Model(config, device, threads)

    def __call__(self, photos: pa.Table) -> pa.Table:
        """Label rows of `OPENED`; return as many rows of schemas/labels.py, in the same order."""
        rows = self._model.label_all(photos_of(photos), photos.num_rows)
        return pa.concat_tables([labels.SCHEMA.empty_table(), *(labels_table([row.result()]) for row in rows)])

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Return the label row of one photo that ends its worker or takes too long."""
        return given_up(next(photos_of(item)).row, why)


def label_photo(generator: AutoMaskGenerator, photo: Opened, seconds_wait: float = 0.0) -> dict[str, Any]:
    """Turn an opened photo into its label row; never raises for what a photo does."""
    if photo.rgb is None:
        return photo.row | {"seconds_wait": seconds_wait}
    try:
        return labelled(photo.row, generator.label(photo.rgb), seconds_wait)
    except Exception as error:
        row = photo.row | {"seconds_wait": seconds_wait}
        return with_reason(row, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

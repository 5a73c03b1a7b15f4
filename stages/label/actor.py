"""The label actor: rows of the listing in, label rows out; everything between bytes and RLE in one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import torch

from aopsam._allocator import keep_freed_memory
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.predictor.weights import load_predictor
from aopsam.sam.encode import set_encoder_precision
from aopsam.sam.openvino_encoder import use_openvino
from aopsam.sam.registry import load_sam
from schemas import labels
from schemas.labels import Reason
from stages.config.label_config import LabelConfig
from stages.label.prefetch import Opened, Prefetch
from stages.label.row import labelled, labels_table, with_reason


def make_generator(config: LabelConfig, device: str = "cpu") -> AutoMaskGenerator:
    """Build the generator that a configuration describes, with records in COCO RLE.

    Raises:
        ValueError: a model, strategy, option or file that does not exist or does not fit.
    """
    model = load_sam(config.sam, config.checkpoint).to(device)
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
        predictor=None if config.predictor is None else load_predictor(config.predictor),
        strategy_options=config.strategy_options,
        **asdict(config.options),
    )


def weights_of(generator: AutoMaskGenerator) -> dict[str, Any]:
    """Return name and SHA-256 of the weights that a generator uses, by role."""
    sam = {"name": generator.model.name, "sha256": generator.model.sha256}
    scorer = {} if generator.scorer is None else {"scorer": {"sha256": generator.scorer.sha256}}
    return {"sam": sam} | scorer | generator.strategies[0].weights()


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
        keep_freed_memory()
        self._prefetch = Prefetch(images, config.max_pixels, readers)
        # All of torch in one thread: each thread that computes would have helpers of its own.
        self._model = ThreadPoolExecutor(1, "model", initializer=torch.set_num_threads, initargs=(threads,))
        self._calls_in_order = threading.Lock()
        self._free_since: float | None = None
        self.generator = self._model.submit(make_generator, config, device).result()

    def __call__(self, listing: pa.Table) -> pa.Table:
        """Label rows of schemas/listing.py; return as many rows of schemas/labels.py, in the same order."""
        sources = listing.to_pylist()
        with self._calls_in_order:  # of the model and of the photos alike, or each would wait for the other
            photos = self._prefetch.open(sources)
            rows = deque(self._model.submit(self._label_next, photos) for _ in sources)
        tables = [labels.SCHEMA.empty_table()]
        while rows:  # to Arrow one by one: the objects of a whole unit's masks would take many times the memory
            tables.append(labels_table([rows.popleft().result()]))
        return pa.concat_tables(tables)

    def _label_next(self, photos: Iterator[Opened]) -> dict[str, Any]:
        free_since = self._free_since or time.perf_counter()
        photo = next(photos)
        row = label_photo(self.generator, photo, time.perf_counter() - free_since)
        self._free_since = time.perf_counter()
        return row


def label_photo(generator: AutoMaskGenerator, photo: Opened, seconds_wait: float = 0.0) -> dict[str, Any]:
    """Turn an opened photo into its label row; never raises for what a photo does."""
    if photo.rgb is None:
        return photo.row | {"seconds_wait": seconds_wait}
    try:
        return labelled(photo.row, generator.label(photo.rgb), seconds_wait)
    except Exception as error:
        row = photo.row | {"seconds_wait": seconds_wait}
        return with_reason(row, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")

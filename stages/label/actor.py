"""The label actor: from manifest rows to label rows, everything between bytes and RLE in one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import torch

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.predictor.weights import load_predictor
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.oas import ObjectAware
from aopsam.sam.encode import set_encoder_precision
from aopsam.sam.openvino_encoder import use_openvino
from aopsam.sam.registry import load_sam
from schemas import labels
from schemas.labels import Reason
from stages.config.label_config import LabelConfig
from stages.label.prefetch import Opened, Prefetch
from stages.label.row import with_reason


def make_generator(config: LabelConfig, device: str = "cpu") -> AutoMaskGenerator:
    """The generator that a configuration describes, with records in COCO RLE.

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
    elif config.encoder_runtime == "torch":
        set_encoder_precision(model, config.encoder_precision)
    else:
        raise ValueError(f"encoder_runtime is {config.encoder_runtime!r}; choose from torch, openvino")
    not_the_generators = {"sam", "checkpoint", "predictor", "encoder_precision", "encoder_runtime", "max_pixels"}
    return AutoMaskGenerator(
        model,
        output_mode="coco_rle",
        predictor=None if config.predictor is None else load_predictor(config.predictor),
        **{name: value for name, value in vars(config).items() if name not in not_the_generators},
    )


def weights_of(generator: AutoMaskGenerator) -> dict[str, Any]:
    """Name and SHA-256 of the weights that a generator uses, by role."""
    weights: dict[str, Any] = {"sam": {"name": generator.model.name, "sha256": generator.model.sha256}}
    strategy = generator.strategies[0]
    if isinstance(strategy, AutoPrompts):
        predictor = strategy.proposer.predictor
        weights["predictor"] = {"sam": predictor.sam, "sha256": predictor.sha256}
    if isinstance(strategy, ObjectAware):
        weights["detector"] = {"sam": strategy.detector.sam, "sha256": strategy.detector.sha256}
    return weights


class LabelPhotos:
    """Labels the photos of manifest tables, one at a time; whatever happens to one, it becomes a row.

    Made to be called from two threads at once: the model works on the photos of one call at a time, in the order of
    the calls, while the photos that come next, those of the next call too, are read and decoded beside it.
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
        # All of torch in one thread: each thread that computes would have helpers of its own.
        self._model = ThreadPoolExecutor(1, "model", initializer=torch.set_num_threads, initargs=(threads,))
        self._calls_in_order = threading.Lock()
        self._free_since: float | None = None
        self.generator = self._model.submit(make_generator, config, device).result()

    def __call__(self, manifest: pa.Table) -> pa.Table:
        """Rows of schemas/listing.py in, as many rows of schemas/labels.py out, in the same order."""
        sources = manifest.to_pylist()
        with self._calls_in_order:  # of the model and of the photos alike, or each would wait for the other
            photos = self._prefetch.open(sources)
            rows = deque(self._model.submit(self._label_next, photos) for _ in sources)
        tables = [labels.SCHEMA.empty_table()]
        while rows:  # to Arrow one by one: the objects of a whole unit's masks would take many times the memory
            tables.append(pa.Table.from_pylist([rows.popleft().result()], schema=labels.SCHEMA))
        return pa.concat_tables(tables)

    def _label_next(self, photos: Iterator[Opened]) -> dict[str, Any]:
        free_since = self._free_since or time.perf_counter()
        photo = next(photos)
        waited = time.perf_counter() - free_since
        row = label_photo(self.generator, photo) | {"seconds_wait": waited}
        self._free_since = time.perf_counter()
        return row


def label_photo(generator: AutoMaskGenerator, photo: Opened) -> dict[str, Any]:
    """An opened photo to its label row; never raises for what a photo does."""
    if photo.rgb is None:
        return photo.row
    try:
        labelled = generator.label(photo.rgb)
    except Exception as error:
        return with_reason(photo.row, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
    row = photo.row | {f"seconds_{stage}": seconds for stage, seconds in labelled.seconds.items()}
    row["masks"] = labelled.records
    row["prompts_proposed"] = labelled.prompts_proposed
    row["prompts_decoded"] = labelled.prompts_decoded
    row["refinements"] = labelled.refinements
    row["masks_dropped"] = sum(labelled.masks_dropped.values())
    return with_reason(row, Reason.NONE if labelled.records else Reason.NO_MASK, "")

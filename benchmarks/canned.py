"""label_corpus.py with a model that answers every photo with the same masks: what the dataflow costs, and keeps.

    python benchmarks/canned.py SECONDS --images PHOTOS --out OUT [further arguments of label_corpus.py]

Everything else is real: bytes, decoding, tables, report. The masks are those of the bundled model on a photo of this
repository; the model waits SECONDS an image, as for a GPU, and computes nothing.
"""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.ledger import STAGES, Labelled
from aopsam.photos.decode import open_photo
from pipelines import label_corpus
from stages.config.label_config import LabelConfig
from stages.label import job
from stages.label.actor import LabelPhotos

PHOTO = Path(__file__).parent.parent / "samples" / "coffee.jpg"
SECONDS = "AOPSAM_CANNED_SECONDS"
"""Environment variable: how long the model takes. Ray's workers inherit it."""


class CannedGenerator:
    """Generator that waits, then returns copies of the same records."""

    def __init__(self, generator: AutoMaskGenerator, seconds: float) -> None:
        self.seconds = seconds
        self.labelled = generator.label(open_photo(PHOTO.read_bytes(), 10**8).rgb)

    def label(self, image: np.ndarray) -> Labelled:
        """Return the same masks for every photo, in the form of `AutoMaskGenerator.label`."""
        began = time.perf_counter()
        time.sleep(self.seconds)
        labelled = copy.deepcopy(self.labelled)  # as many objects as a model makes
        labelled.seconds |= dict.fromkeys(STAGES, 0.0) | {"encode": time.perf_counter() - began}
        return labelled

    def label_together(
        self, images: Sequence[np.ndarray], working: Callable[[float], None], traced: Sequence[bool]
    ) -> list[Labelled]:
        """Return `label` of each photo."""
        return [self.label(image) for image in images]


class CannedPhotos(LabelPhotos):
    """Label actor with its model replaced."""

    def __init__(self, config: LabelConfig, images: str, device: str, threads: int, readers: int, *more: Any) -> None:
        super().__init__(config, images, device, threads, readers, *more)
        canned = self._model.thread.submit(CannedGenerator, self.generator, float(os.environ[SECONDS]))
        self._model.generator = canned.result()  # type: ignore[assignment]


def main(argv: list[str]) -> int:
    """Label; return the exit status."""
    os.environ[SECONDS] = argv[0]
    job.LabelPhotos = CannedPhotos  # type: ignore[misc, assignment]
    return label_corpus.main(argv[1:])


if __name__ == "__main__":
    from benchmarks.canned import main as importable  # by its name, and not as __main__: workers import it

    raise SystemExit(importable(sys.argv[1:]))

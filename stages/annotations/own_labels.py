"""Read the labels tables of a labelling run as annotated photos: the masks kept, weighted by their scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from aopsam.photos.sa1b import Sample
from schemas.labels import Status
from stages.results.photos import LabelledPhotos, PhotoGone, photo_name
from stages.results.read import LabelFiles, read_batches
from stages.storage.location import open_filesystem

COLUMNS = ("image_id", "file_name", "content_sha256", "width", "height", "status", "masks")


def read_labelled(uri: str, on_problem: Callable[[str], None], images: str | None = None) -> Iterator[Sample]:
    """Yield the photos with status `ok` of one file of OUT/labels, with masks as annotations, highest weight first.

    In memory are a batch of rows and the listing (0.3 KB an image) of the archive whose photos they are, or of files.

    Args:
        uri: URI of the file. OUT/listing tells where the photos lie: files, members of tars and rows of Parquet files.
        on_problem: called with one line for a photo that is gone or has changed since, and one for how many rows have
            no masks.
        images: the photos as an argument --images of `label_corpus.py`, if they are elsewhere now or reading them
            takes keys.

    Yields:
        Samples whose `id` is the photo's path below the images' root, or inside its tar, without suffix: what the
        readers of annotated shards give. Their annotations have a `weight` (`weights`).

    Raises:
        ValueError: no labels table, or no listing in OUT.
        OSError: it cannot be read.
    """
    filesystem, path = open_filesystem(uri)
    photos = LabelledPhotos(uri, images)
    without: Counter[str] = Counter()
    for batch in read_batches(LabelFiles(filesystem, (path,)), path, COLUMNS):
        rows = batch.to_pylist()
        for row, listed in zip(rows, photos.find(rows), strict=True):
            if row["status"] != Status.OK:
                without[row["status"]] += 1
                continue
            try:
                encoded = photos.read(row, listed)
            except PhotoGone as error:
                on_problem(str(error))
                continue
            assert listed is not None
            yield Sample(photo_name(listed), encoded, row["width"], row["height"], _annotations(row["masks"]))
    if without:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(without.items()))
        on_problem(f"{without.total()} images without masks ({counts})")


def weights(masks: Sequence[Mapping[str, Any]]) -> list[float]:
    """Weigh the masks of a photo: score, or predicted_iou · stability_score without one, by the photo's highest.

    The best mask of every photo weighs 1, so a model whose scores are all low (`tiny`'s lie near 0.3) weighs as one
    whose scores are all high. A score that is missing, not finite or below 0 counts as 0; where none is above, all
    weigh 1.

    Returns:
        One number in [0, 1] a mask.
    """
    scores = [
        _score(mask["predicted_iou"]) * _score(mask["stability_score"])
        if mask["score"] is None
        else _score(mask["score"])
        for mask in masks
    ]
    highest = max(scores, default=0.0)
    return [score / highest if highest > 0 else 1.0 for score in scores]


def _score(value: float | None) -> float:
    return max(0.0, value) if value is not None and math.isfinite(value) else 0.0


def _annotations(masks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    weighted = [
        {name: value for name, value in mask.items() if value is not None} | {"weight": weight}
        for mask, weight in zip(masks, weights(masks), strict=True)
    ]
    # Of repeats the first is kept, so the highest weight comes first.
    return sorted(weighted, key=lambda annotation: -annotation["weight"])

"""Make as many photos or labels as a benchmark needs: those of a folder or of a run again and again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages.results.read import read_labels

ROWS_PER_FILE = 2000
"""Rows of a file of labels, about as many as a run of some hundred masks a photo puts into one of 71 MB."""


def repeat_photos(images: Path, count: int, folder: Path) -> Path:
    """Link (or copy, from another disk) photos of `images` into `folder` until there are `count`; returns `folder`.

    Raises:
        ValueError: `images` has no JPEG.
    """
    photos = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if not photos:
        raise ValueError(f"{images}: no *.jpg there")
    folder.mkdir(parents=True)
    for number in range(count):
        photo, target = photos[number % len(photos)], folder / f"{number:06d}.jpg"
        try:
            os.link(photo, target)
        except OSError:
            shutil.copyfile(photo, target)
    return folder


def repeat_labels(labels: str, count: int, folder: Path, masks: int | None = None) -> Path:
    """Write labels of `count` rows: those of `labels` again and again, copies with an `image_id` of their own.

    Args:
        labels: OUT of a labelling run.
        count: rows to write.
        folder: made here; files in `folder`/labels are written.
        masks: keep so many masks of each row, the first ones; None keeps all.

    Returns:
        `folder`.
    """
    table = pa.concat_tables(read_labels(labels))
    if masks is not None:
        column = table.schema.get_field_index("masks")
        first = pa.array([row[:masks] for row in table["masks"].to_pylist()], table["masks"].type)
        table = table.set_column(column, table.schema.field(column), first)
    number, ids_type = table.schema.get_field_index("image_id"), table["image_id"].type
    (folder / "labels").mkdir(parents=True)
    for first in range(0, count, ROWS_PER_FILE):
        with pq.ParquetWriter(folder / "labels" / f"{first:07d}.parquet", table.schema) as writer:
            for start in range(first, min(first + ROWS_PER_FILE, count), len(table)):
                rows = table.slice(0, min(len(table), first + ROWS_PER_FILE - start, count - start))
                ids = pa.array([f"{one}-{start}" if start else one for one in rows["image_id"].to_pylist()])
                writer.write_table(rows.set_column(number, table.schema.field(number), ids.cast(ids_type)))
    return folder

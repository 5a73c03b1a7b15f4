"""Photos opened in processes of their own, on CPUs beside the GPUs: rows of the listing in, decoded photos out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from stages.engine.journal import Lost
from stages.engine.steps import alive
from stages.label.prefetch import Opened, Prefetch
from stages.label.row import blank_row, reason_of, with_reason

OPENED = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),
        pa.field("rgb", pa.large_binary()),
    ]
)
"""Schema of opened photos: the label row so far, as JSON, with `height` and `width`, and H·W·3 bytes of RGB; null where
there is no photo."""

BYTES_A_UNIT = 4 << 20
"""Encoded bytes of the photos that are opened and labelled together: some ten megapixels of JPEGs."""


class OpenPhotos:
    """Reads and decodes the photos of tables of the listing; whatever happens to one, it becomes a row."""

    def __init__(self, images: str, max_pixels: int, readers: int = 1) -> None:
        """Take the run's --images, the limit of a photo, and the number of threads."""
        self._prefetch = Prefetch(images, max_pixels, readers)

    def __call__(self, listing: pa.Table) -> pa.Table:
        """Open rows of schemas/listing.py; return as many rows of `OPENED`, in the same order."""
        photos = self._prefetch.open(listing.to_pylist())
        tables = [OPENED.empty_table()]
        for photo in photos:
            alive()
            tables.append(_table([photo]))
        return pa.concat_tables(tables)

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Return the row of one row of the listing that ends its worker or takes too long."""
        row = blank_row(item.to_pylist()[0])
        return _table([Opened(with_reason(row, *reason_of(why)), None, 0)])


def _table(photos: Sequence[Opened]) -> pa.Table:
    rows = [json.dumps(photo.row) for photo in photos]
    return pa.table([rows, [None if p.rgb is None else p.rgb.data for p in photos]], schema=OPENED)


def photos_of(opened: pa.Table) -> Iterator[Opened]:
    """Yield the photos of rows of `OPENED`; their pixels are not copied."""
    rgb = opened.column("rgb").combine_chunks() if opened.num_rows else []
    for text, data in zip(opened.column("row").to_pylist(), rgb, strict=True):
        row = json.loads(text)
        if not data.is_valid:
            yield Opened(row, None, 0)
            continue
        pixels = np.frombuffer(data.as_buffer(), np.uint8).reshape(row["height"], row["width"], 3)
        yield Opened(row, pixels, row["height"] * row["width"])

"""Write what a curation leaves behind: its table and two pictures of it."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from stages.curate.cover import cover_distances, cover_png
from stages.curate.sheet import sheet_png
from stages.storage.atomic import write_bytes


def write_curation(out: str, looks: pa.Table, curation: pa.Table, seed: int) -> tuple[float, float]:
    """Write `cover.png`, `sheet.png` and, last, `curation.parquet`.

    Args:
        out: folder or URI, without a slash at its end.
        looks: `stages.curate.actor.LOOKS` of N photos.
        curation: schemas/curation.py, the same photos.
        seed: of the random choice that the picture compares with.

    Returns:
        The embedding distance of the farthest photo from those chosen, and from as many drawn at random.
    """
    ours, random = cover_distances(looks, curation.column("chosen").to_numpy(), seed)
    write_bytes(f"{out}/cover.png", cover_png(curation, ours, random))
    write_bytes(f"{out}/sheet.png", sheet_png(looks, curation))
    buffer = io.BytesIO()
    pq.write_table(curation, buffer, compression="zstd")
    write_bytes(f"{out}/curation.parquet", buffer.getvalue())
    return float(ours.max()), float(random.max())

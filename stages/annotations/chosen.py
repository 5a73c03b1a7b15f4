"""Read the ids of the photos that a curation chose (schemas/curation.py)."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.storage.location import open_filesystem, redact


@lru_cache(maxsize=1)
def chosen_photos(uri: str) -> frozenset[str]:
    """Return the ids, as in `aopsam.photos.sa1b.Sample`, of the rows whose `chosen` is true.

    Raises:
        ValueError: the file cannot be read, is no such table, or chose nothing.
    """
    try:
        filesystem, path = open_filesystem(uri)
        with filesystem.open(path, "rb") as opened:
            table = pq.read_table(opened, columns=["image_id", "chosen"])
        ids = table.filter(pc.equal(table.column("chosen"), True)).column("image_id").to_pylist()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{redact(uri)}: not a table with the columns image_id (string) and chosen (bool):"
            f" {' '.join(str(error).split())}"
        ) from error
    if not ids:
        raise ValueError(f"{redact(uri)}: chose no photo")
    return frozenset(ids)

"""Photos in, edge maps out (schemas/edge_maps.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from aopsam.photos.decode import PhotoError, open_photo
from aopsam.sam.checkpoints import file_sha256
from aopsam.sam.encode import precision_dtype
from aopsam.training.hed import Hed, edge_map
from schemas.conform import conform
from schemas.edge_maps import SCHEMA
from stages.annotations.each_photo import WHY
from stages.edge_maps.files import encode_edges, write_edge_maps
from stages.engine.journal import Lost
from stages.engine.steps import alive
from stages.storage.fetched import local_file

RESULTS = pa.schema([*(entry.with_nullable(True) for entry in SCHEMA), pa.field("problem", pa.string())])
"""Rows of edge maps, or a problem and nothing else."""


class BuildEdgeMaps:
    """Stage: tables of `PHOTOS` (photos.py) to tables of `RESULTS`.

    HED computes in bfloat16 where the device is quick at it.
    """

    def __init__(self, hed: str, device: str = "cpu", threads: int = 2) -> None:
        torch.set_num_threads(threads)
        hed = local_file(hed)
        self.digest = file_sha256(Path(hed))
        precision = precision_dtype("auto", torch.device(device))
        self.hed = Hed.load(hed).to(device, precision, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Find the edges of photos."""
        return pa.Table.from_pylist([self._row(photo) for photo in unit.to_pylist()], schema=RESULTS)

    def give_up(self, item: pa.Table, why: Lost) -> pa.Table:
        """Return the problem of a photo that ends its worker, or takes too long."""
        return pa.Table.from_pylist([{"problem": f"{row['name']}: {WHY[why]}"} for row in item.to_pylist()], RESULTS)

    def _row(self, photo: dict[str, Any]) -> dict[str, Any]:
        alive()
        if photo["problem"] is not None:
            return {"problem": photo["problem"]}
        try:
            edges = edge_map(self.hed, open_photo(photo["photo"]).rgb)
        except PhotoError as error:
            return {"problem": f"{photo['name']}: {error}"}
        found = {"edges": encode_edges(edges), "hed_sha256": self.digest}
        return {"content_sha256": photo["content_sha256"], "name": photo["name"]} | found


def write_file(results: pa.Table, folder: str) -> pa.Table:
    """Write the rows of a unit into a folder; return one row: `rows` written and `problems`, a line for each other."""
    rows = results.filter(results.column("problem").is_null()).select(SCHEMA.names)
    if rows.num_rows:
        write_edge_maps(folder, conform(rows, SCHEMA))
    return pa.table({"rows": [rows.num_rows], "problems": [results.column("problem").drop_null().to_pylist()]}, ACCOUNT)


ACCOUNT = pa.schema([pa.field("rows", pa.int64()), pa.field("problems", pa.list_(pa.string()))])

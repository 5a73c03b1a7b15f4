"""Photos in, edge maps out (schemas/edge_maps.py)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import torch

from aopsam.photos.decode import PhotoError, open_photo
from aopsam.sam.checkpoints import file_sha256
from aopsam.sam.encode import precision_dtype
from aopsam.training.hed import Hed, edge_map
from schemas.conform import conform
from schemas.edge_maps import SCHEMA
from stages.edge_maps.files import encode_edges, write_edge_maps

ACCOUNT = pa.schema([pa.field("rows", pa.int64()), pa.field("problems", pa.list_(pa.string()))])


class BuildEdgeMaps:
    """Stage: tables of `PHOTOS` (photos.py) to files of edge maps in a folder, and an account of each.

    HED computes in bfloat16 where the device is quick at it.
    """

    def __init__(self, hed: str, folder: str, device: str = "cpu", threads: int = 2) -> None:
        torch.set_num_threads(threads)
        self.folder, self.digest = folder, file_sha256(Path(hed))
        precision = precision_dtype("auto", torch.device(device))
        self.hed = Hed.load(hed).to(device, precision, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, photos: pa.Table) -> pa.Table:
        """Write one file; return one row: `rows` written and `problems`, a line for every photo left out."""
        rows, problems = [], []
        for row in photos.to_pylist():
            if row["problem"] is not None:
                problems.append(row["problem"])
                continue
            try:
                edges = edge_map(self.hed, open_photo(row["photo"]).rgb)
            except PhotoError as error:
                problems.append(f"{row['name']}: {error}")
                continue
            found = {"edges": encode_edges(edges), "hed_sha256": self.digest}
            rows.append({"content_sha256": row["content_sha256"], "name": row["name"]} | found)
        if rows:
            write_edge_maps(self.folder, conform(pa.Table.from_pylist(rows, schema=SCHEMA), SCHEMA))
        return pa.Table.from_pylist([{"rows": len(rows), "problems": problems}], schema=ACCOUNT)

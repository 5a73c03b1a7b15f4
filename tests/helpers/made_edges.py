"""HED and NanoDet with random weights, and edge maps of made-up photos, for tests."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from aopsam.sam.encoders.nanodet import Trunk
from aopsam.sam.things import ThingHead
from aopsam.training.hed import Hed
from schemas.edge_maps import SCHEMA
from stages.edge_maps.files import encode_edges, write_edge_maps


def save_random_hed(path: Path) -> Path:
    torch.manual_seed(0)
    save_file({name: tensor.half() for name, tensor in Hed().state_dict().items()}, path)
    return path


def save_random_nanodet(path: Path) -> Path:
    """NanoDet-g under its published names."""
    torch.manual_seed(0)
    head = {name: tensor for name, tensor in ThingHead().state_dict().items() if name.startswith(("lateral", "heads"))}
    published = {re.sub(r"^(heads\.\d)\.2\.", r"\1.1.", name): tensor for name, tensor in head.items()}
    save_file({name: tensor.half() for name, tensor in (Trunk().state_dict() | published).items()}, path)
    return path


def write_made_edges(folder: Path, photos: Iterable[bytes]) -> Path:
    """A folder of edge maps of encoded photos: each a vertical line in the middle."""
    edges = np.zeros((48, 64), np.uint8)
    edges[:, 31:33] = 255
    digests = [hashlib.sha256(photo).hexdigest() for photo in photos]
    rows = [{"content_sha256": d, "name": d, "edges": encode_edges(edges), "hed_sha256": "0"} for d in digests]
    write_edge_maps(str(folder), pa.Table.from_pylist(rows, schema=SCHEMA))
    return folder

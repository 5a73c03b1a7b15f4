"""Export labels as a data set for Hugging Face's `datasets`: Parquet with photos and masks as images, and Croissant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aopsam.masks import rle
from stages.results.export.photo_files import plain_photo, png
from stages.results.export.selection import Chosen, Photo
from stages.results.export.shards import SHARD_BYTES
from stages.storage.folder import NewFolder, write_folder

ROW_GROUP_BYTES = 32 << 20
"""Bytes of photos and masks after which a group of rows is written."""

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_KINDS: dict[str, tuple[pa.DataType, dict[str, Any], str, str]] = {
    "image": (_IMAGE, {"_type": "Image"}, "sc:ImageObject", "the photo, upright"),
    "masks": (pa.list_(_IMAGE), {"_type": "Image"}, "sc:ImageObject", "of each mask a PNG, white where it is"),
    "scores": (pa.list_(pa.float32()), {"dtype": "float32", "_type": "Value"}, "sc:Float", "of each mask"),
    "areas": (pa.list_(pa.int64()), {"dtype": "int64", "_type": "Value"}, "sc:Integer", "of each mask, pixels"),
    "parents": (
        pa.list_(pa.int32()),
        {"dtype": "int32", "_type": "Value"},
        "sc:Integer",
        "its whole's place; -1: none",
    ),
    "image_id": (pa.string(), {"dtype": "string", "_type": "Value"}, "sc:Text", "of the labels"),
    "file_name": (pa.string(), {"dtype": "string", "_type": "Value"}, "sc:Text", "path below the images' root"),
    "content_sha256": (pa.string(), {"dtype": "string", "_type": "Value"}, "sc:Text", "of the photo as stored"),
    "width": (pa.int32(), {"dtype": "int32", "_type": "Value"}, "sc:Integer", "pixels"),
    "height": (pa.int32(), {"dtype": "int32", "_type": "Value"}, "sc:Integer", "pixels"),
}
"""Columns: type, `datasets`' feature, Croissant's type, meaning."""

_FEATURES = {
    name: {"feature": feature, "_type": "List"} if pa.types.is_list(kind) else feature
    for name, (kind, feature, _, _) in _KINDS.items()
}
SCHEMA = pa.schema(
    [(name, kind) for name, (kind, _, _, _) in _KINDS.items()],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)

_BYTES = {"image": "bytes", "masks": "$[*].bytes"}
"""Path by which Croissant finds the files in columns of images."""

README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---
Photos and their masks, made by aopsam. `datasets.load_dataset("FOLDER")["train"]`; `croissant.json` describes it.
"""


def write_hugging_face(chosen: Chosen, out: str) -> str:
    """Write `out`/data/train-00000.parquet and so on, README.md and croissant.json (Croissant 1.0)."""
    with write_folder(out) as folder:
        files = list(_write_files(folder, chosen.photos(encoded=True)))
        folder.write("README.md", README.encode())
        folder.write("croissant.json", json.dumps(_croissant(files), indent=1).encode())
    return out


def _write_files(folder: NewFolder, photos: Iterator[Photo]) -> Iterator[tuple[str, str]]:
    """Write the rows; yield path and SHA-256 of each file. In memory is a group of rows."""
    rows = map(_row, photos)
    following = next(rows, None)
    for number in range(100_000):
        name, digest, written = f"data/train-{number:05d}.parquet", hashlib.sha256(), 0
        with folder.open(name) as opened, pq.ParquetWriter(_Hashed(opened, digest), SCHEMA) as writer:
            while following is not None and written < SHARD_BYTES:
                group, size = [], 0
                while following is not None and size < ROW_GROUP_BYTES:
                    group.append(following)
                    size += sum(len(image["bytes"]) for image in (following["image"], *following["masks"]))
                    following = next(rows, None)
                writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
                written += size
        yield name, digest.hexdigest()
        if following is None:
            return


class _Hashed:
    """A file that is hashed as it is written."""

    closed = False

    def __init__(self, opened: Any, digest: Any) -> None:
        self._opened, self._digest = opened, digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self._opened.write(data)
        return len(data)

    def flush(self) -> None:
        self._opened.flush()

    def close(self) -> None:
        """Leave the file open for whoever opened it."""


def _row(photo: Photo) -> dict[str, Any]:
    encoded, suffix = plain_photo(photo)
    place = {mask.number: position for position, mask in enumerate(photo.masks)}
    masks = [png(rle.decode(mask.record["segmentation"])) for mask in photo.masks]
    return {
        **photo.row,
        "image": {"bytes": encoded, "path": f"{photo.row['image_id']}{suffix}"},
        "masks": [{"bytes": mask, "path": None} for mask in masks],
        "scores": [mask.score for mask in photo.masks],
        "areas": [mask.area for mask in photo.masks],
        "parents": [-1 if mask.parent is None else place[mask.parent] for mask in photo.masks],
    }


def _croissant(files: list[tuple[str, str]]) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"photos/{name}",
            "dataType": data_type,
            "description": about,
            "source": {
                "fileSet": {"@id": "parquet-files"},
                "extract": {"column": name},
                **({"transform": {"jsonPath": _BYTES[name]}} if name in _BYTES else {}),
            },
            **({"repeated": True} if pa.types.is_list(kind) else {}),
        }
        for name, (kind, _, data_type, about) in _KINDS.items()
    ]
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "contentUrl": name,
            "encodingFormat": "application/x-parquet",
            "sha256": digest,
        }
        for name, digest in files
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "masks-by-aopsam",
        "version": "1.0.0",
        "description": "Photos and the masks of the objects in them.",
        "distribution": [
            *objects,
            {
                "@type": "cr:FileSet",
                "@id": "parquet-files",
                "encodingFormat": "application/x-parquet",
                "includes": "data/*.parquet",
            },
        ],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "photos", "field": fields}],
    }


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet"),
            *("format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField"),
            "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}
"""Names of Croissant 1.0."""

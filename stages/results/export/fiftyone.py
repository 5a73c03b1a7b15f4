"""Export labels as a data set folder of FiftyOne: photos in data/, samples.json, metadata.json."""

from __future__ import annotations

import base64
import io
import json
import zlib
from typing import Any

import numpy as np

from stages.results.export.photo_files import file_stem, plain_photo
from stages.results.export.selection import Chosen, Mask
from stages.storage.folder import write_folder

FIELD = "masks"


def write_fiftyone(chosen: Chosen, out: str) -> str:
    """Write a folder for `fiftyone.Dataset.from_dir(dataset_dir=out, dataset_type=fiftyone.types.FiftyOneDataset)`.

    It has the layout without a version of FiftyOne's own, which every FiftyOne reads. Each photo's field `masks` holds
    instance masks (of their boxes), scores as confidence, and places in the labels' row (`mask_number`, and
    `parent`: -1 where there is none).
    """
    with write_folder(out) as folder:
        with folder.open("samples.json") as opened:
            opened.write(b'{"samples": [')
            for number, photo in enumerate(chosen.photos(encoded=True)):
                encoded, suffix = plain_photo(photo)
                path = f"data/{file_stem(photo)}{suffix}"
                folder.write(path, encoded)
                about = {name: photo.row[name] for name in ("image_id", "file_name", "content_sha256")}
                detections = [_detection(mask) for mask in photo.masks]
                sample = {"filepath": path, "tags": [], "metadata": None, **about}
                sample[FIELD] = {"_cls": "Detections", "detections": detections}
                opened.write((b"\n" if number == 0 else b",\n") + json.dumps(sample, allow_nan=False).encode())
            opened.write(b"\n]}\n")
        folder.write("metadata.json", json.dumps({"name": "aopsam", "media_type": "image"}).encode())
    return out


def _detection(mask: Mask) -> dict[str, Any]:
    left, top, width, height = mask.bbox_xywh
    rows, columns = mask.hw
    array = io.BytesIO()
    np.save(array, mask.cropped(), allow_pickle=False)
    return {
        "_cls": "Detection",
        "tags": [],
        "attributes": {},
        "label": "object",
        "bounding_box": [left / columns, top / rows, width / columns, height / rows],
        "mask": {"$binary": {"base64": base64.b64encode(zlib.compress(array.getvalue())).decode(), "subType": "00"}},
        "confidence": mask.score,
        "mask_number": mask.number,
        "parent": -1 if mask.parent is None else mask.parent,
    }

"""Does every export come back from the tool that it is for? Photos and masks are counted, masks compared with labels.

    python benchmarks/exports.py --labels out            # all formats; --formats coco yolo for some
    pip install '.[dev,tools]'                           # brings the tools; datumaro and fiftyone: see docs/exports.md

Each format is exported, read by the library that its users read it with, and compared mask by mask (IoU). A mask must
come back with 0.99, a polygon (yolo) with 0.95, but for as many as the export says may not (`stated`). Exit status: 0
where counts are equal and all masks reach that; 1 where not, or where a tool is not installed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from stages.config.selection import FormatName, Selection
from stages.results.export import EXPORTS, export_labels
from stages.results.export.photo_files import file_stem
from stages.results.export.selection import Chosen

MASKS, POLYGONS = 0.99, 0.95
RLE = Any
Read = Iterator[tuple[str, list[RLE]]]
"""Masks read back: of each photo its name, or the end of its file's name, and its masks in the order of the labels."""


class Result(NamedTuple):
    """Figures of one format read back; `stated` masks may be below the bar, as the export said."""

    photos: int
    masks: int
    ious: np.ndarray
    equal: bool
    stated: int


def main(argv: Sequence[str] | None = None) -> int:
    """Export, read, compare; return the exit status."""
    parser = argparse.ArgumentParser(description="every export read back by its own tool")
    parser.add_argument("--labels", required=True, help="OUT of a labelling run whose photos are there")
    parser.add_argument("--formats", nargs="+", choices=list(READERS), default=list(READERS))
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    failed = False
    print(f"{'format':<14}{'read by':<18}{'photos':>7}{'masks':>7}  counts  least   mean    below  stated  seconds")
    for name in arguments.formats:
        reader, tool, bar = READERS[name]
        began = time.process_time()
        try:
            with tempfile.TemporaryDirectory() as folder:
                result = compare(name, reader, arguments.labels, folder)
        except ImportError as error:
            print(f"{name:<14}{tool:<18}not read: {error}", flush=True)
            failed = True
            continue
        below = int((result.ious < bar).sum())
        failed |= below > result.stated or not result.equal
        counts, seconds = "equal" if result.equal else "DIFFER", time.process_time() - began
        line = f"{name:<14}{tool:<18}{result.photos:>7}{result.masks:>7}  {counts:<6}  {result.ious.min():.4f}"
        line += f"  {result.ious.mean():.4f}  {below:>5}  {result.stated:>6}  {seconds:>7.0f}"
        print(line, flush=True)
    return 1 if failed else 0


def compare(to: FormatName, reader: Callable[[str], Read], labels: str, folder: str) -> Result:
    """Export labels to a folder, read them back, and compare with the labels."""
    selection = Selection(overlap=EXPORTS[to].overlap)
    exported = export_labels(labels, to, f"{folder}/{to}", selection)
    wanted, name_of = {}, {}
    for photo in Chosen(labels, selection).photos():
        wanted[photo.row["file_name"]] = [mask.record["segmentation"] for mask in photo.masks]
        name_of[file_stem(photo)] = photo.row["file_name"]
    n_photos, ious, equal = 0, [], True
    for name, masks in reader(f"{folder}/{to}"):
        n_photos += 1
        expected = wanted.get(name_of.get(name, name), [])
        equal &= len(masks) == len(expected)
        pairs = zip(masks, expected, strict=False)
        ious += [float(mask_utils.iou([one], [other], [0])[0, 0]) for one, other in pairs]
    n_wanted = sum(map(len, wanted.values()))
    equal &= (n_photos, len(ious)) == (len(wanted), n_wanted) == (exported.images, exported.annotations)
    return Result(n_photos, len(ious), np.array(ious), equal, exported.inexact)


def encode(mask: np.ndarray) -> RLE:
    """Return the RLE of (H, W) bool."""
    return mask_utils.encode(np.asfortranarray(mask, np.uint8))


def read_coco(folder: str) -> Read:
    """Read by pycocotools."""
    from pycocotools.coco import COCO

    with redirect_stdout(io.StringIO()):
        coco = COCO(f"{folder}/instances.json")
    for image_id, image in coco.imgs.items():
        found = coco.loadAnns(sorted(coco.getAnnIds(imgIds=[image_id])))
        yield image["file_name"], [coco.annToRLE(annotation) for annotation in found]


def read_sa1b(folder: str) -> Read:
    """Read as SA-1B's page says: JSON and pycocotools."""
    for path in sorted(Path(folder).glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    record = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                    masks = [mask_utils.decode(each["segmentation"]) for each in record["annotations"]]
                    yield record["image"]["file_name"], [encode(mask) for mask in masks]


def read_yolo(folder: str) -> Read:
    """Read by supervision, some masks at a time: it makes a bitmap of each."""
    from supervision.dataset.formats.yolo import yolo_annotations_to_detections

    for path in sorted(Path(folder, "images").iterdir()):
        with Image.open(path) as image:
            size = image.size
        lines = Path(folder, "labels", f"{path.stem}.txt").read_text().splitlines()
        masks = []
        for start in range(0, len(lines), 8):
            read = yolo_annotations_to_detections(lines[start : start + 8], size, with_masks=True)
            masks += [encode(mask) for mask in read.mask]
        yield path.stem, masks


def read_label_studio(folder: str) -> Read:
    """Read by Label Studio's converter."""
    from label_studio_sdk.converter.brush import decode_rle

    for task in json.loads(Path(folder, "tasks.json").read_text()):
        masks = []
        for result in task["predictions"][0]["result"]:
            hw = result["original_height"], result["original_width"]
            masks.append(encode(decode_rle(result["value"]["rle"]).reshape(*hw, 4)[..., 3] > 0))
        yield task["data"]["file_name"], masks


def read_cvat(folder: str) -> Read:
    """Read by datumaro, which CVAT itself imports and exports with. It asks for photos beside, and opens none."""
    from datumaro import Dataset

    images = Path(folder, "images")
    for element in ElementTree.parse(f"{folder}/annotations.xml").iter("image"):
        (images / element.attrib["name"]).parent.mkdir(parents=True, exist_ok=True)
        (images / element.attrib["name"]).touch()
    for item in Dataset.import_from(f"{folder}/annotations.xml", "cvat"):
        found = sorted(item.annotations, key=lambda each: int(each.attributes["mask"]))
        name = Path(item.media.path).relative_to(images).as_posix()
        yield name, [encode(np.asarray(each.image)) for each in found]


def read_webdataset(folder: str) -> Read:
    """Read by webdataset."""
    import webdataset

    urls = [str(path) for path in sorted(Path(folder).glob("*.tar"))]
    for (record,) in webdataset.WebDataset(urls, shardshuffle=False).decode().to_tuple("json"):
        masks = [mask_utils.decode(each["segmentation"]) for each in record["masks"]]
        yield record["file_name"], [encode(mask) for mask in masks]


def read_png(folder: str) -> Read:
    """Read by Pillow."""
    for line in Path(folder, "masks.jsonl").read_text().splitlines():
        record = json.loads(line)
        with Image.open(Path(folder, record["file"])) as image:
            numbers = np.asarray(image)
        yield record["file_name"], [encode(numbers == mask["id"]) for mask in record["masks"]]


def read_hugging_face(folder: str) -> Read:
    """Read by `datasets`."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    for row in datasets.load_dataset(folder, cache_dir=f"{folder}.cache")["train"]:
        yield row["file_name"], [encode(np.asarray(image)) for image in row["masks"]]


def read_fiftyone(folder: str) -> Read:
    """Read by FiftyOne's reader of its own folders, which needs no database."""
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"
    from fiftyone.utils.data.importers import FiftyOneDatasetImporter

    with FiftyOneDatasetImporter(folder)._to_legacy_importer() as importer:
        for sample in importer:
            with Image.open(sample.filepath) as image:
                width, height = image.size
            masks = []
            for found in sample.masks.detections:
                left, top = round(found.bounding_box[0] * width), round(found.bounding_box[1] * height)
                mask = np.zeros((height, width), bool)
                mask[top : top + found.mask.shape[0], left : left + found.mask.shape[1]] = found.mask
                masks.append(encode(mask))
            yield sample.file_name, masks


READERS: dict[FormatName, tuple[Callable[[str], Read], str, float]] = {
    "coco": (read_coco, "pycocotools", MASKS),
    "sa1b": (read_sa1b, "pycocotools", MASKS),
    "cvat": (read_cvat, "datumaro", MASKS),
    "webdataset": (read_webdataset, "webdataset", MASKS),
    "png": (read_png, "Pillow", MASKS),
    "yolo": (read_yolo, "supervision", POLYGONS),
    "fiftyone": (read_fiftyone, "fiftyone", MASKS),
    "hf": (read_hugging_face, "datasets", MASKS),
    "label-studio": (read_label_studio, "label-studio-sdk", MASKS),
}
"""Name of a format -> its reader, the package that reads, and the least IoU."""


if __name__ == "__main__":
    sys.exit(main())

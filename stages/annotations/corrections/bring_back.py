"""Bring corrected labels back: annotated shards in SA-1B's layout, a table of what changed, and where all came from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aopsam.masks import rle
from aopsam.masks.runs import Runs
from aopsam.photos.instances import segmentation_rle
from aopsam.photos.lines import one_line
from schemas.changes import SCHEMA, Change
from stages.annotations.corrections.coco import read_coco
from stages.annotations.corrections.compare import Pair, compare
from stages.annotations.corrections.corrected import MOST_SHAPES, CorrectedPhoto, read_file
from stages.annotations.corrections.cvat import read_cvat
from stages.annotations.corrections.label_studio import read_label_studio
from stages.config.selection import CorrectedName, Selection
from stages.results.export.cvat import xml_text
from stages.results.export.photo_files import file_stem
from stages.results.export.sa1b import member_stem
from stages.results.export.selection import GONE, Chosen, Photo, runs_of
from stages.results.export.shards import shards
from stages.storage.atomic import check_writable
from stages.storage.folder import write_folder
from stages.storage.location import open_filesystem, redact

READERS: dict[CorrectedName, Callable[[bytes], list[CorrectedPhoto]]] = {
    "coco": read_coco,
    "label-studio": read_label_studio,
    "cvat": read_cvat,
}
"""Readers of corrected files, by the name of the export's format."""

LINEAGE = "corrections.json"
CHANGES = "changes.parquet"


@dataclass
class BroughtBack:
    """Result of an import: counts.

    Attributes:
        path: folder written.
        photos: imported.
        changes: masks by what became of them.
        left_out: photos of the file that are not imported.
        untouched: labelled photos that the file does not have.
    """

    path: str
    photos: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    untouched: int = 0

    def __str__(self) -> str:
        """Return one line for a terminal."""
        counts = ", ".join(f"{self.changes[change]} {change}" for change in Change)
        return (
            f"imported {self.photos} photos to {self.path}: masks {counts}"
            f" (left out: {self.left_out} photos; not in the file: {self.untouched})"
        )


def bring_back(
    labels: str,
    tool: CorrectedName,
    corrected: str,
    out: str,
    on_problem: Callable[[str], None],
    selection: Selection | None = None,
    images: str | None = None,
) -> BroughtBack:
    """Write what people made of exported labels.

    `out`/corrected_000000.tar and so on are shards in SA-1B's layout, which every `--data` reads: photos as stored, and
    of each mask its `change` (schemas/changes.py) and its place in the labels' row, `mask`; kept ones have all that the
    labels say of them. changes.parquet has a row for every mask before or after; corrections.json says which labels and
    which file they came from.

    A photo of which any shape cannot be used is left out whole: its masks would count as deleted.

    Args:
        labels: the labels that were exported.
        tool: of `READERS`.
        corrected: the file.
        out: folder or fsspec URI to write into, empty or not there.
        on_problem: called with one line for each photo that is left out.
        selection: of the export; what it left out does not count as deleted.
        images: the photos, if not where they were labelled.

    Raises:
        ValueError: an `out` that cannot be written, no labels there, no such file, or none of its photos can be
            imported.
    """
    check_writable(out, CHANGES, LINEAGE)
    content = read_file(corrected)
    try:
        photos = READERS[tool](content)
    except (ValueError, RecursionError) as error:
        raise ValueError(one_line(f"{redact(corrected)}: {error or type(error).__name__}")) from error
    by_name: dict[str, CorrectedPhoto] = {}
    for given in photos:
        if by_name.setdefault(given.file_name, given) is not given:
            raise ValueError(one_line(f"{redact(corrected)}: {given.file_name} is in it twice"))
    name_of = xml_text if tool == "cvat" else str
    chosen = Chosen(labels, selection or Selection(), images, only=lambda name: name_of(name) in by_name)
    result = BroughtBack(out)
    with write_folder(out) as folder:
        lineage = {
            "labels": redact(labels),
            "configuration_sha256": _configuration(labels),
            "tool": tool,
            "file": redact(corrected),
            "file_sha256": hashlib.sha256(content).hexdigest(),
            "selection": {name: getattr(chosen.selection, name) for name in Selection.__dataclass_fields__},
        }
        with (
            shards(folder, "corrected_{:06d}.tar") as tars,
            folder.open(CHANGES) as opened,
            pq.ParquetWriter(opened, SCHEMA, compression="zstd") as table,
        ):
            for photo in chosen.photos(encoded=True):
                after = by_name.pop(name_of(photo.row["file_name"]))
                try:
                    masks, pairs = _compared(photo, after)
                except ValueError as error:
                    on_problem(one_line(f"{photo.row['file_name']}: {error}; the photo is left out"))
                    result.left_out += 1
                    continue
                stem = member_stem(photo)
                if f"./{stem}.json" in tars.names:
                    stem = file_stem(photo)
                record = json.dumps(_record(photo, masks, pairs) | {"lineage": lineage}).encode()
                tars.add({f"./{stem}.jpg": photo.encoded, f"./{stem}.json": record})
                table.write_table(pa.Table.from_pylist(_rows(photo, masks, pairs), schema=SCHEMA))
                result.photos += 1
                result.changes.update(pair.change for pair in pairs)
        for name in by_name:
            on_problem(one_line(f"{name}: not among the labelled photos, or gone; the photo is left out"))
        result.left_out += len(by_name)
        result.untouched = chosen.n_labelled - chosen.n_photos - chosen.left_out[GONE]
        if not result.photos:
            raise ValueError(f"{redact(corrected)}: none of its {len(photos)} photos can be imported")
        counts = {name: getattr(result, name) for name in ("photos", "changes", "left_out", "untouched")}
        folder.write(LINEAGE, json.dumps(lineage | counts, indent=1).encode())
    return result


def _compared(photo: Photo, corrected: CorrectedPhoto) -> tuple[list[Runs], list[Pair]]:
    """Return the masks after correction, and their pairs with those before.

    Raises:
        ValueError: a shape cannot be used, there are too many, or the photo had another size in the tool.
    """
    height, width = int(photo.row["height"]), int(photo.row["width"])
    sides = [str(side) for side in (corrected.width, corrected.height) if side is not None]
    if sides and sides != [str(width), str(height)]:
        raise ValueError(f"{' x '.join(sides)} pixels in the file, {width} x {height} when it was labelled")
    if corrected.faults:
        more = f", and {len(corrected.faults) - 1} more" if len(corrected.faults) > 1 else ""
        raise ValueError(corrected.faults[0] + more)
    if len(corrected.shapes) > MOST_SHAPES:
        raise ValueError(f"{len(corrected.shapes)} shapes, over the limit of {MOST_SHAPES}")
    masks, told = [], []
    for shape in corrected.shapes:
        try:
            encoded, left_out = segmentation_rle(shape.segmentation, width, height)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"{shape.name}: {error}") from error
        if left_out:
            raise ValueError(f"{shape.name}: {left_out}")
        mask = runs_of(encoded)
        if mask.area:  # what a tool leaves without a pixel is gone
            masks.append(mask)
            told.append(shape.mask)
    return masks, compare({mask.number: mask.runs for mask in photo.masks}, masks, told)


def _record(photo: Photo, masks: Sequence[Runs], pairs: Sequence[Pair]) -> dict[str, Any]:
    row = photo.row
    image = {"image_id": photo.number, "width": row["width"], "height": row["height"]}
    about = {"file_name": row["file_name"], "content_sha256": row["content_sha256"]}
    before = {mask.number: mask.record for mask in photo.masks}
    annotations = [_annotation(masks[pair.after], pair, before) for pair in pairs if pair.after is not None]
    return {"image": image | about, "annotations": annotations}


def _annotation(mask: Runs, pair: Pair, before: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    origin = {"change": pair.change} | ({} if pair.before is None else {"mask": pair.before})
    if pair.change == Change.KEPT and pair.before is not None:
        return {name: value for name, value in before[pair.before].items() if value is not None} | origin
    encoded = rle.from_runs(mask)
    bbox = [float(side) for side in rle.sam_bbox_xywh(rle.bbox_xywh(encoded))]
    return {"segmentation": encoded, "bbox": bbox, "area": mask.area} | origin


def _rows(photo: Photo, masks: Sequence[Runs], pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    about = {name: photo.row[name] for name in ("image_id", "file_name")}
    area = {mask.number: mask.area for mask in photo.masks}
    return [
        about
        | {
            "change": pair.change,
            "mask": pair.before,
            "iou": pair.iou,
            "area_before": None if pair.before is None else area[pair.before],
            "area_after": None if pair.after is None else masks[pair.after].area,
        }
        for pair in pairs
    ]


def _configuration(labels: str) -> str | None:
    """Return the hash of the configuration that made labels; None where there is no manifest."""
    filesystem, path = open_filesystem(labels.rstrip("/").removesuffix("/labels"))
    try:
        found = json.loads(filesystem.cat_file(f"{path}/manifest.json")).get("configuration_sha256")
    except (OSError, ValueError, AttributeError):
        return None
    return str(found) if found else None

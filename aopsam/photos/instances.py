"""Read COCO's and LVIS's instance files: one JSON for all photos, polygons and run lengths for masks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from aopsam.masks import rle
from aopsam.photos.sa1b import Sample

MAX_SIDE = 2**16


def file_name(image: Mapping[str, Any]) -> str:
    """Return a photo's path below its folder: COCO's `file_name`, or the last part of LVIS's `coco_url`.

    Raises:
        ValueError: `image` is no object, has neither, or the name would leave the folder.
    """
    if not isinstance(image, Mapping):
        raise ValueError(f"an image must be an object, not {str(image)[:40]!r}")
    name = image.get("file_name") or str(image.get("coco_url", "")).rpartition("/")[2]
    if not isinstance(name, str) or not name:
        raise ValueError(f"image {image.get('id')!r}: neither file_name nor coco_url")
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise ValueError(f"image {image.get('id')!r}: file_name {name!r} leaves the photos' folder")
    return name


def read_instances(
    record: Mapping[str, Any], read_photo: Callable[[str], bytes], on_problem: Callable[[str], None]
) -> Iterator[Sample]:
    """Read photos with their annotations, in the order of the file; crowds, which are not one object, apart.

    Args:
        record: the parsed file: `images` and `annotations`.
        read_photo: gives the bytes of a photo by its `file_name`.
        on_problem: called with one line for an annotation or a photo that cannot be used; the rest is used.

    Yields:
        Samples whose annotations hold `segmentation` (compressed RLE), `bbox`, `area`, and `declared_area` where the
        file gives one (of the polygons, which decides COCO's sizes); `id` is the file's name without its suffix.

    Raises:
        ValueError: `record` is no instance file.
    """
    images, annotations = record.get("images"), record.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ValueError("no instance file: needs the lists `images` and `annotations`")
    of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        if isinstance(annotation, Mapping) and isinstance(annotation.get("image_id"), int | str):
            of_image[annotation["image_id"]].append(annotation)
        else:
            on_problem(f"not an annotation of an image: {str(annotation)[:60]}")
    for image in images:
        try:
            name, of_this = file_name(image), of_image.get(image.get("id"), [])
            width, height = (int(image[side]) for side in ("width", "height"))
            if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
                raise ValueError(f"{name}: {width} x {height} pixels")
            photo = read_photo(name)
        except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
            on_problem(f"{type(error).__name__}: {error}")
            continue
        usable: list[dict[str, Any]] = []
        crowds: list[dict[str, Any]] = []
        for annotation in of_this:
            try:
                mask = _rle(annotation.get("segmentation"), width, height)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                on_problem(f"{name}: annotation {annotation.get('id')!r}: {error}")
                continue
            area, declared = rle.area(mask), annotation.get("area")
            if annotation.get("iscrowd"):
                crowds.append(dict(mask))
            elif area:
                usable.append({"segmentation": mask, "bbox": list(rle.bbox_xywh(mask)), "area": area})
                if isinstance(declared, int | float) and declared > 0:
                    usable[-1]["declared_area"] = float(declared)
        yield Sample(name.rpartition(".")[0] or name, photo, width, height, usable, crowds)


def _rle(segmentation: Any, width: int, height: int) -> rle.RLE:
    """Convert a polygon list, an uncompressed or a compressed RLE to a compressed RLE of the photo's size."""
    if isinstance(segmentation, Mapping):
        mask = dict(segmentation)
        if isinstance(mask.get("counts"), list):
            counts = [int(count) for count in mask["counts"]]
            if min(counts, default=0) < 0 or sum(counts) != width * height:
                raise ValueError(f"run lengths add up to {sum(counts)}, not to {width} x {height}")
            mask = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        if isinstance(mask.get("counts"), bytes):
            mask["counts"] = mask["counts"].decode("ascii")
        rle.area(mask)
        if list(mask["size"]) != [height, width]:
            raise ValueError(f"mask of {mask['size']} [h, w], photo of {[height, width]}")
        return rle.RLE(size=[height, width], counts=mask["counts"])
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str) or not segmentation:
        raise ValueError("segmentation must be polygons or an RLE")
    polygons = [_polygon(polygon, width, height) for polygon in segmentation]
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return rle.RLE(size=[height, width], counts=merged["counts"].decode("ascii"))


def _polygon(polygon: Any, width: int, height: int) -> list[float]:
    """Check a polygon x, y, x, y, … and clip it to the photo: pycocotools' C code follows any edge, however long."""
    values = [float(value) for value in polygon]
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"a polygon of {len(values)} numbers; it needs at least 3 points x, y")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a polygon with a coordinate that is not finite")
    return [min(max(value, 0.0), float((width, height)[place % 2])) for place, value in enumerate(values)]

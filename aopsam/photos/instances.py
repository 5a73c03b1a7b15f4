"""Read COCO's and LVIS's instance files: one JSON for all photos, polygons and run lengths for masks."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from aopsam.masks import rle
from aopsam.photos.decode import PhotoError, open_photo
from aopsam.photos.lines import one_line, shown, valid_text
from aopsam.photos.sa1b import MAX_SIDE, Sample

MOST_OUTLINE = 2**22
"""Pixels along the edges of the longest polygon that is drawn: pycocotools takes 80 bytes for each."""
MOST_EXACT = 2**53
"""A larger whole number may be another one as a float, and so no id."""

_WHOLE = re.compile(r"-?\d+(?=(\.0*)?$)", re.ASCII)
_NO = {"", "0", "0.0", "false", "no", "none", "null", "nan"}
_YES = {"1", "1.0", "true", "yes"}


def file_name(image: Mapping[str, Any]) -> str:
    """Return a photo's path below its folder: COCO's `file_name`, or the last part of LVIS's `coco_url`.

    A backslash stays: `images\\a.jpg` is `images/a.jpg` where no file bears the backslash (see `path_parts`).

    Raises:
        ValueError: `image` is no object, has neither, or the name would leave the folder.
    """
    if not isinstance(image, Mapping):
        raise ValueError(f"an image must be an object, not {shown(image)}")
    url = image.get("coco_url")
    name = image.get("file_name") or (url.rpartition("/")[2] if isinstance(url, str) else None)
    if not isinstance(name, str) or not name:
        raise ValueError(f"image {shown(image.get('id'))}: neither file_name nor coco_url")
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or (len(parts) > 1 and re.fullmatch("[A-Za-z]:", parts[0])):
        raise ValueError(f"image {shown(image.get('id'))}: file_name {shown(name)} leaves the photos' folder")
    if not path_parts(name):
        raise ValueError(f"image {shown(image.get('id'))}: file_name {shown(name)} names no file")
    return name


def path_parts(name: str) -> list[str]:
    """Return the folders and the file of a photo's name, parted by slashes, or by Windows' backslashes."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def read_instances(
    record: Mapping[str, Any], read_photo: Callable[[str], bytes | None], on_problem: Callable[[str], None]
) -> Iterator[Sample]:
    """Read photos with their annotations, in the order of the file; crowds, which are not one object, apart.

    An id is the same as text, as a number and as a float: "1", 1 and 1.0. A photo that several images name is read
    once, with the annotations of all, equal ones once. Where the file gives no width and height (or
    0), they are the photo's.

    Args:
        record: the parsed file: `images` and `annotations`.
        read_photo: gives the bytes of a photo by its `file_name`; None for one to leave out without a line.
        on_problem: called with one line for an annotation or a photo that cannot be used, and with one for all
            annotations of no image, one for all images whose id is another's too, and one for all whose photo is
            another's too; the rest is used. A line of a photo counts its annotations, so that each is read or counted.

    Yields:
        Samples whose annotations hold `segmentation` (compressed RLE), `bbox`, `area`, and `declared_area` where the
        file gives one (of the polygons, which decides COCO's sizes); `id` is the file's name without its suffix.

    Raises:
        ValueError: `record` is no instance file.
    """
    images, annotations = record.get("images"), record.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ValueError("no instance file: needs the lists `images` and `annotations`")

    def report(line: str) -> None:
        on_problem(one_line(line))

    ids = _ImageIds(images)
    of_image = _by_image(annotations, ids, report)
    shared = [image for image in images if ids.is_shared(image)]
    if shared:
        report(
            f"{len(shared)} images share their id with another, such as {shown(shared[0])}; they and their "
            f"{sum(len(of_image[_id_of(image)]) for image in _one_each(shared))} annotations are left out; "
            "an id must be one image's"
        )
    for image in _join_repeats([image for image in images if not ids.is_shared(image)], of_image, report):
        try:
            sample = _sample(image, of_image, read_photo, report)
        except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
            lost = len(of_image.get(_id_of(image), ()))
            report(f"{type(error).__name__}: {error}; its {lost} annotations are left out with it")
            continue
        if sample is not None:
            yield sample


def _join_repeats(
    images: Sequence[Any], of_image: dict[str | None, list[Mapping[str, Any]]], on_problem: Callable[[str], None]
) -> list[Any]:
    """Leave out images whose photo and size an earlier one has; their annotations become the earlier one's."""
    first: dict[tuple[Any, ...], Any] = {}
    repeats, equal = [], 0
    for image in images:
        try:
            key = (*path_parts(file_name(image)), image.get("width"), image.get("height"))
            earlier = first.setdefault(key, image)
        except (ValueError, TypeError):  # it will be named when it is read
            continue
        if earlier is not image and _id_of(image) is not None and _id_of(earlier) is not None:
            repeats.append(image)
            ours, theirs = of_image[_id_of(earlier)], of_image.pop(_id_of(image), [])
            others = [new for new in theirs if not any(_is_repeat(new, old) for old in ours)]
            equal += len(theirs) - len(others)
            ours += others
    if repeats:
        on_problem(
            f"{len(repeats)} images name a photo that an earlier one names, such as {shown(repeats[0])}; each photo "
            f"is read once, with the annotations of all; {equal} annotations are equal to others and left out"
        )
    left_out = {id(image) for image in repeats}
    return [image for image in images if id(image) not in left_out]


def _is_repeat(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    try:
        return all(new.get(name) == old.get(name) for name in ("segmentation", "category_id", "iscrowd"))
    except RecursionError:  # lists in lists in lists …, which will be named
        return False


class _ImageIds:
    """The ids of a file's images, and which image an annotation means."""

    def __init__(self, images: Sequence[Any]) -> None:
        self._counts = Counter(found for image in images if (found := _id_of(image)) is not None)
        self._without_zeros: dict[str, list[str]] = defaultdict(list)
        for of_image in self._counts:
            self._without_zeros[_strip_zeros(of_image)].append(of_image)

    def is_shared(self, image: Any) -> bool:
        """Return whether another image bears this one's id too."""
        return self._counts.get(_id_of(image) or "", 0) > 1

    def find(self, image_id: Any) -> str | None:
        """Return the image's id that an annotation's `image_id` means; None if there is none, or not one alone.

        Zeros in front are another id ("007" and 7) only where both are there.
        """
        meant = _id(image_id)
        if meant is None or meant in self._counts:
            return meant
        alike = self._without_zeros.get(_strip_zeros(meant), [])
        return alike[0] if len(alike) == 1 else None


def _id(value: Any) -> str | None:
    """Return an id as text: a whole number's digits, or the text itself; None for what is no id."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= MOST_EXACT:
        return str(int(value))
    if isinstance(value, str):
        whole = _WHOLE.match(value.strip())
        return whole[0] if whole else value.strip() or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _id_of(image: Any) -> str | None:
    return _id(image.get("id")) if isinstance(image, Mapping) else None


def _strip_zeros(of_image: str) -> str:
    return (of_image.lstrip("0") or "0") if of_image.isdecimal() else of_image


def _one_each(images: Sequence[Any]) -> list[Any]:
    """Return the first of the images of each id."""
    return list({_id_of(image): image for image in reversed(images)}.values())


def _by_image(
    annotations: Sequence[Any], ids: _ImageIds, on_problem: Callable[[str], None]
) -> dict[str | None, list[Mapping[str, Any]]]:
    """Group annotations by the id of their image; those of none are counted in one line."""
    of_image: dict[str | None, list[Mapping[str, Any]]] = defaultdict(list)
    broken, orphans = [], []
    for annotation in annotations:
        if not isinstance(annotation, Mapping):
            broken.append(annotation)
        elif (found := ids.find(annotation.get("image_id"))) is None:
            orphans.append(annotation.get("image_id"))
        else:
            of_image[found].append(annotation)
    if broken:
        on_problem(f"{len(broken)} annotations are left out: no objects, such as {shown(broken[0])}")
    if orphans:
        on_problem(
            f"{len(orphans)} of {len(annotations)} annotations belong to no image, such as one of image_id "
            f"{shown(orphans[0])}; it must be the id of one of the images"
        )
    return of_image


def _sample(
    image: Any,
    of_image: Mapping[str | None, Sequence[Mapping[str, Any]]],
    read_photo: Callable[[str], bytes | None],
    on_problem: Callable[[str], None],
) -> Sample | None:
    """Read one photo and its masks; None where `read_photo` leaves it out.

    Raises:
        ValueError, KeyError, TypeError, OverflowError, OSError: the image or its photo cannot be used.
    """
    name, of_this = file_name(image), _id_of(image)
    if of_this is None:
        raise ValueError(f"{name}: id {shown(image.get('id'))}; it must be a whole number or text")
    sides = [_side(name, image, side) for side in ("width", "height")]
    photo = read_photo(name)
    if photo is None:
        return None
    width, height = _size(name, sides, photo)
    usable, crowds = _masks(of_image.get(of_this, ()), width, height, lambda line: on_problem(f"{name}: {line}"))
    path = valid_text(name.replace("\\", "/"))
    return Sample(path.rpartition(".")[0] or path, photo, width, height, usable, crowds)


def _masks(
    annotations: Sequence[Mapping[str, Any]], width: int, height: int, on_problem: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a photo's objects, as annotations of a `Sample`, and its crowds; a line for each that is broken."""
    usable: list[dict[str, Any]] = []
    crowds: list[dict[str, Any]] = []
    empty = []
    for annotation in annotations:
        try:
            is_crowd = _is_crowd(annotation.get("iscrowd"))
            mask, left_out = segmentation_rle(annotation.get("segmentation"), width, height)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            on_problem(f"annotation {shown(annotation.get('id'))}: {error}")
            continue
        if left_out:
            on_problem(f"annotation {shown(annotation.get('id'))}: {left_out}")
        area, declared = rle.area(mask), _number(annotation.get("area"))
        if is_crowd:
            crowds.append(dict(mask))
        elif area:
            usable.append({"segmentation": mask, "bbox": list(rle.bbox_xywh(mask)), "area": area})
            if 0 < declared < math.inf:
                usable[-1]["declared_area"] = declared
        else:
            empty.append(annotation.get("id"))
    if empty:
        on_problem(
            f"{len(empty)} of {len(annotations)} annotations are left out: masks without a pixel of the photo, "
            f"such as annotation {shown(empty[0])}"
        )
    return usable, crowds


def _side(name: str, image: Mapping[str, Any], side: str) -> int | None:
    """Return a photo's width or height in pixels; None where the file gives none, or 0.

    Raises:
        ValueError: it is no whole number of 1 to `MAX_SIDE`.
    """
    given = image.get(side)
    if given is None or given == "":
        return None
    pixels = _number(given)
    if not pixels:
        return None
    if not (0 < pixels <= MAX_SIDE and pixels.is_integer()):
        raise ValueError(f"{name}: {side} {shown(given)}; it must be a whole number of pixels, 1 to {MAX_SIDE}")
    return int(pixels)


def _number(given: Any) -> float:
    """Return a number of the file; NaN for what is none."""
    try:
        return float(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else math.nan
    except (ValueError, OverflowError):  # no number, or one of more than 308 digits
        return math.nan


def _size(name: str, sides: Sequence[int | None], photo: bytes) -> tuple[int, int]:
    """Return a photo's width and height in pixels: the file's, or those of the photo where the file lacks any.

    Raises:
        ValueError: the photo cannot be decoded, is too large, or is not as the one side that the file gives.
    """
    width, height = sides
    if width is not None and height is not None:
        return width, height
    try:
        found = open_photo(photo).rgb.shape[1::-1]
    except PhotoError as error:
        raise ValueError(f"{name}: no width and height, and the photo tells none: {error}") from None
    if max(found) > MAX_SIDE:
        raise ValueError(f"{name}: {found[0]} x {found[1]} pixels; a side may have {MAX_SIDE}")
    if any(side not in (None, pixels) for side, pixels in zip(sides, found, strict=True)):
        raise ValueError(f"{name}: width {width}, height {height}; the photo is {found[0]} x {found[1]} pixels")
    return int(found[0]), int(found[1])


def _is_crowd(given: Any) -> bool:
    """Return what `iscrowd` says: 0, "0", false or nothing is no crowd.

    Raises:
        ValueError: it says neither yes nor no.
    """
    text = str(given).strip().lower() if isinstance(given, str | int | float) else "" if given is None else "?"
    if text not in _NO | _YES:
        raise ValueError(f"iscrowd {shown(given)}; it must be 0 or 1")
    return text in _YES


def segmentation_rle(segmentation: Any, width: int, height: int) -> tuple[rle.RLE, str]:
    """Convert a polygon list, an uncompressed or a compressed RLE to a compressed RLE of the photo's size.

    Returns:
        The mask, and a line on the polygons that cannot be drawn where others can; empty where all can.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: it is no mask of that size; of polygons, none can be drawn.
    """
    if isinstance(segmentation, Mapping):
        mask = dict(segmentation)
        if isinstance(mask.get("counts"), list):
            if list(mask.get("size", (height, width))) != [height, width]:
                raise ValueError(f"mask of {shown(mask['size'])} [h, w], photo of {[height, width]}")
            counts = [int(count) for count in mask["counts"]]
            if any(float(given) != count for given, count in zip(mask["counts"], counts, strict=True)):
                raise ValueError("run lengths that are no whole numbers")
            if min(counts, default=0) < 0 or sum(counts) != width * height:
                raise ValueError(f"run lengths add up to {sum(counts)}, not to {width} x {height}")
            mask = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        if isinstance(mask.get("counts"), bytes):
            mask["counts"] = mask["counts"].decode("ascii")
        rle.area(mask)
        if list(mask["size"]) != [height, width]:
            raise ValueError(f"mask of {mask['size']} [h, w], photo of {[height, width]}")
        return rle.RLE(size=[height, width], counts=mask["counts"]), ""
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str) or not segmentation:
        raise ValueError("segmentation must be polygons or an RLE")
    polygons, broken = [], []
    for polygon in segmentation:
        try:
            polygons.append(_polygon(polygon, width, height))
        except (ValueError, TypeError, OverflowError) as error:
            broken.append(str(error))
    if not polygons:
        raise ValueError(broken[0])
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    left_out = f"{len(broken)} of {len(segmentation)} polygons left out: {broken[0]}" if broken else ""
    return rle.RLE(size=[height, width], counts=merged["counts"].decode("ascii")), left_out


def _polygon(polygon: Any, width: int, height: int) -> list[float]:
    """Check a polygon x, y, x, y, … and clip it to the photo: pycocotools' C code follows any edge, however long."""
    if not isinstance(polygon, Sequence) or isinstance(polygon, str):
        raise ValueError(f"a polygon must be a list of numbers x, y, x, y, …, not {shown(polygon)}")
    values = [float(value) for value in polygon]
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"a polygon of {len(values)} numbers; it needs at least 3 points x, y")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("a polygon with a coordinate that is not finite")
    clipped = [min(max(value, 0.0), float((width, height)[place % 2])) for place, value in enumerate(values)]
    if len(clipped) * max(width, height) > MOST_OUTLINE and (length := _outline(clipped)) > MOST_OUTLINE:
        raise ValueError(f"a polygon whose edges are {length:.0f} pixels long; {MOST_OUTLINE} may be")
    return clipped


def _outline(polygon: Sequence[float]) -> float:
    """Return the length of a polygon's edges, each the longer of its two sides, in pixels."""
    points = np.asarray(polygon).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())

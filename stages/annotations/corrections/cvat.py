"""Read corrected annotations of CVAT: the annotations.xml of "CVAT for images 1.1"."""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

import numpy as np

from aopsam.masks import rle
from aopsam.masks.runs import Runs
from aopsam.photos.lines import shown
from stages.annotations.corrections.corrected import CorrectedPhoto, Shape, check_size, place

_SHAPES = {"mask", "polygon"}
_OTHERS = {"box", "polyline", "points", "cuboid", "ellipse", "skeleton"}


def read_cvat(content: bytes) -> list[CorrectedPhoto]:
    """Return the photos of an annotation file: masks and polygons; other shapes are faults of their photo.

    Raises:
        ValueError: it is no such file, or declares a document type (whose entities may grow without end).
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"no XML: {error}") from None
    if reader.root != "annotations":
        raise ValueError(f"no annotations of CVAT: the root is <{shown(reader.root)}>, not <annotations>")
    return reader.photos


class _Reader:
    """Photos read so far, kept by the handlers of expat."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.photos: list[CorrectedPhoto] = []
        self._photo: CorrectedPhoto | None = None
        self._shape: tuple[str, dict[str, str]] | None = None
        self._mask: str | None = None
        self._of_mask = False

    def refuse(self, *_: Any) -> None:
        raise ValueError("declares a document type, which CVAT's files do not")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or tag
        if tag == "track":
            raise ValueError("tracks of a video; export it as 'CVAT for images 1.1'")
        if tag == "image":
            name = attributes.get("name", "")
            self._photo = CorrectedPhoto(name, attributes.get("width"), attributes.get("height"))
            self.photos.append(self._photo)
        elif self._photo is not None and tag in _SHAPES:
            self._shape, self._mask = (tag, attributes), None
        elif self._photo is not None and tag in _OTHERS:
            self._photo.faults.append(f"a {tag} is no mask; draw it as mask or polygon, or delete it")
        elif self._shape is not None and tag == "attribute":
            self._of_mask = attributes.get("name") == "mask"

    def text(self, text: str) -> None:
        if self._of_mask:
            self._mask = ((self._mask or "") + text)[:20]

    def end(self, tag: str) -> None:
        if tag == "attribute":
            self._of_mask = False
        elif tag == "image":
            self._photo = None
        elif self._shape is not None and self._photo is not None and tag in _SHAPES:
            kind, attributes = self._shape
            name = f"{kind} {len(self._photo.shapes) + 1}"
            try:
                width, height = check_size(self._photo.width, self._photo.height)
                made = _mask(attributes, [height, width]) if kind == "mask" else [_points(attributes)]
                self._photo.shapes.append(Shape(name, made, place((self._mask or "").strip())))
            except (ValueError, OverflowError, KeyError) as error:
                self._photo.faults.append(f"{name}: {f'no {error}' if isinstance(error, KeyError) else error}")
            self._shape = None


def _points(attributes: dict[str, str]) -> list[float]:
    return [float(number) for point in attributes["points"].split(";") for number in point.split(",")]


def _mask(attributes: dict[str, str], size: list[int]) -> rle.RLE:
    """Convert lengths of runs in the rows of a box to COCO's RLE of the photo."""
    left, top, width, height = (int(attributes[name]) for name in ("left", "top", "width", "height"))
    if not (0 <= left < left + width <= size[1] and 0 <= top < top + height <= size[0]):
        raise ValueError(f"its box {[left, top, width, height]} leaves the photo of {size} [h, w]")
    lengths = np.array([int(length) for length in attributes["rle"].split(",")], np.int64)
    if (lengths < 0).any() or lengths.sum() != width * height:
        raise ValueError(f"run lengths add up to {lengths.sum()}, not to {width} x {height}")
    cut = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
    return rle.from_runs(Runs.of_mask(cut).placed(left, top, (size[0], size[1])))

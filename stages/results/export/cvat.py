"""Export labels as an annotation file of CVAT ("CVAT for images 1.1"): brush masks to correct."""

from __future__ import annotations

from xml.sax.saxutils import XMLGenerator

import numpy as np

from aopsam.photos.lines import valid_text
from stages.results.export.selection import Chosen, Mask, Photo
from stages.storage.atomic import check_writable, write_text

FILE_NAME = "annotations.xml"
MASK_ATTRIBUTE, PARENT_ATTRIBUTE, SCORE_ATTRIBUTE = "mask", "parent", "score"


def write_cvat(chosen: Chosen, out: str) -> str:
    """Write `out`/annotations.xml, to upload to a task made of the same photos.

    Images have their names below the images' root. Masks are CVAT's own (`<mask>`, exact, with holes), and carry as
    attributes their `score`, their place in the labels' row (`mask`, by which `import_labels.py` knows them again) and
    their parent's. A task keeps the attributes that its label has: this file's `<labels>` lists them.
    """
    check_writable(out, FILE_NAME)
    path = f"{out.rstrip('/')}/{FILE_NAME}"
    with write_text(path) as opened:
        xml = XMLGenerator(opened, "utf-8", short_empty_elements=True)
        xml.startDocument()
        xml.startElement("annotations", {})
        _element(xml, "version", "1.1")
        _write_meta(xml)
        for photo in chosen.photos():
            xml.characters("\n")
            _write_photo(xml, photo)
        xml.endElement("annotations")
        xml.endDocument()
    return path


def _write_meta(xml: XMLGenerator) -> None:
    for name in ("meta", "task"):
        xml.startElement(name, {})
    _element(xml, "name", "masks by aopsam")
    _element(xml, "mode", "annotation")
    for name in ("labels", "label"):
        xml.startElement(name, {})
    _element(xml, "name", "object")
    xml.startElement("attributes", {})
    for name in (MASK_ATTRIBUTE, PARENT_ATTRIBUTE, SCORE_ATTRIBUTE):
        xml.startElement("attribute", {})
        for key, value in (("name", name), ("mutable", "False"), ("input_type", "text"), ("default_value", "")):
            _element(xml, key, value)
        xml.endElement("attribute")
    for name in ("attributes", "label", "labels", "task", "meta"):
        xml.endElement(name)


def _write_photo(xml: XMLGenerator, photo: Photo) -> None:
    row = photo.row
    sides = {"width": str(row["width"]), "height": str(row["height"])}
    xml.startElement("image", {"id": str(photo.number - 1), "name": _xml_text(row["file_name"])} | sides)
    for order, mask in enumerate(sorted(photo.masks, key=lambda mask: -mask.area)):  # the small ones on top
        left, top, width, height = mask.bbox_xywh
        place = {"left": str(left), "top": str(top), "width": str(width), "height": str(height)}
        about = {"label": "object", "source": "auto", "occluded": "0", "z_order": str(order)}
        xml.startElement("mask", about | {"rle": _rle(mask)} | place)
        parent = "" if mask.parent is None else str(mask.parent)
        for name, value in (
            (MASK_ATTRIBUTE, str(mask.number)),
            (PARENT_ATTRIBUTE, parent),
            (SCORE_ATTRIBUTE, str(mask.score)),
        ):
            _element(xml, "attribute", value, {"name": name})
        xml.endElement("mask")
    xml.endElement("image")


def _rle(mask: Mask) -> str:
    """Return the lengths of runs of 0s and 1s in the rows of a mask's box, 0s first."""
    by_row = mask.cropped().ravel()
    ends = np.flatnonzero(np.diff(by_row, append=~by_row[-1])) + 1
    lengths = np.diff(ends, prepend=0).tolist()
    return ", ".join(map(str, [0, *lengths] if by_row[0] else lengths))


def _element(xml: XMLGenerator, name: str, text: str, attributes: dict[str, str] | None = None) -> None:
    xml.startElement(name, attributes or {})
    xml.characters(text)
    xml.endElement(name)


def _xml_text(text: str) -> str:
    r"""Return a text that XML can hold: its control characters and lone surrogates become `\xNN`, `\udcNN`."""
    return "".join(
        char if char >= " " and char not in "\ufffe\uffff" else f"\\x{ord(char):02x}" for char in valid_text(text)
    )

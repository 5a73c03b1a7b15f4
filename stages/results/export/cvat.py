"""Export labels as an annotation file of CVAT ("CVAT for images 1.1"): brush masks to correct."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

import numpy as np

from aopsam.photos.lines import valid_text
from stages.results.export.selection import Chosen, Mask, Photo
from stages.storage.atomic import check_writable, write_text

FILE_NAME = "annotations.xml"
MASK, PARENT, SCORE = "mask", "parent", "score"
META = (
    "<meta><task><name>masks by aopsam</name><mode>annotation</mode><labels><label><name>object</name><attributes>"
    + "".join(
        f"<attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type>"
        "<default_value></default_value></attribute>"
        for name in (MASK, PARENT, SCORE)
    )
    + "</attributes></label></labels></task></meta>"
)


def write_cvat(chosen: Chosen, out: str) -> str:
    """Write `out`/annotations.xml, to upload to a task made of the same photos.

    Images have their names below the images' root. Masks are CVAT's own (`<mask>`, exact, with holes), and carry as
    attributes their `score`, their place in the labels' row (`mask`, by which `import_labels.py` knows them again) and
    their parent's. A task keeps the attributes that its label has: this file's `<labels>` lists them.
    """
    check_writable(out, FILE_NAME)
    path = f"{out.rstrip('/')}/{FILE_NAME}"
    with write_text(path) as opened:
        opened.write(f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{META}\n')
        for photo in chosen.photos():
            opened.writelines(_photo(photo))
        opened.write("</annotations>\n")
    return path


def _photo(photo: Photo) -> Iterator[str]:
    """Yield the lines of a photo."""
    row = photo.row
    yield f'<image id="{photo.number - 1}" name={quoteattr(xml_text(row["file_name"]))}'
    yield f' width="{row["width"]}" height="{row["height"]}">\n'
    for order, mask in enumerate(sorted(photo.masks, key=lambda mask: -mask.area)):  # the small ones on top
        left, top, width, height = mask.bbox_xywh
        yield f'<mask label="object" source="auto" occluded="0" z_order="{order}" rle="{_rle(mask)}"'
        yield f' left="{left}" top="{top}" width="{width}" height="{height}">'
        values = {MASK: mask.number, PARENT: "" if mask.parent is None else mask.parent, SCORE: mask.score}
        yield "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in values.items())
        yield "</mask>\n"
    yield "</image>\n"


def _rle(mask: Mask) -> str:
    """Return the lengths of runs of 0s and 1s in the rows of a mask's box, 0s first."""
    by_row = mask.cropped().ravel()
    ends = np.flatnonzero(np.diff(by_row, append=~by_row[-1])) + 1
    lengths = np.diff(ends, prepend=0).tolist()
    return ", ".join(map(str, [0, *lengths] if by_row[0] else lengths))


def xml_text(text: str) -> str:
    r"""Return a text that XML can hold: its control characters and lone surrogates become `\xNN`, `\udcNN`."""
    return "".join(
        char if char >= " " and char not in "\ufffe\uffff" else f"\\x{ord(char):02x}" for char in valid_text(text)
    )

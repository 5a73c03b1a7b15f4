"""Labels → files in the formats of other tools. To add a format: a file here and a line in `EXPORTS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from stages.config.selection import FormatName, Overlap, Selection
from stages.results.export.coco import write_coco
from stages.results.export.cvat import write_cvat
from stages.results.export.exported import Exported
from stages.results.export.fiftyone import write_fiftyone
from stages.results.export.hugging_face import write_hugging_face
from stages.results.export.label_studio import write_label_studio
from stages.results.export.png import write_png
from stages.results.export.sa1b import write_sa1b
from stages.results.export.selection import Chosen
from stages.results.export.webdataset import write_webdataset
from stages.results.export.yolo import write_yolo
from stages.results.read import find_labels


class Format(NamedTuple):
    """A format of another tool.

    Attributes:
        write: writes photos into a folder; returns the file or folder to open.
        overlap: policy where none is asked for.
        overlaps: policies that the format can hold.
    """

    write: Callable[[Chosen, str], str]
    overlap: Overlap = "nested"
    overlaps: tuple[Overlap, ...] = ("nested", "flat", "largest")


EXPORTS: dict[FormatName, Format] = {
    "coco": Format(write_coco),
    "yolo": Format(write_yolo),
    "label-studio": Format(write_label_studio),
    "cvat": Format(write_cvat),
    "webdataset": Format(write_webdataset),
    "png": Format(write_png, "flat", ("flat",)),
    "sa1b": Format(write_sa1b),
    "hf": Format(write_hugging_face),
    "fiftyone": Format(write_fiftyone),
}
"""Formats by name."""


def export_labels(labels: str, to: FormatName, out: str, selection: Selection, images: str | None = None) -> Exported:
    """Write labels in the format of another tool.

    Args:
        labels: OUT of a run, or its labels.
        to: name of the format.
        out: folder to write into, or fsspec URI; the former export is there until this one is whole.
        selection: what is exported.
        images: the photos as an argument --images of `label_corpus.py`, if they are elsewhere now; formats that hold no
            photos do not read them.

    Raises:
        ValueError: an `out` that cannot be written, no labels there, an unreadable file, an image with two rows, a
            malformed mask, photos that cannot be found, or a policy that the format cannot hold.
    """
    form = EXPORTS[to]
    selection = replace(selection, overlap=selection.overlap or form.overlap)
    if selection.overlap not in form.overlaps:
        raise ValueError(f"--overlap {selection.overlap}: {to} can hold {' or '.join(form.overlaps)} alone")
    find_labels(labels)  # before anything is written
    chosen = Chosen(labels, selection, images)
    path = form.write(chosen, out)
    counts = chosen.n_photos, chosen.n_masks, chosen.left_out, chosen.masks_left_out
    return Exported(path, *counts, chosen.gone, chosen.inexact)

"""Read a corrected COCO instances file, of `export_labels.py --to coco` or another tool's."""

from __future__ import annotations

from aopsam.photos.instances import file_name
from aopsam.photos.json_text import parse_json
from aopsam.photos.lines import shown
from stages.annotations.corrections.corrected import CorrectedPhoto, Shape, listed, place

_NEEDS = "no COCO file: needs the lists `images` and `annotations`"


def read_coco(content: bytes) -> list[CorrectedPhoto]:
    """Return the photos of an instances file.

    Raises:
        ValueError: it is no such file, two images have one id, or an annotation belongs to none.
    """
    record = parse_json(content)
    photos: dict[str, CorrectedPhoto] = {}
    for image in listed(record, "images", _NEEDS):
        name, number = file_name(image), str(image.get("id"))
        if number in photos:
            raise ValueError(f"two images have the id {shown(image.get('id'))}")
        photos[number] = CorrectedPhoto(name, image.get("width"), image.get("height"))
    for annotation in listed(record, "annotations", _NEEDS):
        of_image = annotation.get("image_id") if isinstance(annotation, dict) else None
        photo = photos.get(str(of_image))
        if photo is None:
            raise ValueError(f"an annotation of image_id {shown(of_image)}, which no image has")
        about = f"annotation {shown(annotation.get('id'))}"
        if annotation.get("iscrowd") not in (None, 0, False):
            photo.faults.append(f"{about}: a crowd is not one object; delete it, or part it")
            continue
        photo.shapes.append(Shape(about, annotation.get("segmentation"), place(annotation.get("mask"))))
    return list(photos.values())

"""Folders of photos beside PNG masks: which folders, which files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from aopsam.masks import rle
from aopsam.photos.mask_pairs import encode_ids, ids_of, pair_of_folders, read_mask_pairs
from aopsam.photos.sa1b import Sample

LEFT, RIGHT = np.zeros((8, 12), bool), np.zeros((8, 12), bool)
LEFT[2:6, 1:5] = RIGHT[1:7, 7:11] = True


def png(values: np.ndarray, mode: str | None = None) -> bytes:
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    buffer = io.BytesIO()
    (image.convert(mode) if mode == "1" else image).save(buffer, "PNG")
    return buffer.getvalue()


BINARY = (LEFT * 255).astype(np.uint8)
LABELS = (LEFT * 1 + RIGHT * 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["images", "masks"], ("images", "masks")),
        (["Imgs", "GT"], ("Imgs", "GT")),
        (["DUTS-TE-Image", "DUTS-TE-Mask"], ("DUTS-TE-Image", "DUTS-TE-Mask")),
        (["Image", "GT_Object", "GT_Instance", "GT_Edge"], ("Image", "GT_Instance")),
        (["RGB", "GT", "depth"], ("RGB", "GT")),  # SIP
        (["Imgs", "gt", "Instance gt", "Instance name"], ("Imgs", "Instance gt")),  # SOC
        (["Imgs", "GT", "Instance"], ("Imgs", "GT")),  # NC4K
        (["images"], None),
        (["GT", "Edge"], None),
    ],
)
def test_which_folders(names: list[str], pair: tuple[str, str] | None) -> None:
    assert pair_of_folders(names) == pair


@pytest.mark.parametrize(
    ("data", "objects"),
    [
        (png(BINARY), [LEFT]),
        (png(BINARY, "1"), [LEFT]),
        (png((LEFT * 1).astype(np.uint8)), [LEFT]),
        (png(LABELS), [LEFT, RIGHT]),
        (png(LABELS.astype(np.uint16) * 300), [LEFT, RIGHT]),
        (png(np.where(LABELS == 0, 255, LABELS).astype(np.uint8), "P"), [LEFT, RIGHT]),  # void around
        (png(np.stack([BINARY] * 3, axis=-1)), [LEFT]),
        (png(np.stack([LEFT * 200, RIGHT * 90, LEFT * 7], axis=-1).astype(np.uint8)), [RIGHT, LEFT]),
        (png(np.zeros((8, 12), np.uint8)), []),
    ],
)
def test_what_a_png_says(data: bytes, objects: list[np.ndarray]) -> None:
    ids = ids_of(data)
    assert ids.shape == (8, 12)
    found = [ids == one for one in np.unique(ids[ids != 0])]
    assert all((ours == theirs).all() for ours, theirs in zip(found, objects, strict=True))


def test_soft_edges_are_one_object_but_a_ramp_is_none() -> None:
    soft = BINARY.copy()
    soft[1, 1:5], soft[6, 1:5] = 200, 60
    assert ids_of(png(soft)).sum() == LEFT.sum() + 4
    with pytest.raises(ValueError, match="neither a mask of 0 and 255 nor ids"):
        ids_of(png(np.arange(96).reshape(8, 12).astype(np.uint8) + 160))


def test_every_id_is_encoded_as_its_mask() -> None:
    ids = np.random.default_rng(0).integers(0, 40, (50, 70)).repeat(2, 0).astype(np.int32)
    assert encode_ids(ids) == [rle.encode(ids == one) for one in range(1, 40)]
    assert encode_ids(np.zeros((3, 4), np.int32)) == []


def read(photos: dict[str, bytes], masks: dict[str, bytes]) -> tuple[list[Sample], list[str]]:
    problems: list[str] = []
    found = list(read_mask_pairs(photos, masks, photos.__getitem__, masks.__getitem__, problems.append))
    return found, problems


def test_photos_and_masks_meet_by_name() -> None:
    photos = {"b.jpg": b"photo b", "a.JPG": b"photo a", "alone.jpg": b"", "notes.txt": b""}
    samples, problems = read(photos, {"a.png": png(LABELS), "b.png": png(BINARY), "nobody.png": b"", "Thumbs.db": b""})
    assert [(sample.id, sample.jpeg, len(sample.annotations)) for sample in samples] == [
        ("a", b"photo a", 2),
        ("b", b"photo b", 1),
    ]
    assert (samples[1].width, samples[1].height) == (12, 8)
    assert samples[1].annotations[0]["bbox"] == [1, 2, 4, 4]
    assert (rle.decode(samples[0].annotations[1]["segmentation"]) == RIGHT).all()
    assert problems == [
        "1 other files in the folder of photos, such as notes.txt, are not read",
        "1 other files in the folder of masks, such as Thumbs.db, are not read",
        "alone.jpg: no mask alone.png in the folder of masks",
        "nobody.png: no photo of this mask, such as nobody.jpg, in the folder of photos",
    ]


def test_a_broken_mask_costs_its_photo() -> None:
    whole = png(BINARY)
    samples, problems = read({f"{n}.jpg": b"" for n in "abc"}, {"a.png": b"x", "b.png": whole, "c.png": whole[:50]})
    assert [sample.id for sample in samples] == ["b"]
    assert [problem.split(":")[0] for problem in problems] == ["a.png", "c.png"]


def test_masks_that_are_no_png_are_counted() -> None:
    samples, problems = read({f"{n}.jpg": b"" for n in "abc"}, {"a.png": png(BINARY), "b.jpg": b"", "c.TIF": b""})
    assert [sample.id for sample in samples] == ["a"]
    assert problems == ["2 masks are no PNG, such as b.jpg; save them as PNG, without JPEG's noise"]


def test_a_pair_of_kinds_that_are_not_read_is_counted() -> None:
    samples, problems = read({"a.tif": b"", "b.jpg": b""}, {"a.jpg": b"", "b.png": png(BINARY)})
    assert [sample.id for sample in samples] == ["b"]
    assert problems == [
        "1 other files in the folder of photos, such as a.tif, are not read",
        "1 other files in the folder of masks, such as a.jpg, are not read",
    ]


def test_files_of_one_name_are_counted() -> None:
    samples, problems = read({"a.jpg": b"jpg", "a.png": b"png"}, {"a.PNG": png(LABELS), "a.png": png(BINARY)})
    assert [(sample.jpeg, len(sample.annotations)) for sample in samples] == [(b"jpg", 2)]
    assert problems == [
        "1 photos of the name of another, such as a.png, are left out",
        "1 masks of the name of another, such as a.png, are left out",
    ]

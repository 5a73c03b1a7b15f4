"""Annotated photos of any source that `--data` names: SA-1B shards, instance files of COCO and LVIS, folders of masks,
our own labels."""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from aopsam.photos.instances import file_name, read_instances
from aopsam.photos.mask_pairs import pair_of_folders, read_mask_pairs
from aopsam.photos.sa1b import Sample, read_shard
from stages.annotations.own_labels import read_labelled
from stages.storage.location import redact

LOOKED_FOR = 10
"""Photos of an instance file, evenly taken, that tell in which folders they lie; some may be missing."""


def read_annotated(uri: str, on_problem: Callable[[str], None], images: str | None = None) -> Iterator[Sample]:
    """Stream the samples of one source.

    Args:
        uri: as `stages.annotations.shards.list_shards` gives it; a `.json` is an instance file, a `.parquet` a labels
            table, a name that ends in a slash a folder of photos and masks, anything else a tar. The photos of an
            instance file lie beside it: in its folder, in a folder there, or in a folder beside that one.
        on_problem: called with one line for whatever cannot be used; the rest is.
        images: where the photos of labels are, if not where they were labelled.
    """
    name = redact(uri)
    try:
        if uri.endswith(".parquet"):
            yield from read_labelled(uri, lambda line: on_problem(f"{name}: {line}"), images)
            return
        if uri.endswith("/"):
            yield from _mask_pairs(uri, lambda line: on_problem(f"{name}: {line}"))
            return
        if not uri.endswith(".json"):
            with fsspec.open(uri, "rb") as file:
                yield from read_shard(file, on_problem, name)
            return
        filesystem, path = fsspec.url_to_fs(uri)
        record = json.loads(filesystem.cat_file(path))
        if not isinstance(record, dict):
            raise ValueError("not an object")
        folders = _photos_folders(filesystem, path, record)
        yield from read_instances(
            record, lambda photo: _from_any(filesystem, folders, photo), lambda line: on_problem(f"{name}: {line}")
        )
    except (ValueError, RecursionError, OSError) as error:
        on_problem(f"{name}: {' '.join(str(error).split()) or type(error).__name__}")


def _mask_pairs(uri: str, on_problem: Callable[[str], None]) -> Iterator[Sample]:
    filesystem, path = fsspec.url_to_fs(uri)
    entries = filesystem.ls(path, detail=True)
    pair = pair_of_folders(posixpath.basename(entry["name"].rstrip("/")) for entry in entries)
    if pair is None:
        raise ValueError("its folders of photos and masks are gone")
    photos, masks = (f"{path.rstrip('/')}/{folder}" for folder in pair)
    yield from read_mask_pairs(
        [posixpath.basename(entry) for entry in filesystem.ls(photos, detail=False)],
        [posixpath.basename(entry) for entry in filesystem.ls(masks, detail=False)],
        lambda photo: filesystem.cat_file(f"{photos}/{photo}"),
        lambda mask: filesystem.cat_file(f"{masks}/{mask}"),
        on_problem,
    )


def _photos_folders(filesystem: AbstractFileSystem, path: str, record: dict[str, Any]) -> list[str]:
    """The folders, by name, that hold some of the photos: LVIS's are those of two of COCO's sets.

    Raises:
        ValueError: there is none; the message says where it was looked for.
    """
    images = record.get("images")
    if not isinstance(images, list) or not images:
        raise ValueError("no instance file: needs a list `images` that is not empty")
    photos = []
    for image in images[:: max(1, len(images) // LOOKED_FOR)]:
        with contextlib.suppress(ValueError):  # it will be named when it is read
            photos.append(file_name(image))
    here = posixpath.dirname(path)
    around = [
        str(entry["name"])
        for folder in (here, posixpath.dirname(here))
        for entry in sorted(filesystem.ls(folder, detail=True), key=lambda entry: str(entry["name"]))
        if entry["type"] == "directory"
    ]
    places = dict.fromkeys((here, *around))
    found = [folder for folder in places if any(filesystem.isfile(f"{folder}/{photo}") for photo in photos)]
    if not found:
        raise ValueError(
            f"its photos, such as {photos[:1]}, are neither beside it nor in a folder there or one level up"
        )
    return found


def _from_any(filesystem: AbstractFileSystem, folders: list[str], photo: str) -> bytes:
    """The bytes of a photo, from the first of the folders that has it."""
    for folder in folders[:-1]:
        with contextlib.suppress(FileNotFoundError):
            return bytes(filesystem.cat_file(f"{folder}/{photo}"))
    return bytes(filesystem.cat_file(f"{folders[-1]}/{photo}"))

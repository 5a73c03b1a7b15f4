"""Read annotated photos from any source that `--data` names: SA-1B shards, instance files of COCO and LVIS, folders of
masks, labels of a run."""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fsspec.spec import AbstractFileSystem

from aopsam.photos.instances import file_name, path_parts, read_instances
from aopsam.photos.json_text import parse_json
from aopsam.photos.mask_pairs import pair_of_folders, read_mask_pairs
from aopsam.photos.sa1b import Sample, read_shard
from stages.annotations.own_labels import read_labelled
from stages.storage.location import open_filesystem, redact

COMPARED = 10
"""Number of photos compared, evenly taken, to find out whether one folder repeats another."""


def read_annotated(uri: str, on_problem: Callable[[str], None], images: str | None = None) -> Iterator[Sample]:
    """Stream the samples of one source.

    Args:
        uri: as `stages.annotations.shards.list_shards` gives it; a `.json` is an instance file, a `.parquet` a labels
            table, a name that ends in a slash a folder of photos and masks, anything else a tar. The photos of an
            instance file lie in its folder or in folders there; only if none does, one level up.
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
            filesystem, path = open_filesystem(uri)
            with filesystem.open(path, "rb") as file:
                yield from read_shard(file, on_problem, name)
            return
        yield from _instances(uri, lambda line: on_problem(f"{name}: {line}"))
    except (ValueError, RecursionError, OSError) as error:
        on_problem(f"{name}: {' '.join(str(error).split()) or type(error).__name__}")


def count_pairs(uri: str) -> int:
    """Return how many files lie in the folder of photos of a folder of photos and masks; 0 where it is gone."""
    try:
        filesystem, photos, _ = _pair(uri)
        return len(filesystem.ls(photos, detail=False))
    except (ValueError, OSError):
        return 0


def _pair(uri: str) -> tuple[AbstractFileSystem, str, str]:
    """Return the paths of the folders of photos and of masks in a folder."""
    filesystem, path = open_filesystem(uri)
    entries = filesystem.ls(path, detail=True)
    pair = pair_of_folders(posixpath.basename(entry["name"].rstrip("/")) for entry in entries)
    if pair is None:
        raise ValueError("its folders of photos and masks are gone")
    photos, masks = (_test_split(filesystem, f"{path.rstrip('/')}/{name}") for name in pair)
    return filesystem, photos, masks


def _test_split(filesystem: AbstractFileSystem, folder: str) -> str:
    """Return a folder, or the one in it of the test split: CAMO's photos lie in Images/Test and Images/Train."""
    below = (str(name).rstrip("/") for name in filesystem.ls(folder, detail=False))
    return next((name for name in below if posixpath.basename(name).lower() == "test"), folder)


def _mask_pairs(uri: str, on_problem: Callable[[str], None]) -> Iterator[Sample]:
    filesystem, photos, masks = _pair(uri)
    of_photos, of_masks = (
        [posixpath.basename(entry) for entry in filesystem.ls(folder, detail=False)] for folder in (photos, masks)
    )
    if posixpath.basename(photos).lower() == "test" != posixpath.basename(masks).lower():  # one folder for both splits
        stems = {posixpath.splitext(name)[0] for name in of_photos}
        of_masks = [name for name in of_masks if posixpath.splitext(name)[0] in stems]
    yield from read_mask_pairs(
        of_photos,
        of_masks,
        lambda photo: filesystem.cat_file(f"{photos}/{photo}"),
        lambda mask: filesystem.cat_file(f"{masks}/{mask}"),
        on_problem,
    )


def _instances(uri: str, on_problem: Callable[[str], None]) -> Iterator[Sample]:
    filesystem, path = open_filesystem(uri)
    record = parse_json(filesystem.cat_file(path))
    if not isinstance(record, dict):
        raise ValueError("not an object")
    paths = _photo_paths(filesystem, path, record, on_problem)
    yield from read_instances(record, lambda photo: _content(filesystem, paths.get(photo)), on_problem)


def _content(filesystem: AbstractFileSystem, path: str | None) -> bytes | None:
    return None if path is None else bytes(filesystem.cat_file(path))


def _photo_paths(
    filesystem: AbstractFileSystem, path: str, record: dict[str, Any], on_problem: Callable[[str], None]
) -> dict[str, str]:
    """Find the photos of an instance file, by name; one line for those not there, one for those that are ambiguous.

    The file's own folder and the folders in it come first; only if they hold none, the folder around it and those in
    that: else a photo that train/ lacks would be read from valid/, where its name may be another photo's. A folder with
    an instance file of the same name is that file's.

    Raises:
        ValueError: there is no photo; the message says where they were looked for.
    """
    images = record.get("images")
    if not isinstance(images, list) or not images:
        raise ValueError("no instance file: needs a list `images` that is not empty")
    names: dict[str, None] = {}
    for image in images:
        with contextlib.suppress(ValueError):  # it will be named when it is read
            names[file_name(image)] = None
    if not names:
        return {}
    (here, json_name), tree = posixpath.split(path), _Tree(filesystem)
    for around in dict.fromkeys((here, posixpath.dirname(here))):
        folders = dict.fromkeys((around, *tree.folders(around)))
        held = tree.holding([each for each in folders if each == here or not tree.has(each, json_name)], names)
        if held:
            break
    else:
        raise ValueError(
            f"its photos, such as {list(names)[:1]}, are neither in its folder nor in a folder there or one level up"
        )
    ranked = _ranked(held, here, json_name.rpartition(".")[0])
    paths, ambiguous = _choose(ranked, _differing(filesystem, ranked))
    missing = [name for name in names if name not in paths and name not in ambiguous]
    if missing:
        on_problem(
            f"{len(missing)} of {len(names)} photos are not there, such as {missing[0]!r}; they must lie in "
            f"{redact(around)} or a folder in it, as the others do"
        )
    if ambiguous:
        name, at_odds = next(iter(ambiguous.items()))
        on_problem(
            f"{len(ambiguous)} of {len(names)} photos are ambiguous, such as {name!r}: "
            f"{' and '.join(map(redact, at_odds))} hold different photos under the same names; "
            "put the instance file into the folder of its photos"
        )
    return paths


class _Tree:
    """Content of folders, each listed once; one that cannot be listed counts as empty."""

    def __init__(self, filesystem: AbstractFileSystem) -> None:
        self._filesystem = filesystem
        self._entries: dict[str, set[str]] = {}

    def folders(self, folder: str) -> list[str]:
        """Return the paths of the folders in a folder, links to folders too, by name."""
        with contextlib.suppress(OSError):
            entries = self._filesystem.ls(folder, detail=True)
            return sorted(
                str(entry["name"]).rstrip("/")
                for entry in entries
                if entry["type"] == "directory" or (entry["type"] != "file" and self._filesystem.isdir(entry["name"]))
            )
        return []

    def has(self, folder: str, name: str) -> bool:
        """Return whether a folder holds an entry of that name."""
        return name in self._listed(folder.rstrip("/"))

    def holding(self, folders: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the paths of photos by name, for each folder with some; a folder of masks for photos is left out."""
        held = {folder: self._held(folder, names) for folder in folders}
        held = {folder: paths for folder, paths in held.items() if paths}
        pair = pair_of_folders(posixpath.basename(folder) for folder in held)
        return {folder: paths for folder, paths in held.items() if not pair or posixpath.basename(folder) != pair[1]}

    def _held(self, folder: str, names: Iterable[str]) -> dict[str, str]:
        return {name: path for name in names if (path := self._find(folder, name))}

    def _find(self, folder: str, name: str) -> str | None:
        """Return the path of a photo below a folder; a backslash is part of the name only where such a file is."""
        as_it_is = [part for part in name.split("/") if part not in ("", ".")]
        return self._walk(folder, as_it_is) or ("\\" in name and self._walk(folder, path_parts(name))) or None

    def _walk(self, folder: str, parts: list[str]) -> str | None:
        path = folder.rstrip("/")
        for part in parts:
            if part not in self._listed(path):
                return None
            path = f"{path}/{part}"
        return path

    def _listed(self, folder: str) -> set[str]:
        if folder not in self._entries:
            self._entries[folder] = set()
            with contextlib.suppress(OSError):
                entries = self._filesystem.ls(folder or "/", detail=False)
                self._entries[folder] = {posixpath.basename(str(entry).rstrip("/")) for entry in entries}
        return self._entries[folder]


@dataclass(frozen=True)
class _Folder:
    """A folder that holds photos of an instance file.

    Attributes:
        path: path of the folder.
        rank: the lower, the more likely it is the file's; of two with the same rank neither is.
        photos: paths of photos, by their names in the instance file.
    """

    path: str
    rank: tuple[bool, bool, int]
    photos: dict[str, str]


def _ranked(held: dict[str, dict[str, str]], here: str, stem: str) -> list[_Folder]:
    """Sort folders: the file's own, then those that its name names (train.json, train/), then those that hold most."""
    words = re.split(r"[\W_]+", stem.lower())
    folders = [
        _Folder(path, (path != here, posixpath.basename(path).lower() not in words, -len(photos)), photos)
        for path, photos in held.items()
    ]
    return sorted(folders, key=lambda folder: folder.rank)


def _differing(filesystem: AbstractFileSystem, ranked: list[_Folder]) -> set[tuple[str, str]]:
    """Return the pairs of folders that hold different photos under the same names; drop photos that only repeat."""
    differing = set()
    for place, later in enumerate(ranked):
        for earlier in ranked[:place]:
            shared = [name for name in later.photos if name in earlier.photos]
            some = shared[:: max(1, len(shared) // COMPARED)]
            if all(_is_same(filesystem, earlier.photos[name], later.photos[name]) for name in some):
                for name in shared:
                    del later.photos[name]
            else:
                differing.add((earlier.path, later.path))
    return differing


def _is_same(filesystem: AbstractFileSystem, one: str, other: str) -> bool:
    try:
        return one == other or bool(filesystem.cat_file(one) == filesystem.cat_file(other))
    except OSError:
        return False


def _choose(ranked: list[_Folder], differing: set[tuple[str, str]]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Choose where each photo is read: in the first folder, or in the only other folder of the set that has it.

    A folder that holds other photos under the first one's names is another set's, and nothing is read there.

    Args:
        ranked: the folders, of `_ranked`.
        differing: pairs of them, of `_differing`.

    Returns:
        Paths by name, and the folders by ambiguous name.
    """
    first = ranked[0]
    strangers = [folder for folder in ranked if (first.path, folder.path) in differing]
    if any(folder.rank == first.rank for folder in strangers):
        strangers.insert(0, first)
    ours = [folder for folder in ranked if folder not in strangers]
    holders: dict[str, list[_Folder]] = defaultdict(list)
    for folder in ours:
        for name in folder.photos:
            if name not in first.photos or folder is first:
                holders[name].append(folder)
    paths = {name: folders[0].photos[name] for name, folders in holders.items() if len(folders) == 1}
    at_odds = list(dict.fromkeys((first.path, *(folder.path for folder in strangers))))
    ambiguous = {name: [folder.path for folder in folders] for name, folders in holders.items() if len(folders) > 1}
    for folder in strangers:
        ambiguous |= {name: at_odds for name in folder.photos if name not in paths}
    return paths, ambiguous

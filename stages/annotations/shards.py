"""The annotated shards that a `--data` argument names."""

from __future__ import annotations

import posixpath

import fsspec

from aopsam.photos.mask_pairs import pair_of_folders
from stages.results.read import find_labels
from stages.storage.location import redact

TARS = (".tar", ".tar.gz", ".tgz")


def list_shards(data: str) -> list[str]:
    """A tar, an instance file (`.json`), what a glob matches, or the tars anywhere below a folder; sorted.

    Of a labelling run's folder (with `labels` and `manifest.json`) its tables of masks. A folder with subfolders of
    photos and of PNG masks is one shard, and ends in a slash.

    Args:
        data: a local path or an fsspec URI.

    Returns:
        Paths or URIs that `fsspec.open` takes.

    Raises:
        ValueError: nothing there, or no tar among it.
    """
    filesystem, path = fsspec.url_to_fs(data)
    if filesystem.isfile(f"{path.rstrip('/')}/manifest.json") and filesystem.isdir(f"{path.rstrip('/')}/labels"):
        found = list(find_labels(data).paths)
    elif filesystem.isdir(path):
        found = [entry for entry in filesystem.find(path) if entry.endswith(TARS)]
        below = [entry for entry in filesystem.ls(path, detail=True) if entry["type"] == "directory"]
        if not found and pair_of_folders(posixpath.basename(entry["name"].rstrip("/")) for entry in below):
            return [f"{filesystem.unstrip_protocol(path.rstrip('/'))}/"]
    elif filesystem.isfile(path):
        found = [path]
    else:
        found = [entry for entry in filesystem.glob(path) if filesystem.isfile(entry)]
    if not found:
        raise ValueError(
            f"{redact(data)}: no shard; give a .tar, a folder that holds some, a glob, a .json of COCO's kind,"
            " a folder of photos and PNG masks (images and masks, Imgs and GT), or the folder of a labelling run"
        )
    return sorted(filesystem.unstrip_protocol(entry) for entry in found)

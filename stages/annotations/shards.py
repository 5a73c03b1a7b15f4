"""List the annotated shards that a `--data` argument names."""

from __future__ import annotations

import posixpath
from glob import escape

from aopsam.photos.mask_pairs import pair_of_folders
from stages.corpus.globs import split_glob
from stages.results.read import find_labels
from stages.storage.location import open_filesystem, redact, uri_of

TARS = (".tar", ".tar.gz", ".tgz")


def list_shards(data: str) -> list[str]:
    """List the shards of a tar, an instance file (`.json`), a glob or a folder (all tars below it), sorted.

    A labelling run's folder (with `labels` and `manifest.json`) gives its labels tables. A folder with subfolders of
    photos and of PNG masks is one shard, and ends in a slash.

    Args:
        data: a local path or an fsspec URI.

    Returns:
        URIs that `open_filesystem` takes.

    Raises:
        ValueError: nothing there, or no shard in it.
    """
    filesystem, path = open_filesystem(data)
    if filesystem.isfile(f"{path.rstrip('/')}/manifest.json") and filesystem.isdir(f"{path.rstrip('/')}/labels"):
        found = list(find_labels(data).paths)
    elif filesystem.isdir(path):
        found = [entry for entry in filesystem.find(path) if entry.endswith(TARS)]
        below = [entry for entry in filesystem.ls(path, detail=True) if entry["type"] == "directory"]
        if not found and pair_of_folders(posixpath.basename(entry["name"].rstrip("/")) for entry in below):
            return [f"{uri_of(filesystem, path.rstrip('/'))}/"]
    elif filesystem.isfile(path):
        found = [path]
    else:
        glob = split_glob(path, filesystem.isdir)
        matching = filesystem.glob(f"{escape(glob[0])}/{glob[1]}") if glob else []
        found = [entry for entry in matching if filesystem.isfile(entry)]
    if not found:
        raise ValueError(
            f"{redact(data)}: no shard; give a .tar, a folder that holds some, a glob, a .json of COCO's kind,"
            " a folder of photos and PNG masks (images and masks, Imgs and GT), or the folder of a labelling run"
        )
    return sorted(uri_of(filesystem, entry) for entry in found)

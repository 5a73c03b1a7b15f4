"""The annotated shards that a `--data` argument names."""

from __future__ import annotations

import fsspec

from stages.location import redact
from stages.tables import find_labels

TARS = (".tar", ".tar.gz", ".tgz")


def list_shards(data: str) -> list[str]:
    """A tar, an instance file (`.json`), what a glob matches, or the tars anywhere below a folder; sorted.

    Of a labelling run's folder (with `labels` and `manifest.json`) its tables of masks.

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
    elif filesystem.isfile(path):
        found = [path]
    else:
        found = [entry for entry in filesystem.glob(path) if filesystem.isfile(entry)]
    if not found:
        raise ValueError(
            f"{redact(data)}: no shard; give a .tar, a folder that holds some, a glob, a .json of COCO's kind,"
            " or the folder of a labelling run"
        )
    return sorted(filesystem.unstrip_protocol(entry) for entry in found)

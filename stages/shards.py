"""The tar shards that a `--data` argument names."""

from __future__ import annotations

import fsspec

from stages.location import redact


def list_shards(data: str) -> list[str]:
    """Shards of a tar, a glob, or a folder with tars anywhere below; sorted.

    Args:
        data: a local path or an fsspec URI.

    Returns:
        Paths or URIs that `fsspec.open` takes.

    Raises:
        ValueError: nothing there, or no tar among it.
    """
    filesystem, path = fsspec.url_to_fs(data)
    if filesystem.isdir(path):
        found = [entry for entry in filesystem.find(path) if entry.endswith(".tar")]
    elif filesystem.isfile(path):
        found = [path]
    else:
        found = [entry for entry in filesystem.glob(path) if filesystem.isfile(entry)]
    if not found:
        raise ValueError(f"{redact(data)}: no shard; give a .tar, a folder that holds some, or a glob")
    return sorted(filesystem.unstrip_protocol(entry) for entry in found)

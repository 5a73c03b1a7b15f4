"""OUT/manifest.json: read, compared with the configuration of a run, written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stages.config.label_config import difference, digest
from stages.storage import atomic
from stages.storage.location import open_filesystem, redact


class OtherConfiguration(ValueError):
    """OUT holds the work of another configuration; the message is one line a difference."""


def check_configuration(
    out: str, configuration: Mapping[str, Any], folder: str = "labels", flag: str = "--out"
) -> None:
    """Refuse to mix two configurations in one folder.

    Args:
        out: folder of the run.
        configuration: all that decides what comes out, as values of JSON.
        folder: in OUT, where the work is.
        flag: of OUT, for messages.

    Raises:
        OtherConfiguration: OUT was made with another configuration, or holds work and does not say which.
    """
    filesystem, root = open_filesystem(out)
    if not filesystem.exists(f"{root}/manifest.json"):
        if filesystem.exists(f"{root}/{folder}") and filesystem.ls(f"{root}/{folder}"):
            raise OtherConfiguration(
                f"{redact(out)}/{folder} has files but {redact(out)}/manifest.json is missing: choose another {flag}"
            )
        return
    try:
        before = json.loads(filesystem.cat_file(f"{root}/manifest.json"))["configuration"]
    except (ValueError, KeyError, TypeError) as error:
        raise OtherConfiguration(
            f"{redact(out)}/manifest.json is not the manifest of a run: choose another {flag}"
        ) from error
    lines = difference(before, configuration)
    if lines:
        listed = "\n  ".join(lines)
        raise OtherConfiguration(
            f"{redact(out)} holds {folder} of another configuration; choose another {flag}\n  {listed}"
        )


def finished_manifest(out: str) -> dict[str, Any] | None:
    """Return the manifest of a run that ended, or None."""
    filesystem, root = open_filesystem(out)
    try:
        manifest = json.loads(filesystem.cat_file(f"{root}/manifest.json"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("state") == "finished" else None


def make_manifest(configuration: Mapping[str, Any], state: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a run: its state, `running` or `finished`, facts, and its configuration."""
    return {"state": state, **facts, "configuration": configuration, "configuration_sha256": digest(configuration)}


def write_manifest(out: str, configuration: Mapping[str, Any], state: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write and return the manifest of a run, as `make_manifest`."""
    manifest = make_manifest(configuration, state, facts)
    with atomic.write_text(f"{out}/manifest.json") as file:
        json.dump(manifest, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return manifest

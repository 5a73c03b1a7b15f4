"""Find the predictor that --predictor names: a file anywhere, or a version of a registry (`REGISTRY@7`, `@latest`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import overload

from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.weights import load_predictor
from aopsam.sam.checkpoints import file_sha256
from stages.registry.versions import WEIGHTS, Registry
from stages.storage.fetched import local_file

_REFERENCE = re.compile(r"(?P<registry>.+)@(?P<version>latest|[1-9]\d*)")


@overload
def resolve_predictor(predictor: str) -> str: ...
@overload
def resolve_predictor(predictor: None) -> None: ...
@overload
def resolve_predictor(predictor: str | None) -> str | None: ...
def resolve_predictor(predictor: str | None) -> str | None:
    """Return a predictor's name with a number in place of `latest`; anything else as it is.

    Done once, where a run begins: its workers must not ask again while somebody promotes another version.

    Raises:
        ValueError: the registry has no version in use.
    """
    found = _REFERENCE.fullmatch(predictor or "")
    if predictor is None or found is None or found["version"] != "latest":
        return predictor
    registry = Registry(found["registry"].rstrip("/"))
    latest = registry.latest()
    if latest is None:
        raise ValueError(f"{registry}: no version is in use; pipelines/retrain.py makes the first")
    return f"{found['registry']}@{latest.number}"


def open_predictor(predictor: str | None) -> PromptPredictor | None:
    """Load the predictor of a name (`predictor_file`); None for the bundled one stays None."""
    return None if predictor is None else load_predictor(predictor_file(predictor))


def predictor_file(predictor: str | None) -> str | None:
    """Return a path on this machine of a predictor's weights (`stages.storage.fetched.local_file`).

    Args:
        predictor: a path or URI, or a version of a registry; None for the bundled one stays None.

    Raises:
        ValueError: no such version, or other weights than its lineage names.
        OSError: they cannot be read.
    """
    found = _REFERENCE.fullmatch(predictor or "")
    if found is None:
        return local_file(predictor)
    resolved = _REFERENCE.fullmatch(resolve_predictor(found[0]))
    assert resolved is not None
    registry = Registry(resolved["registry"].rstrip("/"))
    version = registry.version(int(resolved["version"]))
    path = local_file(f"{registry.folder(version.number)}/{WEIGHTS}")
    if file_sha256(Path(path)) != version.weights_sha256:
        raise ValueError(f"{registry}: the weights of version {version.number} are not those that its lineage names")
    return path

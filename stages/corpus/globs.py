"""Globs below a root: `*`, `?` and `[…]` within a name, `**` over folders; a folder that matches counts whole."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

_MAGIC = re.compile(r"[*?[]")


def split_glob(path: str) -> tuple[str, str] | None:
    """Split a glob into the folder above its first wildcard and the pattern below it; None without a wildcard."""
    magic = _MAGIC.search(path)
    if magic is None:
        return None
    root, _, _ = path[: magic.start()].rpartition("/")
    return root, path[len(root) :].lstrip("/")


def matches(relative: str, pattern: str) -> bool:
    """Return whether a path below the root, or a folder that it lies in, matches. Leading dots are no exception."""
    return _match(relative.split("/"), pattern.split("/"))


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return True
    if patterns[0] == "**":
        return _match(parts, patterns[1:]) or (bool(parts) and _match(parts[1:], patterns))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _match(parts[1:], patterns[1:])

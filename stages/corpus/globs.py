"""Globs below a root: `*`, `?` and `[…]` within a name, `**` over folders; a folder that matches counts whole.

A name that reads like a pattern, such as `photos [2024]`, matches itself as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

_MAGIC = re.compile(r"[*?[]")


def split_glob(path: str, is_folder: Callable[[str], bool]) -> tuple[str, str] | None:
    """Split a glob into the folder above its first wildcard and the pattern below it; None without a wildcard.

    Args:
        path: the glob.
        is_folder: whether a folder lies at a path; the wildcards in its name are then none.
    """
    parts = path.split("/")
    for at, name in enumerate(parts):
        if _MAGIC.search(name) and (at == len(parts) - 1 or not is_folder("/".join(parts[: at + 1]))):
            return "/".join(parts[:at]), "/".join(parts[at:])
    return None


def matches(relative: str, pattern: str) -> bool:
    """Return whether a path below the root, or a folder that it lies in, matches. Leading dots are no exception."""
    return _match(relative.split("/"), pattern.split("/"))


def _match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return True
    if patterns[0] == "**":
        return _match(parts, patterns[1:]) or (bool(parts) and _match(parts[1:], patterns))
    return bool(parts) and _fits(parts[0], patterns[0]) and _match(parts[1:], patterns[1:])


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)

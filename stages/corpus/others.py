"""Files that are neither photos nor archives: how many of each suffix, in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

SAID = 10
"""Suffixes named in a line."""


def describe_others(others: Mapping[str, int]) -> str:
    """Return the line `4 other files not looked at (.txt 3, .raw 1)`; empty where there are none."""
    total = sum(others.values())
    if not total:
        return ""
    counts = ", ".join(f"{suffix} {count}" for suffix, count in most_common(others, SAID).items())
    return f"{total} other {'file' if total == 1 else 'files'} not looked at ({counts})"


def most_common(others: Mapping[str, int], suffixes: int) -> dict[str, int]:
    """Return the counts of the most common suffixes, and of all others together as `more`."""
    ordered = sorted(others.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in ordered[suffixes:])
    return dict(Counter(dict(ordered[:suffixes])) + Counter(more=rest))

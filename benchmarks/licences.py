"""Which licences come with an installation? Every package that pyproject.toml asks for, and what those ask for in turn.

    python benchmarks/licences.py        # or: make licences

Reads what the packages installed here say of themselves: the licence expression, else classifiers, else the field, else
the first line of the licence file. One line each, under the extra that brings it first.

Exit status: 0; 1 where `pip install .` alone would bring a GPL or AGPL.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
DEFAULT = "default"
COPYLEFT = re.compile(r"\bA?GPL|\bGNU (Affero )?General Public", re.IGNORECASE)


def main() -> int:
    """Print the tables; return the exit status."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = {DEFAULT: project["dependencies"], **project["optional-dependencies"]}
    tables = licences(wanted, project["name"])
    for extra, table in tables.items():
        print(f"\n{extra}: {len(table)} packages" + ("" if extra == DEFAULT else " more"))
        for name, licence in sorted(table.items()):
            print(f"  {name:<34}{licence}")
    found = copyleft(tables[DEFAULT])
    print(f"\nGPL or AGPL by default: {', '.join(found) or 'none'}")
    return 1 if found else 0


def licences(wanted: Mapping[str, Sequence[str]], own: str) -> dict[str, dict[str, str]]:
    """Return what `wanted` (extra to requirements) brings: by extra, names of packages with their licences.

    A package is listed once, under the first extra that brings it; `own` is the project itself.
    """
    seen: set[tuple[str, str]] = {(canonicalize_name(own), "")}
    named: set[str] = {canonicalize_name(own)}
    tables = {}
    for extra, texts in wanted.items():
        table = {}
        for name, licence in _closure([Requirement(text) for text in texts], seen):
            if name not in named:
                named.add(name)
                table[name] = licence
        tables[extra] = table
    return tables


def copyleft(table: Mapping[str, str]) -> list[str]:
    """Return the names of packages under a GPL or AGPL; an LGPL is none."""
    return sorted(name for name, licence in table.items() if COPYLEFT.search(licence))


def _closure(requirements: Sequence[Requirement], seen: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield name and licence of required packages, of each with each of its extras once; `seen` grows."""
    waiting = [requirement for requirement in requirements if _holds(requirement, "")]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                installed = distribution(name)
            except PackageNotFoundError:
                yield name, "not installed here"
                continue
            yield name, licence_of(installed)
            asked = [Requirement(text) for text in installed.requires or []]
            waiting += [each for each in asked if _holds(each, extra)]


def _holds(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def licence_of(installed: Distribution) -> str:
    """Return the licence that a package states; "not stated" where it states none."""
    classifiers, expression, field = (
        installed.metadata.get_all(name) or [] for name in ("Classifier", "License-Expression", "License")
    )
    classified = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License ::")]
    if stated := "".join(expression) or " AND ".join(classified) or "".join(field).strip():
        return stated.splitlines()[0]
    files = [file for file in installed.files or [] if re.match(r"(LICEN[CS]E|COPYING)", file.name, re.IGNORECASE)]
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip():
                return line.strip()
    return "not stated"


if __name__ == "__main__":
    raise SystemExit(main())

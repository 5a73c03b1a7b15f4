"""Keep versions in REGISTRY/versions/N, each whole or not to be seen; REGISTRY/latest.json says which is in use."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from schemas.conform import conform
from schemas.lineage import SCHEMA
from stages.storage.atomic import write_bytes, write_text
from stages.storage.conditional import check_conditional, read_tagged, write_if
from stages.storage.errors import RunFailed
from stages.storage.fetched import read_file
from stages.storage.location import open_filesystem, redact
from stages.storage.tables import read_table, table_bytes

WEIGHTS, CARD, METRICS, PHOTOS, PAGE, LINEAGE = (
    "predictor.safetensors",
    "card.md",
    "metrics.json",
    "photos.parquet",
    "index.html",
    "lineage.json",
)
"""Files of a version; the lineage comes last, and makes it one."""

CLAIM = "claim.json"


@dataclass(frozen=True)
class Version:
    """A version that is whole.

    Attributes:
        number: from 1.
        parent: the version whose weights it went on from and was compared with; None for the first.
        run: name of the run that made it.
        weights_sha256: digest of its weights.
        inputs_sha256: digest of all that it was made of: parent, photos, annotations, configuration.
        passed: whether it passed the gate.
        reason: why, or why not.
        configuration: of its run.
    """

    number: int
    parent: int | None
    run: str
    weights_sha256: str
    inputs_sha256: str
    passed: bool
    reason: str
    configuration: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        origin = "the first" if self.parent is None else f"from version {self.parent}"
        return (
            f"version {self.number}, {origin}, run {self.run}: {'passed' if self.passed else 'refused'}, {self.reason}"
        )


@dataclass(frozen=True)
class Latest:
    """Version in use, and the tag of the file that says so."""

    number: int
    tag: str


@dataclass(frozen=True)
class Registry:
    """A registry at a path or URI, without a slash at its end."""

    uri: str

    def __str__(self) -> str:
        return redact(self.uri)

    def check(self) -> None:
        """Check that the place can hold a registry; read nothing.

        Raises:
            ValueError: it cannot be written on condition.
        """
        check_conditional(self.uri)

    def folder(self, number: int) -> str:
        """Return the folder of a version."""
        return f"{self.uri}/versions/{number}"

    def version(self, number: int) -> Version:
        """Read a version.

        Raises:
            ValueError: there is no such version, or it is none of ours.
            OSError: it cannot be read.
        """
        try:
            return _read_version(f"{self.folder(number)}/{LINEAGE}")
        except FileNotFoundError:
            known = ", ".join(str(one.number) for one in self.versions()) or "none"
            raise ValueError(f"{self}: no version {number}; there are: {known}") from None

    def versions(self) -> list[Version]:
        """Read all versions that are whole, by number."""
        whole = (f"{self.folder(number)}/{LINEAGE}" for number in self._claimed())
        filesystem, _ = open_filesystem(self.uri)
        return [_read_version(uri) for uri in whole if filesystem.exists(open_filesystem(uri)[1])]

    def _claimed(self) -> list[int]:
        filesystem, path = open_filesystem(f"{self.uri}/versions")
        filesystem.invalidate_cache()  # others write there
        if not filesystem.isdir(path):
            return []
        names = (entry.rstrip("/").rpartition("/")[2] for entry in filesystem.ls(path, detail=False))
        return sorted(int(name) for name in names if re.fullmatch(r"[1-9]\d*", name))

    def latest(self) -> Latest | None:
        """Return the version in use; None where there is none yet.

        Raises:
            ValueError: `latest.json` does not say.
        """
        found = read_tagged(f"{self.uri}/latest.json")
        if found is None:
            return None
        try:
            return Latest(int(json.loads(found.data)["version"]), found.tag)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self}/latest.json: does not say a version; remove it, and registry.py --promote N writes it"
            ) from error

    def lineage(self, number: int | None) -> Iterator[Version]:
        """Yield a version and those that it goes back to, newest first."""
        while number is not None:
            version = self.version(number)
            yield version
            number = version.parent

    def photos(self, number: int) -> pa.Table:
        """Read the photos of a version: schemas/lineage.py."""
        return conform(read_table(self.folder(number), PHOTOS), SCHEMA)

    def reserve(self, run: str) -> int:
        """Return the number of a run's version: the one that it has reserved, else the next that is free."""
        claimed = self._claimed()
        for number in reversed(claimed):
            if _run_of(f"{self.folder(number)}/{CLAIM}") == run:
                return number
        number = max(claimed, default=0) + 1
        while write_if(f"{self.folder(number)}/{CLAIM}", _json(run=run, token=uuid.uuid4().hex), None) is None:
            number += 1
        return number

    def publish(self, version: Version, files: Mapping[str, bytes], photos: pa.Table) -> None:
        """Write the files of a version, and last what makes it one; a version that is there stays as it is.

        Args:
            version: its number is reserved.
            files: content by name.
            photos: schemas/lineage.py.
        """
        folder = self.folder(version.number)
        filesystem, path = open_filesystem(f"{folder}/{LINEAGE}")
        if filesystem.exists(path):
            return
        for name, content in files.items():
            write_bytes(f"{folder}/{name}", content)
        write_bytes(f"{folder}/{PHOTOS}", table_bytes(conform(photos, SCHEMA)))
        with write_text(f"{folder}/{LINEAGE}") as text:
            json.dump(vars(version), text, indent=2, ensure_ascii=False)
            text.write("\n")

    def promote(self, number: int, instead_of: Latest | None, by: str) -> bool:
        """Take a version into use, unless another one has been since `instead_of` was read.

        Args:
            number: of a version that is whole.
            instead_of: what `latest` returned.
            by: run or command, for the record.

        Returns:
            False where somebody else was first.
        """
        at = datetime.now(UTC).isoformat(timespec="seconds")
        before, tag = (None, None) if instead_of is None else (instead_of.number, instead_of.tag)
        content = _json(version=number, before=before, by=by, at=at, token=uuid.uuid4().hex)
        return write_if(f"{self.uri}/latest.json", content, tag) is not None

    def take(self, number: int | None, by: str) -> int:
        """Take a version into use, or the parent of the one in use; return its number.

        Raises:
            ValueError: no such version, or none to go back to.
            RunFailed: somebody else took another one into use at the same time.
        """
        latest = self.latest()
        if number is None:
            if latest is None:
                raise ValueError(f"{self}: no version is in use")
            number = self.version(latest.number).parent
            if number is None:
                raise ValueError(f"{self}: version {latest.number} is the first, there is none to go back to")
        number = self.version(number).number
        if not self.promote(number, latest, by):
            raise RunFailed(
                f"{self}: another version was taken into use at the same time; see what registry.py lists, then again"
            )
        return number


def _run_of(uri: str) -> str | None:
    """Return the run that a claim names; None where it cannot be read."""
    found = read_tagged(uri)
    try:
        return None if found is None else str(json.loads(found.data)["run"])
    except (ValueError, KeyError, TypeError):
        return None


def _read_version(uri: str) -> Version:
    try:
        return Version(**json.loads(read_file(uri)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{redact(uri)}: not the lineage of a version ({' '.join(str(error).split())})") from error


def _json(**values: Any) -> bytes:
    return f"{json.dumps(values, indent=2, ensure_ascii=False)}\n".encode()

"""Write a small file only if it is still what it was: what decides which of several writers at once wins.

On this machine, or on a file system that all share, under a lock that ends with its process; on S3 by conditional
writes (If-Match, If-None-Match).
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from stages.storage.atomic import write_bytes
from stages.storage.errors import CannotWrite
from stages.storage.location import open_filesystem, redact

REFUSED = {"PreconditionFailed", "412", "NoSuchKey", "404"}
"""Codes with which a store says that the file is no longer what it was."""
AT_ONCE = {"ConditionalRequestConflict", "409"}
"""Codes with which it says that another writer was at it at that moment: to be asked again."""
TRIES = 8


class Tagged(NamedTuple):
    """A file's content, and a tag that another content does not have."""

    data: bytes
    tag: str


def check_conditional(uri: str) -> None:
    """Check that files of a place can be written on condition.

    Raises:
        ValueError: it is neither a folder nor on S3.
    """
    filesystem, _ = open_filesystem(uri)
    if not isinstance(filesystem, LocalFileSystem) and not hasattr(filesystem, "call_s3"):
        raise ValueError(f"{redact(uri)}: only a folder or s3:// can be written on condition; give one of those")


def read_tagged(uri: str) -> Tagged | None:
    """Read a file and its tag; None where there is no such file.

    Raises:
        OSError: it cannot be read.
    """
    filesystem, path = open_filesystem(uri)
    try:
        if isinstance(filesystem, LocalFileSystem):
            return _tagged(Path(path).read_bytes())
        # The tag first: of a file that changes between the two, it is the older one, and nothing is written over.
        tag = str(filesystem.info(path, refresh=True)["ETag"])
        return Tagged(bytes(filesystem.cat_file(path)), tag)
    except FileNotFoundError:
        return None


def write_if(uri: str, data: bytes, tag: str | None) -> str | None:
    """Write a file if it still has a tag, and return its new one; else return None and leave it.

    Args:
        uri: path or fsspec URI, of a place that `check_conditional` passes.
        data: unlike what any other writer writes, by which it is known where the store's answer is lost.
        tag: of `read_tagged`; None if there must be no such file.

    Raises:
        CannotWrite: the system or the store refuses.
    """
    filesystem, path = open_filesystem(uri)
    if isinstance(filesystem, LocalFileSystem):
        with _locked(Path(path)):
            found = read_tagged(uri)
            if (found and found.tag) != tag:
                return None
            write_bytes(uri, data)
            return _tagged(data).tag
    bucket, key, _ = filesystem.split_path(path)
    condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
    for attempt in range(1, TRIES + 1):
        try:
            answer = filesystem.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
            return str(answer["ETag"])
        except Exception as error:  # a store's own exceptions have no common base
            code = _code(error)
            if code in REFUSED:
                found = read_tagged(uri)
                return found.tag if found is not None and found.data == data else None
            if code not in AT_ONCE or attempt == TRIES:
                raise CannotWrite(f"{redact(uri)}: cannot be written ({code or type(error).__name__})") from error
            time.sleep(0.1 * attempt)
        finally:
            filesystem.invalidate_cache(path.rpartition("/")[0])
    raise AssertionError


def _tagged(data: bytes) -> Tagged:
    return Tagged(data, hashlib.sha256(data).hexdigest())


def _code(error: BaseException | None) -> str:
    """Return the store's code of a refusal; empty where it has none."""
    while error is not None:
        answer: Any = getattr(error, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, by a kill too
        yield

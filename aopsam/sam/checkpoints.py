"""Weights on disk: download them once, check them, read them without running what is inside.

The only file of the project that downloads. A download goes to a temporary file, its digest is compared with the
published one, and only a whole and true file gets its final name, so a cache never holds half a file.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import pickle
import shutil
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

TIMEOUT_S = 30.0
"""Seconds without a byte (or without a connection) after which a download is given up."""

_CHUNK = 1 << 20


class CheckpointError(ValueError):
    """Weights that cannot be had, read or used; the message is one line that says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A published weights file.

    Attributes:
        url: its authors' address.
        sha256: hex digest of the whole file, where one is published.
        git_blob: else what its authors' git calls the file's content: SHA-1 of a header and the bytes.
    """

    url: str
    sha256: str = ""
    git_blob: str = ""

    @property
    def filename(self) -> str:
        """The file's name in the cache, as its authors call it."""
        return self.url.rsplit("/", 1)[-1]


def cache_dir() -> Path:
    """Where downloads are kept: $AOPSAM_CACHE, else $XDG_CACHE_HOME/aopsam, else ~/.cache/aopsam."""
    if chosen := os.environ.get("AOPSAM_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "aopsam"


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes.

    Raises:
        CheckpointError: no such file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; a checkpoint is a .safetensors, .pth or .pt file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def obtain(name: str, remote: RemoteFile) -> tuple[Path, str]:
    """Path in the cache and SHA-256 of a published file, downloaded on first use.

    Args:
        name: the model, for messages.
        remote: its weights.

    Raises:
        CheckpointError: no network, a broken transfer, no room, or bytes with another digest than the published one.
    """
    path = cache_dir() / remote.filename
    if path.exists():
        if fault := _fault(path, remote):
            raise CheckpointError(f"{path}: {fault}: remove the file")
        return path, file_sha256(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(remote, path)
    except (OSError, http.client.HTTPException) as error:
        raise CheckpointError(
            f"{name}: cannot download {remote.url} ({error}): put the file at {path}, "
            "or give its place with --checkpoint FILE (load_sam(name, checkpoint=FILE))"
        ) from error
    return path, remote.sha256 or file_sha256(path)


def _fault(path: Path, remote: RemoteFile) -> str:
    """What is wrong with a file's bytes; empty where they are those published."""
    if remote.sha256 and (found := file_sha256(path)) != remote.sha256:
        return f"SHA-256 {found}, not the published {remote.sha256}"
    if remote.git_blob:
        header = f"blob {path.stat().st_size}\0".encode()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.sha1(header, usedforsecurity=False)).hexdigest()
        if found != remote.git_blob:
            return f"git blob {found}, not the published {remote.git_blob}"
    return ""


def _download(remote: RemoteFile, path: Path) -> None:
    """Write the file under its final name, or raise an OSError and leave nothing."""
    with (
        urllib.request.urlopen(remote.url, timeout=TIMEOUT_S) as response,
        # In the cache itself: a rename is atomic only within one file system.
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as partial,
    ):
        try:
            expected_bytes = int(response.headers.get("Content-Length", 0))
            print(f"aopsam: downloading {remote.url} ({expected_bytes / 1e6:.0f} MB) to {path}", file=sys.stderr)
            shutil.copyfileobj(response, partial, _CHUNK)
            received = partial.tell()
            partial.close()
            if received < expected_bytes:
                raise ConnectionError(f"it ended after {received} of {expected_bytes} bytes")
            if fault := _fault(Path(partial.name), remote):
                raise ConnectionError(f"what arrived has {fault}")
            Path(partial.name).replace(path)
        except BaseException:
            Path(partial.name).unlink(missing_ok=True)
            raise


def read_state_dict(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors by name, and the file's metadata (empty for .pth), on the CPU.

    A `.safetensors` file holds no code; a `.pth` or `.pt` file is a pickle and is read with `weights_only=True`,
    which refuses everything but tensors and plain containers. As some authors publish them, tensors may lie under the
    name `model` or `state_dict`, and the file alone in a `.zip`.

    Raises:
        CheckpointError: another format, a pickle with code in it, or no mapping of names to tensors.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in {".pth", ".pt"}:
        # Files of PyTorch before 1.6 are not zip archives and cannot be mapped.
        return _read_pickle(path, path, mmap=zipfile.is_zipfile(path)), {}
    if path.name.endswith((".pth.zip", ".pt.zip")):
        return _read_zipped(path), {}
    raise CheckpointError(f"{path}: unknown format {path.suffix!r}; a checkpoint is a .safetensors, .pth or .pt file")


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error


def _read_zipped(path: Path) -> dict[str, torch.Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            # A Mac adds a file of attributes beside each.
            inside = [name for name in archive.namelist() if name.endswith((".pth", ".pt")) and "__MACOSX" not in name]
            content = archive.read(inside[0]) if len(inside) == 1 else b""
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CheckpointError(f"{path}: not a whole zip archive ({error})") from error
    if len(inside) != 1:
        raise CheckpointError(
            f"{path}: holds {len(inside)} .pth or .pt files, not one: unpack it and give the right one"
        )
    return _read_pickle(path, io.BytesIO(content), mmap=False)


def _read_pickle(path: Path, source: Path | io.BytesIO, *, mmap: bool) -> dict[str, torch.Tensor]:
    try:
        payload = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, it holds other Python objects than tensors (or is no checkpoint); "
            "ask for a file of tensors alone, best as .safetensors"
        ) from error
    except Exception as error:  # damaged bytes reach deep into the reader: also AssertionError, OSError, IndexError
        fault = f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0]
        raise CheckpointError(f"{path}: not a whole PyTorch checkpoint ({fault})") from error
    if isinstance(payload, dict):
        payload = next((payload[key] for key in ("model", "state_dict") if isinstance(payload.get(key), dict)), payload)
    if not isinstance(payload, dict) or not all(isinstance(value, torch.Tensor) for value in payload.values()):
        inside = ", ".join(map(str, list(payload)[:5])) if isinstance(payload, dict) else type(payload).__name__
        raise CheckpointError(f"{path}: not a state dict (names to tensors); it holds {inside}")
    return payload

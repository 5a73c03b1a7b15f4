"""Download weights files once, check them, and read them without running code inside them.

The only file of the project that downloads. A download goes to a temporary file, its digest is compared with the
published one, and only a complete file with that digest gets its final name, so a cache never holds half a file.
"""

from __future__ import annotations

import hashlib
import http.client
import io
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

from aopsam._cache_dir import cache_dir

TIMEOUT_S = 30.0
"""Seconds without a byte (or without a connection) after which a download is given up."""

_CHUNK = 1 << 20


class CheckpointError(ValueError):
    """Weights that cannot be found, downloaded, read or used; the message is one line that says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A published weights file.

    Attributes:
        url: address given by its authors.
        sha256: hex digest of the whole file, where one is published.
        git_blob: else the file's blob digest in its authors' git repository: SHA-1 of a header and the bytes.
    """

    url: str
    sha256: str = ""
    git_blob: str = ""

    @property
    def filename(self) -> str:
        """Name of the file in the cache: the one its authors gave it."""
        return self.url.rsplit("/", 1)[-1]


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes.

    Raises:
        CheckpointError: no such file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; a checkpoint is a .safetensors, .pth or .pt file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def obtain(name: str, remote: RemoteFile) -> tuple[Path, str]:
    """Return the path in the cache and the SHA-256 of a published file, downloaded on first use.

    Args:
        name: name of the model, for messages.
        remote: weights file of the model.

    Raises:
        CheckpointError: no network, a broken transfer, a full disk, or another digest than the published one.
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


def obtain_snapshot(repository: str, *, download: bool = True) -> Path:
    """Return the folder of a model's configuration and safetensors of the Hugging Face hub, in the hub's own cache.

    Args:
        repository: ORG/NAME.
        download: whether to download what is not there or is not the newest; huggingface_hub's rules and variables
            hold (HF_HOME, HF_TOKEN, HF_HUB_OFFLINE).

    Raises:
        CheckpointError: no such model, no network, or no room.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    wanted = ["config.json", "*processor_config.json", "*.safetensors", "*.safetensors.index.json"]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=not download))
    except (OSError, ValueError, HfHubHTTPError) as error:
        said = " ".join(str(error).split())
        raise CheckpointError(
            f"hf:{repository}: neither a folder here nor to be had from the hub ({said[:200]}): "
            "check the name, or download the model and give its folder (hf:FOLDER)"
        ) from error


def _fault(path: Path, remote: RemoteFile) -> str:
    """Describe what is wrong with a file's bytes; empty where they are the published ones."""
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
    """Download a file to its final name, or raise an OSError and leave nothing."""
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
                raise ConnectionError(f"the downloaded file has {fault}")
            Path(partial.name).replace(path)
        except BaseException:
            Path(partial.name).unlink(missing_ok=True)
            raise


def read_state_dict(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a weights file: tensors by name, on the CPU, and the file's metadata (empty for .pth).

    A `.safetensors` file holds no code; a `.pth` or `.pt` file is a pickle and is read with `weights_only=True`,
    which refuses everything but tensors and plain containers. As some authors publish them, tensors may lie under the
    key `model` or `state_dict`, and a `.zip` may hold the file.

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
            # macOS adds a file of attributes for each file.
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

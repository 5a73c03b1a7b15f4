from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aopsam._cache_dir import cache_dir
from aopsam.sam import checkpoints
from aopsam.sam.checkpoints import CheckpointError, RemoteFile, obtain, read_state_dict

CONTENT = bytes(range(256)) * 9000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
GIT_BLOB = "ef5368afeb6833f50783a92bdc9b5df96e8afe09"
"""`git hash-object whole.pth`."""


class Handler(http.server.BaseHTTPRequestHandler):
    """/whole.pth answers with CONTENT, /short.pth breaks off half-way, /slow.pth says nothing, others are missing."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/slow.pth":
            self.server.stop.wait()  # type: ignore[attr-defined]
            return
        if self.path not in {"/whole.pth", "/short.pth"}:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole.pth" else CONTENT[: len(CONTENT) // 2])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []  # type: ignore[attr-defined]
        server.stop = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.stop.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AOPSAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remote(server: http.server.ThreadingHTTPServer, name: str, sha256: str = DIGEST) -> RemoteFile:
    return RemoteFile(f"http://127.0.0.1:{server.server_address[1]}/{name}", sha256)


def test_downloads_once(
    server: http.server.ThreadingHTTPServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        path, digest = obtain("vit_x", remote(server, "whole.pth"))
        assert (path, digest) == (cache / "whole.pth", DIGEST)
        assert path.read_bytes() == CONTENT
    assert server.requests == ["/whole.pth"]  # type: ignore[attr-defined]
    assert capsys.readouterr().err.count("downloading http://127.0.0.1") == 1
    assert list(cache.iterdir()) == [path]


def test_the_name_that_git_gives_serves_where_no_sha256_is_published(
    server: http.server.ThreadingHTTPServer, cache: Path
) -> None:
    address = f"http://127.0.0.1:{server.server_address[1]}/whole.pth"
    for _ in range(2):
        assert obtain("vit_x", RemoteFile(address, git_blob=GIT_BLOB)) == (cache / "whole.pth", DIGEST)
    with pytest.raises(CheckpointError, match=rf"whole\.pth: git blob {GIT_BLOB}, not the published 000+: remove the"):
        obtain("vit_x", RemoteFile(address, git_blob="0" * 40))


@pytest.mark.parametrize(
    ("name", "sha256", "reason"),
    [
        ("short.pth", DIGEST, "it ended after 1152000 of 2304000 bytes"),
        ("missing.pth", DIGEST, "HTTP Error 404"),
        ("slow.pth", DIGEST, "timed out"),
        ("whole.pth", "0" * 64, f"has SHA-256 {DIGEST}, not the published 0000"),
    ],
)
def test_failures_leave_nothing_and_say_what_to_do(
    server: http.server.ThreadingHTTPServer,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    sha256: str,
    reason: str,
) -> None:
    monkeypatch.setattr(checkpoints, "TIMEOUT_S", 0.3)
    with pytest.raises(CheckpointError) as caught:
        obtain("vit_x", remote(server, name, sha256))
    message = str(caught.value)
    assert "\n" not in message
    assert reason in message
    assert f"vit_x: cannot download http://127.0.0.1:{server.server_address[1]}/{name}" in message
    assert f"put the file at {cache / name}, or give its place with --checkpoint FILE" in message
    assert list(cache.iterdir()) == []


def test_closed_port_is_one_clear_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(
        CheckpointError, match=r"cannot download http://127\.0\.0\.1:1/sam\.pth .*refused.*put the file at"
    ):
        obtain("vit_x", RemoteFile("http://127.0.0.1:1/sam.pth", DIGEST))
    assert list(cache.iterdir()) == []


def test_unwritable_cache_is_one_clear_line(
    server: http.server.ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AOPSAM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CheckpointError, match=r"cannot download .*Not a directory"):
        obtain("vit_x", remote(server, "whole.pth"))


def test_a_changed_file_in_the_cache_is_refused(cache: Path) -> None:
    cache.mkdir()
    (cache / "sam.pth").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"sam\.pth: SHA-256 \w+, not the published \w+: remove the file"):
        obtain("vit_x", RemoteFile("http://127.0.0.1:1/sam.pth", DIGEST))


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AOPSAM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_dir() == Path("/home/someone/.cache/aopsam")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_dir() == Path("/cache/aopsam")
    monkeypatch.setenv("AOPSAM_CACHE", "/weights")
    assert cache_dir() == Path("/weights")


TENSORS = {"a": torch.arange(6.0).view(2, 3), "b.c": torch.zeros(4, dtype=torch.float16)}


def same(found: dict[str, torch.Tensor]) -> bool:
    return list(found) == list(TENSORS) and all(torch.equal(found[key], tensor) for key, tensor in TENSORS.items())


def test_reads_safetensors_and_its_metadata(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"seed": "7"})
    state, metadata = read_state_dict(tmp_path / "x.safetensors")
    assert same(state)
    assert metadata == {"seed": "7"}


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_both_formats_of_pytorch(tmp_path: Path, zipped: bool) -> None:
    torch.save(TENSORS, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    state, metadata = read_state_dict(tmp_path / "x.pth")
    assert same(state)
    assert metadata == {}


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_reads_tensors_beside_other_things(tmp_path: Path, key: str) -> None:
    torch.save({key: TENSORS, "epoch": 3}, tmp_path / "x.pt")
    assert same(read_state_dict(tmp_path / "x.pt")[0])


def test_reads_a_zipped_file(tmp_path: Path) -> None:
    torch.save({"model": TENSORS}, tmp_path / "x.pt")
    path = tmp_path / "x.pt.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "x.pt", "weights/x.pt")
        archive.writestr("__MACOSX/weights/._x.pt", b"attributes")
    assert same(read_state_dict(path)[0])
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tmp_path / "x.pt", "weights/y.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt\.zip: holds 2 \.pth or \.pt files, not one"):
        read_state_dict(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"x\.pt\.zip: not a whole zip archive"):
        read_state_dict(path)


class Bomb:
    """Unpickling it would create the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, writer: str) -> None:
    payload = {"weight": torch.zeros(1), "extra": Bomb(tmp_path / "ran")}
    path = tmp_path / "evil.pth"
    if writer == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload, protocol=2))
    with pytest.raises(CheckpointError, match=r"evil\.pth: refused"):
        read_state_dict(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(TENSORS, whole)
    else:
        save_file(TENSORS, whole)
    data = whole.read_bytes()
    damaged = [b"", data[:7], data[: len(data) // 2], data[:-5], b"<!DOCTYPE html>", bytes(100)]
    for index, content in enumerate(damaged):
        path = tmp_path / f"{index}{suffix}"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{index}{suffix}: (not a whole|refused)"):
            read_state_dict(path)


def test_other_contents_are_named(tmp_path: Path) -> None:
    torch.save({"weights": TENSORS, "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: not a state dict .* it holds weights, epoch"):
        read_state_dict(tmp_path / "x.pth")
    torch.save([torch.zeros(1)], tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="it holds list"):
        read_state_dict(tmp_path / "x.pth")
    (tmp_path / "x.onnx").touch()
    with pytest.raises(CheckpointError, match=r"x\.onnx: unknown format '\.onnx'"):
        read_state_dict(tmp_path / "x.onnx")

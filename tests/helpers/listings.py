"""Folders and tars of stand-in photos, and what the listing says of them."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path

from stages.corpus.listing import list_images
from stages.corpus.tar_members import Member, TarEnd, read_members


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"photo")


def listed(images: Path | str, exclude: str | None = None) -> dict[str, str]:
    return {row["file_name"]: row["kind"] for row in list_images(str(images), exclude).to_pylist()}


def others_of(images: Path | str) -> dict[str, int]:
    list_images(str(images), others=(others := Counter[str]()))
    return dict(others)


def members_of(tar: bytes) -> tuple[list[Member], int | None]:
    end = TarEnd()
    return list(read_members(io.BytesIO(tar), end)), end.damaged_at


def make_tar(*members: str, format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = 1000
            tar.addfile(info, io.BytesIO(name.encode("utf-8", "surrogateescape").ljust(1000)))
    return buffer.getvalue()

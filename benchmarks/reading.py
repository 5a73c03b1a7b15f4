"""Memory of a reader of annotated shards, and its speed: ten shards, one after another, in a process of its own.

    python benchmarks/reading.py --data bsds500/train bsds500/extra [--shards 10] [--megabytes 300]

Makes the shards in a temporary folder, which goes at the end, by repeating the photos of --data under fresh names;
every second one has all photos before all JSONs. Prints private memory (USS) after each shard, its peak as seen every
50 ms, and photos/s.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count, cycle
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from aopsam.photos.sa1b import Sample
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards


def main(argv: Sequence[str] | None = None) -> int:
    """Make, read, print a line a shard; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="what to repeat: tars, folders or globs")
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=300, help="of a shard")
    arguments = parser.parse_args(argv)
    try:
        sources = [shard for data in arguments.data for shard in list_shards(data)]
    except (ValueError, OSError) as error:
        print(f"reading: {error}", file=sys.stderr)
        return 2
    photos = [sample for shard in sources for sample in read_annotated(shard, print)]
    with tempfile.TemporaryDirectory() as folder:
        shards = [Path(folder) / f"{number:06d}.tar" for number in range(arguments.shards)]
        for number, shard in enumerate(shards):
            _write(shard, photos, arguments.megabytes * 10**6, apart=number % 2 == 1)
        _measure([str(shard) for shard in shards])
    return 0


def _write(shard: Path, photos: Sequence[Sample], size: int, apart: bool) -> None:
    """Write a tar of at least `size` bytes; with `apart` all photos come first, then all JSONs."""
    jsons: list[tuple[str, bytes]] = []
    with tarfile.open(shard, "w") as tar:
        for number, sample in zip(count(), cycle(photos)):
            name = f"./{shard.stem}_{number}"
            image = {"width": sample.width, "height": sample.height, "file_name": f"{name}.jpg"}
            text = json.dumps({"image": image, "annotations": sample.annotations}).encode()
            _add(tar, f"{name}.jpg", sample.jpeg)
            jsons.append((f"{name}.json", text))
            if not apart:
                _add(tar, *jsons.pop())
            if tar.offset + sum(len(waiting) for _, waiting in jsons) >= size:
                break
        for member, text in jsons:
            _add(tar, member, text)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _measure(shards: Sequence[str]) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    reader = context.Process(target=_read, args=(shards, theirs))
    reader.start()
    theirs.close()
    process = psutil.Process(reader.pid)
    peak = 0
    for line in _lines(ours):
        if line is not None:
            print(f"{line}, {process.memory_full_info().uss / 1e6:.0f} MB", flush=True)
            ours.send(None)
        peak = max(peak, process.memory_full_info().uss)
    reader.join()
    print(f"peak {peak / 1e6:.0f} MB")


def _lines(ours: Connection) -> Iterator[str | None]:
    """Yield the lines that the reader sends; None every 50 ms without one."""
    while True:
        line = ours.recv() if ours.poll(0.05) else None
        if line == "end":
            return
        yield line


def _read(shards: Sequence[str], theirs: Connection) -> None:
    """Read all shards; send a line after each, and wait for the answer that memory has been measured."""
    problems: list[str] = []
    theirs.send("before the first")
    theirs.recv()
    for shard in shards:
        began = time.perf_counter()
        photos = sum(1 for _ in read_annotated(shard, problems.append))
        seconds = time.perf_counter() - began
        theirs.send(f"{Path(shard).name}: {photos} photos, {photos / seconds:.0f} photos/s, {len(problems)} problems")
        theirs.recv()
    theirs.send("end")


if __name__ == "__main__":
    raise SystemExit(main())

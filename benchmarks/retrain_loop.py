"""Retrain again and again on a growing corpus, kill it in each phase, start it twice at once: `latest` stays whole.

    python benchmarks/retrain_loop.py --photos PHOTOS --eval SHARD --out OUT
    python benchmarks/retrain_loop.py --photos PHOTOS --eval SHARD --out s3://bucket/loop --each 8 -- --steps 200

The photos of a local folder, --each a time, become the corpus OUT/corpus, and pipelines/retrain.py, to which goes what
follows `--`, makes of it the registry OUT/registry; OUT must not exist. Four acts: (1) a first version, the run killed
(-9) once in each phase, at a random moment after the phase began, and the same command started again; (2) a second
version, by two processes of the same run at once; (3) a third, of photos whose annotations are spoiled, which must be
refused; (4) two runs at once from the same version, of which one at most may be in use; then one rollback. All the
while a thread reads `latest.json`. Prints a line for each act. Exit status: 0 where all holds, 1 where not.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from aopsam.masks import rle
from stages.registry.versions import Registry
from stages.storage.location import open_filesystem

PIPELINES = Path(__file__).parent.parent / "pipelines"
PHASES = {
    "find": "",
    "choose": "photos, ",
    "label": " new photos are chosen",
    "maps": "bound by ",
    "train": "prompt maps of ",
    "compare": " steps done",
    "release": "compared: ",
}
"""Phase, and what stands in the output when it begins."""


@dataclass
class Watch:
    """Thread that reads which version is in use as long as it runs.

    Attributes:
        reads: how many times it was read.
        broken: what was wrong with `latest.json`.
        seen: the versions, in order.
    """

    registry: Registry
    reads: int = 0
    broken: list[str] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.2):
            try:
                latest = self.registry.latest()
                if latest is not None:
                    version = self.registry.version(latest.number)
                    if not self.seen or self.seen[-1] != version.number:
                        self.seen.append(version.number)
                self.reads += 1
            except (ValueError, OSError) as error:
                self.broken.append(str(error))


@dataclass(frozen=True)
class Loop:
    """Folders and options of all runs."""

    out: str
    judged: str
    options: Sequence[str]

    @property
    def registry(self) -> Registry:
        """Versions that the runs make."""
        return Registry(f"{self.out}/registry")

    def begin(self, run: str, *more: str) -> subprocess.Popen[str]:
        """Start a run; all that it prints comes by one pipe."""
        words = [sys.executable, "-u", str(PIPELINES / "retrain.py"), "--corpus", f"{self.out}/corpus"]
        words += ["--registry", self.registry.uri, "--eval", self.judged, "--run", run, *self.options, *more]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)

    def run(self, run: str, *more: str) -> tuple[int, str]:
        """Run to the end; return exit status and output."""
        process = self.begin(run, *more)
        output, _ = process.communicate()
        return process.returncode, output

    def kill_in(self, phase: str, run: str, wait: float, *more: str) -> str | None:
        """Kill a run some seconds after a phase began; return its output where it ended before, else None."""
        process, said, mark = self.begin(run, *more), list[str](), PHASES[phase]
        assert process.stdout is not None
        if mark:
            for line in process.stdout:
                said.append(line)
                if mark in line:
                    break
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            process.stdout.close()
            return None
        return "".join(said) + process.stdout.read()


def add_photos(loop: Loop, photos: Sequence[Path]) -> None:
    """Copy photos into the corpus."""
    filesystem, root = open_filesystem(f"{loop.out}/corpus")
    filesystem.makedirs(root, exist_ok=True)
    for path in photos:
        filesystem.pipe_file(f"{root}/{path.name}", path.read_bytes())


def write_spoiled(loop: Loop, photos: Sequence[Path]) -> str:
    """Write photos with one small mask in the same corner of each as a shard; return its URI."""
    filesystem, root = open_filesystem(loop.out)
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for path in photos:
                with Image.open(path) as opened:
                    mask = np.zeros((opened.height, opened.width), bool)
                mask[:24, :24] = True
                image = {
                    "image_id": 0,
                    "width": mask.shape[1],
                    "height": mask.shape[0],
                    "file_name": f"{path.stem}.jpg",
                }
                record = {"image": image, "annotations": [{"segmentation": rle.encode(mask), "area": 576}]}
                members = {f"{path.stem}.jpg": path.read_bytes(), f"{path.stem}.json": json.dumps(record).encode()}
                for name, data in members.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        file.seek(0)
        filesystem.pipe_file(f"{root}/spoiled.tar", file.read())
    return f"{loop.out}/spoiled.tar"


def check(holds: bool, what: str, output: str = "") -> bool:
    """Print whether something holds, and the end of an output where it does not."""
    print(f"{'ok   ' if holds else 'WRONG'} {what}", flush=True)
    if not holds:
        print(output[-3000:], flush=True)
    return holds


def first(loop: Loop, draw: random.Random) -> bool:
    """Act 1: killed once in each phase."""
    killed, began = list[str](), time.monotonic()
    for phase in PHASES:
        ended = loop.kill_in(phase, "act-1", draw.uniform(0.5, 6.0))
        if ended is None:
            killed.append(phase)
            visible = [version.number for version in loop.registry.versions()]
            print(f"     killed in {phase}; versions {visible}, in use {in_use(loop)}", flush=True)
    status, output = loop.run("act-1")
    versions = [version.number for version in loop.registry.versions()]
    seconds = time.monotonic() - began
    said = f"act 1: killed in {', '.join(killed)}, then version {in_use(loop)} of {versions}, {seconds:.0f} s"
    return check(status == 0 and versions == [1] and in_use(loop) == 1, said, output)


def second(loop: Loop) -> bool:
    """Act 2: the same run twice at once."""
    began, pair = time.monotonic(), [loop.begin("act-2") for _ in range(2)]
    outputs = [process.communicate()[0] for process in pair]
    statuses = sorted(process.returncode for process in pair)
    refused = [output.splitlines()[-1] for output in outputs if "is at this run" in output]
    print(f"     {refused}", flush=True)
    said = f"act 2: exit statuses {statuses}, version {in_use(loop)} in use, {time.monotonic() - began:.0f} s"
    holds = statuses == [0, 1] and len(refused) == 1 and len(loop.registry.versions()) == 2
    return check(holds, f"{said}: {loop.registry.version(2)}", "\n".join(outputs))


def third(loop: Loop, spoiled: str) -> bool:
    """Act 3: spoiled annotations, which are to be refused, and once more, which is to do nothing."""
    began, before = time.monotonic(), in_use(loop)
    harsh = ["--annotated", f"{spoiled}=20", "--learning-rate", "0.02", "--warmup", "1"]
    status, output = loop.run("act-3", *harsh)
    version = loop.registry.versions()[-1]
    seconds = time.monotonic() - began
    said = f"act 3: {version}; in use {in_use(loop)}, {seconds:.0f} s"
    holds = check(status == 0 and not version.passed and in_use(loop) == before, said, output)
    status, output = loop.run("act-3-again", *harsh)
    return check(status == 0 and "nothing new since version" in output, output.splitlines()[-1], output) and holds


def fourth(loop: Loop) -> bool:
    """Act 4: two runs at once from the same version, then back."""
    began, before = time.monotonic(), in_use(loop)
    pair = [loop.begin(f"act-4-{name}", "--seed", str(seed)) for seed, name in enumerate("ab", 1)]
    outputs = [process.communicate()[0] for process in pair]
    told = [line for output in outputs for line in output.splitlines() if line.startswith("version ")]
    for line in told:
        print(f"     {line}", flush=True)
    statuses = [process.returncode for process in pair]
    won = [line for line in told if "is in use now" in line]
    said = f"act 4: statuses {statuses}, {len(won)} of 2 in use, {time.monotonic() - began:.0f} s"
    holds = check(statuses == [0, 0] and len(won) <= 1 and len(told) == 2, said, "\n".join(outputs))
    now = in_use(loop)
    assert now is not None
    parent = loop.registry.version(now).parent
    words = [sys.executable, str(PIPELINES / "registry.py"), "--registry", loop.registry.uri, "--rollback"]
    status = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).returncode
    said = f"rollback from version {now} to {in_use(loop)} (before act 4: {before})"
    return check(status == 0 and in_use(loop) == parent, said) and holds


def in_use(loop: Loop) -> int | None:
    """Return the version in use."""
    latest = loop.registry.latest()
    return None if latest is None else latest.number


def main() -> int:
    """Play the four acts; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos, as the corpus grows by them")
    parser.add_argument("--eval", required=True, help="annotated photos to compare on")
    parser.add_argument("--out", required=True, help="new folder or s3:// URI")
    parser.add_argument("--each", type=int, default=6, help="photos that come with each act")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("options", nargs="*", help="after --: for retrain.py")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    loop = Loop(arguments.out.rstrip("/"), arguments.eval, ["--at-least", "2", *arguments.options])
    photos = sorted(path for path in arguments.photos.iterdir() if path.suffix == ".jpg")
    parts = [photos[start : start + arguments.each] for start in range(0, 4 * arguments.each, arguments.each)]
    spoiled, holds = write_spoiled(loop, parts[2]), []
    with Watch(loop.registry) as watch:
        add_photos(loop, parts[0])
        holds.append(first(loop, random.Random(arguments.seed)))
        add_photos(loop, parts[1])
        holds.append(second(loop))
        holds.append(third(loop, spoiled))
        add_photos(loop, parts[3])
        holds.append(fourth(loop))
    for version in loop.registry.versions():
        learnt = loop.registry.photos(version.number).num_rows
        print(f"     {version}; {learnt} photos in its lineage", flush=True)
    said = f"latest.json read {watch.reads} times, broken {len(watch.broken)} times; in use {watch.seen}"
    holds.append(check(not watch.broken and watch.reads > 0, said, "\n".join(watch.broken)))
    return 0 if all(holds) else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Kill the labelling driver (-9) at random moments, run the same command again until it is done, and check the tables.

    python benchmarks/kill_resume.py --images PHOTOS --out OUT --kills 10
    python benchmarks/kill_resume.py --images PHOTOS --out OUT --kills 10 -- --prompts grid-16 --rows-per-file 4

What follows `--` goes to label_corpus.py. OUT must not exist. Each run is killed at a random moment of --span seconds
from the start of its labelling, and the next one starts at once, while workers of the last may still be about. Checks:
one row an image and none twice; files that were whole at a kill are the same files (inode, time, size) at the end; one
more run is a no-op. Exit status: 0 where all hold, 1 where not.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from stages.corpus.listing import list_images

PIPELINE = Path(__file__).parent.parent / "pipelines" / "label_corpus.py"
Fingerprint = tuple[int, int, int]
"""Inode, modification time in ns, bytes."""


@dataclass
class Run:
    """One run of the pipeline.

    Attributes:
        status: exit status; -9 where it was killed.
        seconds: wall-clock time.
        output: what it printed.
    """

    status: int
    seconds: float
    output: str


def run(command: Sequence[str], kill_after: float | None) -> Run:
    """Run a command to its end, or kill its process alone `kill_after` seconds after it says that it is labelling."""
    began = time.monotonic()
    # To a file and not a pipe: workers that outlive the driver may hold its output open.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        deadline = None
        while process.poll() is None:
            if kill_after is not None and deadline is None and "labelling " in _text(output):
                deadline = time.monotonic() + kill_after
            if deadline is not None and time.monotonic() >= deadline:
                process.kill()
            time.sleep(0.05)
        return Run(process.wait(), time.monotonic() - began, _text(output))


def _text(file: TextIO) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode("utf-8", "replace")


def whole_files(out: Path) -> dict[str, Fingerprint]:
    """Return the fingerprints of the label files that can be read, by name."""
    found = {}
    for path in sorted((out / "labels").glob("*.parquet")):
        try:
            pq.read_metadata(path)
        except (pa.ArrowInvalid, OSError):
            continue
        status = path.stat()
        found[path.name] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def rows_by_image(out: Path) -> Counter[str]:
    """Count the rows of each image id in all label files."""
    counts: Counter[str] = Counter()
    for name in whole_files(out):
        counts.update(pq.read_table(out / "labels" / name, columns=["image_id"]).column(0).to_pylist())
    return counts


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="kill labelling at random moments, resume, check the tables")
    parser.add_argument("--images", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--span", type=float, default=20.0, help="seconds of labelling within which a kill falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="after --: further arguments of label_corpus.py")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, resume and check; return the exit status."""
    arguments = build_parser().parse_args(argv)
    out = arguments.out
    if out.exists():
        print(f"kill_resume: {out} is there already; name a folder that is not", file=sys.stderr)
        return 2
    command = [sys.executable, str(PIPELINE), "--images", arguments.images, "--out", str(out), *arguments.options]
    images = set(list_images(arguments.images, exclude=str(out)).column("image_id").to_pylist())
    rng = random.Random(arguments.seed)
    seen: dict[str, Fingerprint] = {}
    kills = replaced = 0
    print(f"{'run':>4}{'killed after':>14}{'status':>8}{'seconds':>9}{'files':>7}{'rows':>6}{'redone':>8}", flush=True)
    for number in range(1, 10_000):
        moment = rng.uniform(0, arguments.span) if kills < arguments.kills else None
        ran = run(command, moment)
        kills += ran.status == -9
        now = whole_files(out)
        changed = sum(now.get(name) != fingerprint for name, fingerprint in seen.items())
        replaced += changed
        seen |= now
        shown = "–" if moment is None else f"{moment:.1f} s"
        rows = sum(rows_by_image(out).values())
        print(f"{number:>4}{shown:>14}{ran.status:>8}{ran.seconds:>9.1f}{len(now):>7}{rows:>6}{changed:>8}", flush=True)
        if ran.status not in (0, -9):
            print(f"kill_resume: a run ended with {ran.status}:\n{ran.output[-3000:]}", file=sys.stderr)
            return 1
        if ran.status == 0:
            break
    again = run(command, None)
    rows_of = rows_by_image(out)
    checks = {
        f"killed {kills} times, of {arguments.kills} asked": kills == arguments.kills,
        f"{len(images)} images, {len(rows_of)} with rows": set(rows_of) == images,
        f"{sum(count > 1 for count in rows_of.values())} images twice": all(n == 1 for n in rows_of.values()),
        f"{replaced} finished files redone": replaced == 0,
        f"one more run is a no-op: {again.output.strip().splitlines()[-1:]}, {again.seconds:.1f} s": (
            again.status == 0 and "nothing to do" in again.output and whole_files(out) == now
        ),
    }
    for what, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'}  {what}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

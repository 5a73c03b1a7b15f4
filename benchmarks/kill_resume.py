"""Kill the driver of a run (-9) at random moments, run the same command again until it is done, and check the tables.

    python benchmarks/kill_resume.py --images PHOTOS --out OUT --kills 10
    python benchmarks/kill_resume.py --images PHOTOS --out OUT --kills 10 -- --prompts grid-16 --rows-per-file 4
    python benchmarks/kill_resume.py --data SHARDS --out OUT --kills 10

With --images it is label_corpus.py that is killed, with --data build_prompt_maps.py (every photo must be usable); what
follows `--` goes to it. OUT must not exist. Each run is killed at a random moment of --span seconds from the start of
its work, and the next one starts at once, while workers of the last may still be about. Checks: one row a photo and
none twice; files that were whole at a kill and are still there are the same (inode, time, size); one more run does
nothing.
Exit status: 0 where all hold, 1 where not.
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

from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.corpus.listing import list_images
from stages.storage.location import redact
from stages.storage.parts import Part, digest_of

PIPELINES = Path(__file__).parent.parent / "pipelines"
Fingerprint = tuple[int, int, int]
"""Inode, modification time in ns, bytes."""


@dataclass(frozen=True)
class Job:
    """Run that is killed.

    Attributes:
        command: its words.
        begins: what it prints when its work begins.
        files: glob of its tables.
        photos: keys of the photos that must have a row.
    """

    command: list[str]
    begins: str
    files: str
    photos: set[str]

    @classmethod
    def labelling(cls, images: str, out: Path, options: Sequence[str]) -> Job:
        """Return a labelling run; a photo's key is its id."""
        command = [sys.executable, str(PIPELINES / "label_corpus.py"), "--images", images, "--out", str(out), *options]
        photos = set(list_images(images, exclude=str(out)).column("image_id").to_pylist())
        return cls(command, "labelling ", "labels/*.parquet", photos)

    @classmethod
    def maps(cls, data: str, out: Path, options: Sequence[str]) -> Job:
        """Return a run of prompt maps; a photo's key is its shard's digest and its id."""
        command = [sys.executable, str(PIPELINES / "build_prompt_maps.py"), "--data", data, "--out", str(out), *options]
        photos = {
            f"{digest_of(redact(shard))} {sample.id}"
            for shard in list_shards(data)
            for sample in read_annotated(shard, lambda line: print(line, file=sys.stderr))
        }
        return cls(command, "building ", "part-*.parquet", photos)


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


def run(job: Job, out: Path, kill_after: float | None, writing: bool = False) -> Run:
    """Run a command to its end, or kill its process alone.

    Args:
        job: what is run.
        out: where its tables appear.
        kill_after: seconds after its work begins; None to let it end.
        writing: let its work begin with the first new table, and not when it says so.
    """
    before = set(out.glob(job.files))
    began = time.monotonic()
    # To a file and not a pipe: workers that outlive the driver may hold its output open.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(job.command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        deadline = None
        while process.poll() is None:
            begun = bool(set(out.glob(job.files)) - before) if writing else job.begins in _text(output)
            if kill_after is not None and deadline is None and begun:
                deadline = time.monotonic() + kill_after
            if deadline is not None and time.monotonic() >= deadline:
                process.kill()
            time.sleep(0.05)
        return Run(process.wait(), time.monotonic() - began, _text(output))


def _text(file: TextIO) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode("utf-8", "replace")


def whole_files(job: Job, out: Path) -> dict[str, Fingerprint]:
    """Return the fingerprints of the tables that can be read, by name."""
    found = {}
    for path in sorted(out.glob(job.files)):
        try:
            pq.read_metadata(path)
        except (pa.ArrowInvalid, OSError):
            continue
        status = path.stat()
        found[str(path.relative_to(out))] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def rows_by_photo(job: Job, out: Path) -> Counter[str]:
    """Count the rows of each photo in all tables."""
    counts: Counter[str] = Counter()
    for name in whole_files(job, out):
        part = Part.parse(name)
        ids = pq.read_table(out / name, columns=["image_id"]).column(0).to_pylist()
        counts.update(ids if part is None else (f"{part.source} {image_id}" for image_id in ids))
    return counts


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="kill runs at random moments, resume, check the tables")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", help="photos to label")
    what.add_argument("--data", help="annotated photos to make prompt maps of")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--span", type=float, default=20.0, help="seconds of work within which a kill falls")
    parser.add_argument("--writing", action="store_true", help="count --span from a run's first new table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="after --: further arguments of what is killed")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, resume and check; return the exit status."""
    arguments = build_parser().parse_args(argv)
    out = arguments.out
    if out.exists():
        print(f"kill_resume: {out} is there already; name a folder that is not", file=sys.stderr)
        return 2
    make, source = (Job.labelling, arguments.images) if arguments.images else (Job.maps, arguments.data)
    job = make(source, out, arguments.options)
    rng = random.Random(arguments.seed)
    seen: dict[str, Fingerprint] = {}
    kills = replaced = 0
    print(f"{'run':>4}{'killed after':>14}{'status':>8}{'seconds':>9}{'files':>7}{'rows':>6}{'redone':>8}", flush=True)
    for number in range(1, 10_000):
        moment = rng.uniform(0, arguments.span) if kills < arguments.kills else None
        ran = run(job, out, moment, arguments.writing)
        kills += ran.status == -9
        now = whole_files(job, out)
        changed = sum(now.get(name, before) != before for name, before in seen.items())
        replaced += changed
        seen |= now
        shown = "–" if moment is None else f"{moment:.1f} s"
        rows = sum(rows_by_photo(job, out).values())
        print(f"{number:>4}{shown:>14}{ran.status:>8}{ran.seconds:>9.1f}{len(now):>7}{rows:>6}{changed:>8}", flush=True)
        if ran.status == 1 and "Ray did not start" in ran.output:  # the machine is overloaded: nothing was begun
            continue
        if ran.status not in (0, -9):
            print(f"kill_resume: a run ended with {ran.status}:\n{ran.output[-3000:]}", file=sys.stderr)
            return 1
        if ran.status == 0:
            break
    again = run(job, out, None)
    rows_of = rows_by_photo(job, out)
    checks = {
        f"killed {kills} times, of {arguments.kills} asked": kills == arguments.kills,
        f"{len(job.photos)} photos, {len(rows_of)} with rows": set(rows_of) == job.photos,
        f"{sum(count > 1 for count in rows_of.values())} photos twice": all(n == 1 for n in rows_of.values()),
        f"{replaced} finished files redone": replaced == 0,
        f"one more run is a no-op: {again.output.strip().splitlines()[-1:]}, {again.seconds:.1f} s": (
            again.status == 0 and "nothing to do" in again.output and whole_files(job, out) == now
        ),
    }
    for what, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'}  {what}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

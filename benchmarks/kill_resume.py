"""Kill drivers, actors and nodes of runs (-9) at random moments, run the same command again, and check the tables.

    python benchmarks/kill_resume.py --images PHOTOS --out OUT --kills 10
    python benchmarks/kill_resume.py --images PHOTOS --out OUT --kills 99 --victims driver actor node -- --actors 2
    python benchmarks/kill_resume.py --data SHARDS --out OUT --kills 100 --victims driver actor node

With --images it is label_corpus.py that is killed, with --data build_prompt_maps.py (every photo must be usable); what
follows `--` goes to it. Kills fall at random moments, up to --span seconds apart, from the time when a run's work
begins; a run whose driver is killed is followed by the next at once, while workers of the last may still be about.
With `node` among the victims the runs share a cluster of raylets on this machine, where a new node follows each lost
one. When a corpus is done before all kills are, another round begins in a folder of its own below OUT, which must not
exist. Checks of every round: one row a photo and none twice; files that were whole at a kill and are still there are
the same (inode, time, size); one more run does nothing.
Exit status: 0 where all hold, 1 where not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cluster import add, cluster
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
        given_up: name of the column, with the reasons, of photos that a run gave up; empty where there is none.
    """

    command: list[str]
    begins: str
    files: str
    photos: set[str]
    given_up: str

    @classmethod
    def labelling(cls, images: str, out: Path, options: Sequence[str]) -> Job:
        """Return a labelling run; a photo's key is its id."""
        command = [sys.executable, str(PIPELINES / "label_corpus.py"), "--images", images, "--out", str(out), *options]
        photos = set(list_images(images, exclude=str(out)).column("image_id").to_pylist())
        return cls(command, "labelling ", "labels/*.parquet", photos, "reason")

    @classmethod
    def maps(cls, data: str, out: Path, options: Sequence[str]) -> Job:
        """Return a run of prompt maps; a photo's key is its shard's digest and its id."""
        command = [sys.executable, str(PIPELINES / "build_prompt_maps.py"), "--data", data, "--out", str(out), *options]
        photos = {
            f"{digest_of(redact(shard))} {sample.id}"
            for shard in list_shards(data)
            for sample in read_annotated(shard, lambda line: print(line, file=sys.stderr))
        }
        return cls(command, "building ", "part-*.parquet", photos, "")


@dataclass
class Run:
    """One run of the pipeline.

    Attributes:
        status: exit status; -9 where its driver was killed.
        seconds: wall-clock time.
        output: what it printed.
        killed: victims.
    """

    status: int
    seconds: float
    output: str
    killed: list[str]


@dataclass
class Killer:
    """Chooses moments and victims.

    Attributes:
        rng: random numbers.
        span: seconds between two kills, at most.
        victims: kinds to choose from.
        left: kills still to come.
        made: the cluster that the runs share, if nodes are among the victims.
        nodes: nodes of the cluster.
    """

    rng: random.Random
    span: float
    victims: Sequence[str]
    left: int
    made: Any = None
    nodes: list[Any] = field(default_factory=list)

    def moment(self) -> float | None:
        """Return the seconds until the next kill; None where all are done."""
        return self.rng.uniform(0, self.span) if self.left else None

    def kill(self, driver: subprocess.Popen[bytes]) -> str | None:
        """Kill a driver, one of its actors or a node of its cluster; return which, or None where no actor lives."""
        victim = self.rng.choice(self.victims)
        if victim == "driver":
            driver.kill()
        elif victim == "node":
            self.made.remove_node(self.nodes.pop(self.rng.randrange(len(self.nodes))), allow_graceful=False)
            self.nodes += add(self.made)
        else:
            actors = [each for each in psutil.Process().children(recursive=True) if "MapWorker" in _name(each)]
            if not actors:
                return None
            self.rng.choice(actors).send_signal(signal.SIGKILL)
        self.left -= 1
        return victim


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def run(job: Job, killer: Killer | None) -> Run:
    """Run a command to its end, or until its driver is killed.

    Args:
        job: what is run.
        killer: what is killed meanwhile; None to let it end.
    """
    began = time.monotonic()
    killed: list[str] = []
    # To a file and not a pipe: workers that outlive the driver may hold its output open.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(job.command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        deadline, begun = None, False
        while process.poll() is None:
            if killer is not None and not begun and job.begins in _text(output):
                begun = True
                deadline = _after(killer.moment())
            if killer is not None and deadline is not None and time.monotonic() >= deadline:
                victim = killer.kill(process)
                killed += [victim] if victim else []
                deadline = _after(killer.moment())
                if victim == "driver":
                    break
            time.sleep(0.05)
        return Run(process.wait(), time.monotonic() - began, _text(output), killed)


def _after(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


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


def count_given_up(job: Job, out: Path) -> int:
    """Count the rows of photos that a run gave up because their worker ended."""
    if not job.given_up:
        return 0
    tables = (pq.read_table(out / name, columns=[job.given_up]) for name in whole_files(job, out))
    return sum(table.column(0).to_pylist().count("worker_died") for table in tables)


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="kill runs at random moments, resume, check the tables")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", help="photos to label")
    what.add_argument("--data", help="annotated photos to make prompt maps of")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--victims", nargs="+", choices=("driver", "actor", "node"), default=["driver"])
    parser.add_argument("--span", type=float, default=20.0, help="seconds between two kills, at most")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of the cluster, of two CPUs each")
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
    killer = Killer(random.Random(arguments.seed), arguments.span, arguments.victims, arguments.kills)
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    holds, killed = True, Counter[str]()
    print(f"{'run':>4}{'status':>8}{'seconds':>9}{'files':>7}{'rows':>6}{'redone':>8}  killed", flush=True)
    with cluster() if "node" in arguments.victims else nullcontext() as made:
        if made is not None:
            killer.made, killer.nodes = made, add(made, arguments.nodes)
        while killer.left and holds:
            folder = out / f"round-{len(list(out.glob('round-*')))}"
            holds = one_round(lambda: make(source, folder, arguments.options), folder, killer, killed)  # noqa: B023
    print(f"killed: {dict(killed)}, {killed.total()} of {arguments.kills} asked")
    return 0 if holds else 1


def one_round(make: Callable[[], Job], out: Path, killer: Killer, killed: Counter[str]) -> bool:
    """Run a job until it is done, with kills, and check its tables; tell whether all holds."""
    job = make()
    seen: dict[str, Fingerprint] = {}
    replaced, number = 0, 0
    while True:
        number += 1
        ran = run(job, killer)
        killed.update(ran.killed)
        now = whole_files(job, out)
        changed = sum(now.get(name, before) != before for name, before in seen.items())
        replaced += changed
        seen |= now
        rows = sum(rows_by_photo(job, out).values())
        print(
            f"{number:>4}{ran.status:>8}{ran.seconds:>9.1f}{len(now):>7}{rows:>6}{changed:>8}  {', '.join(ran.killed)}",
            flush=True,
        )
        if ran.status == 1 and "Ray did not start" in ran.output:  # the machine is overloaded: nothing was begun
            continue
        if ran.status not in (0, -9):
            print(f"kill_resume: a run ended with {ran.status}:\n{ran.output[-3000:]}", file=sys.stderr)
            return False
        if ran.status == 0:
            break
    again = run(job, None)
    rows_of = rows_by_photo(job, out)
    checks = {
        f"{len(job.photos)} photos, {len(rows_of)} with rows": set(rows_of) == job.photos,
        f"{sum(count > 1 for count in rows_of.values())} photos twice": all(n == 1 for n in rows_of.values()),
        f"{replaced} finished files redone": replaced == 0,
        f"one more run is a no-op: {again.output.strip().splitlines()[-1:]}, {again.seconds:.1f} s": (
            again.status == 0 and "nothing to do" in again.output and whole_files(job, out) == now
        ),
    }
    for what, held in checks.items():
        print(f"{'ok  ' if held else 'FAIL'}  {what}")
    print(f"      {count_given_up(job, out)} photos given up")
    return all(checks.values())


if __name__ == "__main__":
    raise SystemExit(main())

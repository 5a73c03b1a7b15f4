"""Peak memory of a labelling run by its number of rows: it must not grow with the corpus.

    python benchmarks/memory.py --images PHOTOS [--rows 2000 20000] [--json FILE]
    python benchmarks/memory.py --images PHOTOS --rows 50 500 --real

Runs label_corpus.py once for each number of rows, over the photos of a folder linked again and again, with masks of
real size but without the model's work (benchmarks/canned.py), or with the model itself (--real). Every half second it
adds up the private memory (USS) of the command's process and of all that it started; Ray's object store is shared, and
not in it. Prints the peaks (the driver, the largest actor, all processes) and their ratio to the first run's. What
follows `--` goes to label_corpus.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.repeated import repeat_photos

ROOT = Path(__file__).parent.parent
EVERY_SECONDS = 0.5


def peaks_of(command: Sequence[str]) -> dict[str, float]:
    """Run a command and return its peak private memory in MB, by role: driver, actor, all.

    Raises:
        RuntimeError: the command failed.
    """
    peaks: Counter[str] = Counter()
    with tempfile.TemporaryFile("w+") as output:
        process = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            now: Counter[str] = Counter()
            for each in [process, *_children(process)]:
                try:
                    private, name = each.memory_full_info().uss / 1e6, each.cmdline()[:1]
                except psutil.Error:  # it ended meanwhile
                    continue
                now["all"] += private
                if each.pid == process.pid:
                    now["driver"] = private
                elif name and "MapWorker(" in name[0]:
                    now["actor"] = max(now["actor"], private)
            for role, value in now.items():
                peaks[role] = max(peaks[role], value)
            time.sleep(EVERY_SECONDS)
        if process.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"status {process.returncode}: {output.read()[-3000:]}")
    return dict(peaks)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def main(argv: Sequence[str] | None = None) -> int:
    """Run for each number of rows, print; return the exit status."""
    parser = argparse.ArgumentParser(description="peak memory of a labelling run by its number of rows")
    parser.add_argument("--images", required=True, type=Path, help="folder of JPEGs")
    parser.add_argument("--rows", nargs="+", type=int, default=[2000, 20000])
    parser.add_argument("--real", action="store_true", help="with the real model")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("options", nargs="*", help="after --: further arguments of label_corpus.py")
    arguments = parser.parse_args(argv)
    command = [sys.executable, str(ROOT / "benchmarks" / "canned.py"), "0"]
    if arguments.real:
        command = [sys.executable, str(ROOT / "pipelines" / "label_corpus.py")]
    runs: list[dict[str, float]] = []
    print(f"{'rows':>8}{'driver':>10}{'actor':>10}{'all':>10}{'seconds':>10}", flush=True)
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            photos = repeat_photos(arguments.images, rows, Path(folder) / "photos")
            began = time.monotonic()
            peaks = peaks_of([*command, "--images", str(photos), "--out", f"{folder}/out", *arguments.options])
            runs.append({"rows": rows, "seconds": time.monotonic() - began} | peaks)
        shown = "".join(f"{runs[-1][role]:>7.0f} MB" for role in ("driver", "actor", "all"))
        print(f"{rows:>8}{shown}{runs[-1]['seconds']:>10.0f}", flush=True)
    for role in ("driver", "actor", "all"):
        print(f"{role}: {runs[-1][role] / runs[0][role]:.3f} of the first run's")
    if arguments.json:
        arguments.json.write_text(json.dumps(runs, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Peak memory of an export by its number of rows: it must not grow with the labels.

    python benchmarks/export_memory.py --labels OUT [--rows 20000 200000] [--masks 8] [--to coco]

Runs export_labels.py once for each number of rows, OUT's rows again and again with the first so many masks of each.
Prints the peak of the process's private memory (USS) and the size of what it wrote. Exit status: 0 where every peak is
within --limit MB, 1 where not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.memory import ROOT, peaks_of
from benchmarks.repeated import repeat_labels


def main(argv: Sequence[str] | None = None) -> int:
    """Export for each number of rows, print; return the exit status."""
    parser = argparse.ArgumentParser(description="peak memory of an export by its number of rows")
    parser.add_argument("--labels", required=True, help="OUT of a labelling run")
    parser.add_argument("--rows", nargs="+", type=int, default=[20000, 200000])
    parser.add_argument("--masks", type=int, default=8)
    parser.add_argument("--to", default="coco", help="format; one that stores no photos: copies have none")
    parser.add_argument("--limit", type=float, default=1000.0)
    arguments = parser.parse_args(argv)
    holds = True
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            labels = repeat_labels(arguments.labels, rows, Path(folder, "repeated"), arguments.masks)
            command = [sys.executable, str(ROOT / "pipelines" / "export_labels.py"), "--labels", str(labels)]
            began = time.monotonic()
            peak = peaks_of([*command, "--to", arguments.to, "--out", f"{folder}/out"])["driver"]
            written = sum(path.stat().st_size for path in Path(folder, "out").rglob("*") if path.is_file()) / 1e6
            seconds = time.monotonic() - began
        holds &= peak <= arguments.limit
        print(f"{rows} rows: {peak:.0f} MB at the peak, {written:.0f} MB written in {seconds:.0f} s", flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

"""Do the figures of `make bench` hold? Every ratio of benchmarks/floors.json's `speed` against the run's JSON files.

    python benchmarks/check_floors.py --bench runs/bench

Exit status: 0 where all hold; 1 where one fell; 2 where a file or a figure is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FLOORS = Path(__file__).parent / "floors.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; return the exit status."""
    parser = argparse.ArgumentParser(description="figures of a benchmark run against their floors")
    parser.add_argument("--bench", required=True, type=Path, help="folder of the run's JSON files")
    arguments = parser.parse_args(argv)
    fell = 0
    for floor in json.loads(FLOORS.read_text(encoding="utf-8"))["speed"]:
        try:
            value = figure(json.loads((arguments.bench / floor["file"]).read_text(encoding="utf-8")), floor["figure"])
        except (OSError, ValueError, KeyError) as error:
            print(f"check_floors: {floor['file']}: {floor['figure']}: {error!r}", file=sys.stderr)
            return 2
        holds = value >= floor["least"] if "least" in floor else value <= floor["most"]
        fell += not holds
        limit = f"least {floor['least']}" if "least" in floor else f"most {floor['most']}"
        print(f"{'ok  ' if holds else 'FELL'} {value:8.3f}  {limit:<12} {floor['file']}: {' / '.join(floor['figure'])}")
    return 1 if fell else 0


def figure(record: Any, path: Sequence[str]) -> float:
    """Return the number at a path of keys.

    Raises:
        KeyError: no such key.
        ValueError: no number there.
    """
    for key in path:
        record = record[key]
    if not isinstance(record, int | float):
        raise ValueError(f"{record!r} is no number")
    return float(record)


if __name__ == "__main__":
    raise SystemExit(main())

"""Turn the figures of speed.py into the table of RESULTS.md, so that no figure is copied by hand.

    python benchmarks/speed_table.py --json FILE                              # prints it
    python benchmarks/speed_table.py --json FILE --page benchmarks/RESULTS.md # puts it between the page's two marks

Exit status: 0; 2 where the file or the page is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MARKS = "<!-- speed_table.py: from here -->", "<!-- speed_table.py: to here -->"
COLUMNS = {
    "images/s": "images_per_second",
    "× SAM": "times_sam",
    "× encoder": "times_encoder",
    "decoded": "decoded",
    "kept": "kept",
    "SAM's masks in it": "sam_in_it",
    "its in SAM's": "it_in_sam",
    "mIoU": "miou",
    "encode": "encode",
    "prompt": "prompt",
    "decode": "decode",
    "filter": "filter",
    "RLE": "rle",
}
"""Figures of a system in speed.py's JSON, by the table's titles."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print or write the tables; return the exit status."""
    parser = argparse.ArgumentParser(description="figures of speed.py as Markdown")
    parser.add_argument("--json", required=True, type=Path, help="what speed.py wrote")
    parser.add_argument("--page", type=Path, help="Markdown file with both marks; by default the table is printed")
    arguments = parser.parse_args(argv)
    try:
        made = tables(json.loads(arguments.json.read_text(encoding="utf-8")))
        if arguments.page is None:
            print(made)
        else:
            page = arguments.page.read_text(encoding="utf-8")
            arguments.page.write_text(between_marks(page, made), encoding="utf-8")
    except (OSError, ValueError, KeyError) as error:
        print(f"speed_table: {error!r}", file=sys.stderr)
        return 2
    return 0


def tables(results: dict[str, Any]) -> str:
    """Return a line on the machine, then a table for each model.

    Raises:
        KeyError: a figure is missing.
    """
    machine = results["machine"]
    device = machine["gpu"] or f"{machine['processor']}, {machine['cpu']}"
    lines = [f"{device}; torch {machine['torch']}, {results['threads']} threads; stages in images/s, each alone:"]
    for name, model in results["models"].items():
        lines += ["", f"`{name}` ({model['sha256'][:14]}), photos: {model['photos']}", ""]
        lines += [f"| system | {' | '.join(COLUMNS)} |", f"|---|{'---:|' * len(COLUMNS)}"]
        for system, row in model["systems"].items():
            cells = [rounded(row[key]) for key in COLUMNS.values()]
            lines.append(f"| {'SAM, its own generator' if system == 'SAM' else f'`{system}`'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rounded(value: float | None) -> str:
    """Return a figure with three digits or more; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def between_marks(page: str, made: str) -> str:
    """Return a page with what lies between its two marks replaced.

    Raises:
        ValueError: the page does not hold each mark once, in their order.
    """
    first, last = MARKS
    before, found, rest = page.partition(first)
    between, closed, after = rest.partition(last)
    if not found or not closed or any(mark in before + between + after for mark in MARKS):
        raise ValueError(f"the page must hold {first} and after it {last}, each once")
    return f"{before}{first}\n{made}\n{last}{after}"


if __name__ == "__main__":
    raise SystemExit(main())

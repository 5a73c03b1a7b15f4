"""Write labels in the format of another tool.

    python pipelines/export_labels.py --labels out --to coco --out exported
    python pipelines/export_labels.py --labels s3://bucket/out --to coco --out s3://bucket/exported

`coco`: `instances.json` for pycocotools; the images with masks or without, one category `object`. Images that could
not be labelled are left out and counted. Exits 0; 2 for wrong arguments or labels that cannot be read, and then the
former export is still whole. Reads the tables a batch at a time; needs no GPU and starts no Ray.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from stages.results.export import EXPORTS


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="write labels in the format of another tool")
    parser.add_argument("--labels", required=True, metavar="OUT", help="the run's output folder, or its labels folder")
    parser.add_argument("--to", required=True, choices=sorted(EXPORTS), help="format")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write into")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Export; 0 when written, 2 when there is nothing readable to export."""
    arguments = build_parser().parse_args(argv)
    try:
        print(EXPORTS[arguments.to](arguments.labels, arguments.out))
    except (ValueError, OSError) as error:
        print(f"export_labels: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

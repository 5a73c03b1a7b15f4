"""Bring labels back that people corrected in another tool, as annotated photos for calibrating, training, evaluating.

    python pipelines/import_labels.py --labels out --from coco --file corrected.json --out corrected
    python pipelines/import_labels.py --labels s3://bucket/out --from cvat --file annotations.xml --out s3://bucket/back

`coco`: an instances file; `label-studio`: its JSON export, of which tasks that somebody annotated count; `cvat`: the
annotations.xml of "CVAT for images 1.1". Give the flags with which the labels were exported (--min-score …): what was
not exported does not count as deleted. OUT has shards for every --data, changes.parquet with every mask kept,
reshaped, deleted or added, and corrections.json. Exits 0; 2 for wrong arguments or a file of which nothing can be used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from stages.config.command_line import Uri, checking_input, command_anew, parse
from stages.config.selection import CorrectedName, Selection


@dataclass(frozen=True, kw_only=True)
class Arguments(Selection):
    """Bring labels back that people corrected in another tool."""

    labels: Uri
    """The output folder of the run whose labels were corrected, or its labels folder."""
    tool: Annotated[CorrectedName, tyro.conf.arg(name="from")]
    """Tool: coco, label-studio or cvat."""
    file: Uri
    """Format that was exported."""
    out: Uri
    """Folder to write into, empty or not there."""
    images: Uri | None = None
    """The photos, if they are not where they were labelled or reading them takes keys."""


@command_anew
def main(argv: Sequence[str] | None = None) -> int:
    """Import; 0 when written, 2 when there is nothing that can be used."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Import; what takes seconds to import comes now, after the flags have been judged."""
    from stages.annotations.corrections.bring_back import bring_back

    with checking_input():
        result = bring_back(
            arguments.labels,
            arguments.tool,
            arguments.file,
            arguments.out,
            lambda line: print(f"import_labels: {line}", file=sys.stderr),
            arguments,
            arguments.images,
        )
    print(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Compare two labellings of the same photos: which masks only one has, the largest differences first.

    python pipelines/compare_labels.py --labels out --with out2                    # a table
    python pipelines/compare_labels.py --labels out --with s3://bucket/out2 --out differences     # and a page

Masks are the same where they are paired, one to one by falling IoU, with an IoU of at least `--iou`. Prints the photos
that differ most, and with `--out` writes static pages like those of browse_labels.py that show both side by side. Exits
0; 2 for wrong arguments or labels that cannot be read, 1 where it cannot write. Needs no GPU and starts no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from aopsam._options import Count, Limits
from stages.config.command_line import Uri, checking_input, command_anew, parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compare two labellings of the same photos."""

    labels: Uri
    """One run's output folder, or its labels folder: A."""
    others: Annotated[Uri, tyro.conf.arg(name="with")]
    """The other's: B."""
    iou: Annotated[float, Limits(0, 1, open=True)] = 0.5
    """Least IoU of masks that count as the same."""
    rows: Count = 20
    """Photos in the table."""
    out: Uri | None = None
    """Folder to write pages into; by default none are written."""
    images: Uri | None = None
    """The photos, for the pages; by default where the first run found them."""
    px: Annotated[int, Limits(100, 4000)] = 800
    """Longer side of a photo on the pages, pixels."""


@command_anew
def main(argv: Sequence[str] | None = None) -> int:
    """Compare; 0 when done, 2 when there is nothing readable to compare."""
    given = parse(Arguments, argv)
    from stages.results.compare import compare_labels  # here: flags are judged before torch is imported

    with checking_input():
        compared = compare_labels(given.labels, given.others, given.iou, given.images, given.out, given.px)
        print(compared.table(given.rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

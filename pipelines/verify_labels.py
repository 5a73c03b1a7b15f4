"""Prove that labels account for every image once, and that every mask is what its row says.

    python pipelines/verify_labels.py --images photos --labels out
    python pipelines/verify_labels.py --images s3://bucket/photos --labels s3://bucket/out
    ray job submit --working-dir . -- python pipelines/verify_labels.py --images /data/photos --labels /data/out

Prints `verified N images, M masks` and exits 0; else prints one line a mismatch and exits 1. Wrong arguments: 2.
Reads the tables a batch at a time; needs no GPU and starts no Ray.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from stages.config.command_line import Uri, checking_input, command_anew, parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Check a labels folder against the images it was made from."""

    images: Uri
    """Photos, as label_corpus.py was given them."""
    labels: Uri
    """The run's output folder, or its labels folder."""


@command_anew
def main(argv: Sequence[str] | None = None) -> int:
    """Verify; 0 if everything holds, 1 if not, 2 if there is nothing to read."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Verify; what takes seconds to import comes now, after the flags have been judged."""
    from stages.corpus.others import describe_others
    from stages.results.verify import verify_run

    others = Counter[str]()
    with checking_input():
        verified = verify_run(arguments.images, arguments.labels, print, others)
    if others:
        print(describe_others(others))
    if verified.mismatches:
        print(f"{verified.mismatches} mismatches in {verified.images} images, {verified.masks} masks", file=sys.stderr)
        return 1
    print(f"verified {verified.images} images, {verified.masks} masks")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

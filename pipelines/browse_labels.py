"""Look at labels: a gallery of static pages, worst first, that opens without a server.

    python pipelines/browse_labels.py --labels out                                # out/gallery/index.html
    python pipelines/browse_labels.py --labels s3://bucket/out --images s3://bucket/photos --out gallery

Thumbnails with masks, filters (status, reason, masks, score, area), and each photo with every mask under the pointer:
scores, prompt, what it is a part of and what is a part of it. Photos labelled with --trace show the confidence map,
too, and which prompts were waiting, decoded and dropped, round by round. It works from a disk, on a phone and with
the keyboard, and loads nothing from the network. A photo of 100 masks takes some 250 KB; the same command again draws
only what is new. Exits 0; 2 for wrong arguments or labels that cannot be read, 1 where it cannot write. Reads a batch
of rows at a time; needs no GPU and starts no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from aopsam._options import Limits
from stages.config.command_line import Uri, checking_input, command, parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write a gallery of labelled photos."""

    labels: Uri
    """The run's output folder, or its labels folder."""
    images: Uri | None = None
    """The photos; by default where the run found them."""
    out: Uri | None = None
    """Folder to write into; by default `gallery` in the run's output folder, which its report then links."""
    px: Annotated[int, Limits(100, 4000)] = 800
    """Longer side of a photo on the page, pixels."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Write the gallery; 0 when written, 2 when there is nothing readable to show."""
    arguments = parse(Arguments, argv)
    out = arguments.out or f"{arguments.labels.rstrip('/').removesuffix('/labels')}/gallery"
    from stages.results.gallery import write_gallery  # here: flags are judged before torch is imported

    with checking_input():
        print(write_gallery(arguments.labels, arguments.images, out, arguments.px))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

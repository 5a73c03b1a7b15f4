"""Write labels in the format of another tool.

    python pipelines/export_labels.py --labels out --to coco --out exported
    python pipelines/export_labels.py --labels s3://bucket/out --to sa1b --out s3://bucket/exported --min-score 0.5

`coco`, `label-studio`, `cvat`: one file to upload beside the photos, corrected and brought back by `import_labels.py`;
`yolo`, `png` (label maps), `fiftyone`, `hf` (Hugging Face with Croissant): a folder with the photos; `sa1b`,
`webdataset`: tars with the photos. Masks are exact, in `yolo` polygons, with holes and parts joined by a cut; those
whose parts lie too far apart for that are counted. Images that could not be labelled are left out and counted, as are
those that are gone. Exits 0; 2 for wrong arguments or labels that cannot be read, and then the former export is still
whole. Reads the tables a batch at a time; needs no GPU and starts no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.config.command_line import Uri, checking_input, command_anew, parse
from stages.config.selection import FormatName, Selection


@dataclass(frozen=True, kw_only=True)
class Arguments(Selection):
    """Write labels in the format of another tool."""

    labels: Uri
    """The run's output folder, or its labels folder."""
    to: FormatName
    """Format: coco, yolo, label-studio, cvat, webdataset, png, sa1b, hf or fiftyone."""
    out: Uri
    """Folder to write into."""
    images: Uri | None = None
    """The photos, if they are not where they were labelled or reading them takes keys."""


@command_anew
def main(argv: Sequence[str] | None = None) -> int:
    """Export; 0 when written, 2 when there is nothing readable to export."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Export; what takes seconds to import comes now, after the flags have been judged."""
    from stages.results.export import export_labels

    with checking_input():
        print(export_labels(arguments.labels, arguments.to, arguments.out, arguments, arguments.images))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

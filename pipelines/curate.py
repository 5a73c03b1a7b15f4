"""Choose photos to train on that cover a corpus: near-duplicates out, then diverse and evenly spread.

On a laptop:
    python pipelines/curate.py --data bsds500/train coco/train --keep 0.33 --out out/curation
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/curate.py --data s3://bucket/sa1b --keep 100000 \\
        --sam vit_b --out s3://bucket/curation

Data: tars in SA-1B's layout, or instance files of COCO or LVIS (.json) with the photos in a folder beside them.
Near-duplicates are copies that were resized, encoded again or mirrored; the largest stays. The rest is chosen by
k-center on SAM's embeddings, as evenly as may be over masks a photo, object scale and layout. Writes
OUT/curation.parquet (schemas/curation.py: every photo, chosen or not, and why), OUT/cover.png and OUT/sheet.png, which
show it; `build_prompt_maps.py --only OUT/curation.parquet` takes it up.
Exit codes: 0, 2 for wrong arguments, 3 if no photo could be used.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import fsspec

from aopsam.sam.registry import load_sam
from schemas.curation import Reason
from stages.annotations.shards import list_shards
from stages.config.arguments import absolute, positive
from stages.curate.actor import LookRecipe
from stages.curate.choice import Keep, curate, usable_looks
from stages.curate.output import write_curation
from stages.curate.run import look_at_photos
from stages.runner import choose_resources, start_ray
from stages.storage.location import redact


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="choose photos to train on that cover a corpus")
    parser.add_argument("--data", nargs="+", required=True, help="tars, folders, globs or .json")
    parser.add_argument("--keep", required=True, help="photos to choose: a number (500), or a share of all (0.33, 1.0)")
    parser.add_argument("--out", required=True, type=absolute, help="folder or URI; must hold no curation yet")
    parser.add_argument("--sam", default="tiny", help="model whose embeddings tell photos apart (default: %(default)s)")
    parser.add_argument("--checkpoint", type=absolute, help="its weights, where not the official or bundled")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    parser.add_argument("--actors", type=positive, help="default: one a GPU, else one for every two CPUs")
    parser.add_argument("--threads", type=positive, help="CPU threads an actor (default: 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Curate; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    out = arguments.out.rstrip("/")
    try:
        keep = Keep.parse(arguments.keep)
        if arguments.seed < 0:
            raise ValueError(f"--seed {arguments.seed}: must be at least 0")
        shards = sorted({shard for data in arguments.data for shard in list_shards(absolute(data))})
        filesystem, path = fsspec.url_to_fs(f"{out}/curation.parquet")
        if filesystem.exists(path):
            raise ValueError(f"{redact(out)} holds a curation already; give another folder")
        load_sam(arguments.sam, arguments.checkpoint)  # here, so that a mistake shows before Ray starts
    except (ValueError, OSError) as error:
        print(f"curate: {error}", file=sys.stderr)
        return 2
    start_ray(arguments.actors, arguments.threads)
    resources = choose_resources(10**6, arguments.actors, arguments.threads, 1)
    recipe = LookRecipe(arguments.sam, arguments.checkpoint, resources.device, resources.threads)
    tables = []
    for table in look_at_photos(shards, recipe, resources.actors):
        tables.append(table)
        print(f"{sum(table.num_rows for table in tables)} photos looked at", file=sys.stderr)
    looks, problems = usable_looks(tables)
    for problem in problems:
        print(f"cannot be used: {problem}", file=sys.stderr)
    if looks.num_rows == 0:
        print("curate: no photo could be used", file=sys.stderr)
        return 3
    curation = curate(looks, keep, arguments.seed)
    farthest, at_random = write_curation(out, looks, curation, arguments.seed)
    reasons = Counter(curation.column("reason").to_pylist())
    print(
        f"{looks.num_rows} photos and {len(problems)} problems: {reasons[Reason.CHOSEN]} chosen,"
        f" {reasons[Reason.DUPLICATE]} near-duplicates and {reasons[Reason.NOT_NEEDED]} not needed left out\n"
        f"farthest photo from those chosen {farthest:.3f}, from as many at random {at_random:.3f}\n"
        f"{redact(out)}/curation.parquet says which and why, cover.png and sheet.png beside it show it"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

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
show it; `build_prompt_maps.py --only OUT/curation.parquet` takes it up. OUT/parts holds descriptions of the photos: the
same command goes on after a kill. Exit codes: 0, 2 for wrong arguments, 3 if no photo could be used or too many failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from aopsam._options import Limits
from stages.config.command_line import ModelArguments, RunArguments, Uri, checking_input, command, parse
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments, RunArguments):
    """Choose photos to train on that cover a corpus; --sam's embeddings tell photos apart."""

    data: tuple[Uri, ...]
    """Tars, folders, globs or instance files (.json)."""
    keep: str
    """Photos to choose: a number (500), or a share of all (0.33, 1.0)."""
    out: Uri
    """Folder or URI; no curation of other photos or settings."""
    seed: Annotated[int, Limits(0)] = 0
    """Seed of the choice."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Curate; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Describe the photos and choose; what takes seconds to import comes now, after the flags have been judged."""
    from stages.curate.actor import DescriptionRecipe
    from stages.curate.choice import Keep, curate, usable_descriptions
    from stages.curate.output import account, write_curation
    from stages.curate.run import describe_photos, prepare_curation
    from stages.engine.resources import start

    out, recipe = arguments.out.rstrip("/"), DescriptionRecipe(arguments.sam, arguments.checkpoint)
    with checking_input():
        keep = Keep.parse(arguments.keep)
        job = prepare_curation(arguments.data, arguments.keep, arguments.seed, recipe, out)
    if (status := job.nothing_to_do("curation.parquet", arguments.max_failed)) is not None:
        return status
    resources = start(arguments.actors, arguments.threads, device=arguments.device)
    done = describe_photos(job, recipe, resources, arguments.max_seconds)
    descriptions, repeated = usable_descriptions(done.tables)
    print("".join(f"left out: {line}\n" for line in repeated), end="", file=sys.stderr)
    if descriptions.num_rows == 0:
        print("curate: no photo could be used", file=sys.stderr)
    else:
        curation = curate(descriptions, keep, arguments.seed)
        cover = write_curation(out, descriptions, curation, arguments.seed)
        print(account(curation, len(done.problems) + len(repeated), cover, redact(out)))
    job.finish(done)
    return done.exit_status(arguments.max_failed)


if __name__ == "__main__":
    raise SystemExit(main())

"""Train a small promptable SAM from annotated photos, on Ray Train.

On a laptop (the bundled `tiny`: about an hour and a half on two cores):
    python pipelines/train_sam.py --data bsds500/train bsds500/extra coco/train --out out/sam
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/train_sam.py --data s3://bucket/shards \\
        --out s3://bucket/sam --workers 4

Data: tars in SA-1B's layout, or instance files of COCO or LVIS (.json) with the photos in a folder beside them; all
photos are held in memory. Writes OUT/tiny.safetensors (half precision, with
thresholds for everything mode chosen on training photos), for `label_corpus.py --sam tiny --checkpoint`. Checkpoints
and steps.jsonl lie in OUT/train; the same command again goes on from the last. --steps may change between the two.
Exit codes: 0, 2 for wrong arguments or unreadable shards.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from aopsam.sam.registry import load_sam
from aopsam.training.export import export_weights
from aopsam.training.sam_recipe import SamRecipe
from aopsam.training.thresholds import choose_thresholds
from stages.apply import choose_resources, start_ray
from stages.apply_sam import read_photos, train_on_ray
from stages.arguments import absolute, positive
from stages.atomic import write_bytes
from stages.location import redact
from stages.shards import list_shards

THRESHOLD_PHOTOS = 16


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe = SamRecipe()
    parser = argparse.ArgumentParser(description="train a small promptable SAM")
    parser.add_argument("--data", nargs="+", required=True, type=absolute, help="tars, folders, globs or .json")
    parser.add_argument("--out", required=True, type=absolute, help="folder or URI; holds a run to go on with, or none")
    parser.add_argument("--start", type=absolute, help="weights to begin with, such as an earlier tiny.safetensors")
    parser.add_argument("--steps", type=positive, default=recipe.steps, help="updates (default: %(default)s)")
    parser.add_argument("--windows", type=positive, default=recipe.windows, help="a step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--checkpoint-every", type=positive, default=500, help="steps (default: %(default)s)")
    parser.add_argument("--workers", type=positive, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--threads", type=positive, help="CPU threads a worker (default: 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    recipe = replace(SamRecipe(), steps=arguments.steps, windows=arguments.windows, seed=arguments.seed)
    try:
        shards = [shard for data in arguments.data for shard in list_shards(data)]
        problems: list[str] = []
        photos = read_photos(shards, problems.append)
        print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
        if not photos:
            raise ValueError(f"{', '.join(map(redact, arguments.data))}: no annotated photo")
        if arguments.start is not None:
            load_sam("tiny", arguments.start)  # here, so that a mistake shows before Ray starts
    except (ValueError, OSError) as error:
        print(f"train_sam: {error}", file=sys.stderr)
        return 2
    masks = sum(len(photo.rles) for photo in photos)
    print(f"{len(photos)} photos, {masks} masks, {len(problems)} photos or masks left out", file=sys.stderr)
    start_ray(arguments.workers, arguments.threads)
    resources = choose_resources(10**6, arguments.workers, arguments.threads, 1)
    sam = train_on_ray(
        shards,
        recipe,
        arguments.out,
        start=arguments.start,
        workers=arguments.workers,
        threads=resources.threads,
        use_gpu=resources.device == "cuda",
        checkpoint_every=arguments.checkpoint_every,
    )
    facts = {"recipe": json.dumps(asdict(recipe)), "seed": str(recipe.seed), "photos": str(len(photos))}
    thresholds = choose_thresholds(sam, photos[:: max(1, len(photos) // THRESHOLD_PHOTOS)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        export_weights(sam, path, thresholds | facts)
        write_bytes(f"{arguments.out.rstrip('/')}/{path.name}", path.read_bytes())
    print(f"{redact(arguments.out)}/tiny.safetensors, {thresholds}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

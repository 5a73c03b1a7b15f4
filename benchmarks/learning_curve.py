"""Measure how much more photos help: the same short training on an eighth, a quarter, half and all of them.

    python benchmarks/learning_curve.py --data bsds500/train coco/train --edges out/edges \\
        --trunk nanodet_g.safetensors --steps 600 --out out/curve

The last HELD_OUT photos of every folder or tar are never trained on and measured: one interior point and one box a
mask, best of three, mean over at most MASKS masks a photo. Runs lie in OUT and go on where they were stopped; their
order and their batches depend on the seed alone. The same schedule from an untrained model shows what photos are worth
at equal steps; a long run's curve against steps is its `steps.jsonl`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aopsam.sam.checkpoints import read_state_dict
from aopsam.training.annotated import Annotated, load_photos
from aopsam.training.recipes import SamRecipe
from aopsam.training.sam import SamTask
from aopsam.training.trainer import train
from aopsam.training.validation import best_of_three
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.edge_maps.files import read_edge_maps

HELD_OUT, MASKS = 12, 30
SHARES = (8, 4, 2, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and print a line a share; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="tars, folders or globs; photos are held out of each")
    parser.add_argument("--edges", required=True, help="folder of edge maps of build_edge_maps.py")
    parser.add_argument("--trunk", required=True, type=Path, help="NanoDet's weights")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)
    try:
        edges, (trunk, _) = read_edge_maps(arguments.edges), read_state_dict(arguments.trunk)
        folders = [load_photos(list_shards(data), read=read_annotated).with_edges(edges) for data in arguments.data]
    except (ValueError, OSError) as error:
        print(f"learning_curve: {error}", file=sys.stderr)
        return 2
    held_out = [[_few(photo) for photo in photos[-HELD_OUT:]] for photos in folders]
    training = [photo for photos in folders for photo in photos[:-HELD_OUT]]
    steps = arguments.steps
    recipe = replace(SamRecipe(), steps=steps, dense_steps=steps * 2 // 5, warmup=max(1, steps // 10))
    for share in SHARES:
        part = training[::share]
        task = SamTask([part], recipe, trunk=trunk)
        weights = train(task, arguments.out / f"{share}")
        sam = task.model.eval()
        sam.load_state_dict(weights)
        scores = [f"{best_of_three(sam, photos, kind):.3f}" for photos in held_out for kind in ("point", "box")]
        print(f"1/{share}: {len(part)} photos, point and box of each folder: {', '.join(scores)}", flush=True)
    return 0


def _few(photo: Annotated) -> Annotated:
    """Return the photo with at most MASKS of its masks, evenly taken by their order."""
    kept = np.unique(np.linspace(0, len(photo.rles) - 1, MASKS).round().astype(int))
    return replace(
        photo, rles=[photo.rles[i] for i in kept], points_px=photo.points_px[kept], areas_px=photo.areas_px[kept]
    )


if __name__ == "__main__":
    raise SystemExit(main())

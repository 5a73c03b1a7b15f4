"""Does a curated subset train a better predictor than a random one of the same size?

    python pipelines/curate.py --data bsds500/train coco/train --keep 0.33 --out out/curation
    python benchmarks/curation.py --maps out/maps/bsds out/maps/coco --curation out/curation/curation.parquet \\
        --data bsds500/val --photos 20 --seeds 0 1 2 --steps 400

The maps are those of all photos. For each seed two predictors of the same recipe are trained with that seed, one on the
photos that were chosen, one on as many drawn at random with that seed; the photos that train_predictor.py holds out are
in neither, and each threshold is chosen on their maps for the same median of prompts. Both are judged by the masks of
`aop` on the first photos of --data, which no training may have seen: best IoU, mean over the masks of each photo.
Differences are paired by photo and seed, intervals by bootstrap over photos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch.utils.data import Subset

from aopsam.metrics.bootstrap import mean_interval, paired_difference
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import load_photos
from aopsam.training.prompted_photos import PromptedPhotos
from aopsam.training.recipes import PredictorRecipe
from benchmarks.judged_predictor import scores
from stages.annotations.chosen import chosen_photos
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.prompt_maps.rows import MIRRORED, PromptMapRows


def rows_of(rows: PromptMapRows, photos: Sequence[str]) -> Subset:
    """Return the rows of some photos and of their mirror images."""
    wanted = set(photos)
    indices = [index for index, name in enumerate(rows.image_ids) if name.removesuffix(MIRRORED) in wanted]
    return Subset(rows, indices)  # type: ignore[arg-type]  # it needs no more than a map-style dataset


def table(found: dict[str, list[list[dict[str, float]]]]) -> str:
    """Return a table in Markdown, a row a subset; figures of a photo are means over seeds, differences are paired.

    Args:
        found: name of the subset → seeds → photos → figures.
    """
    lines = [
        "| trained on | mIoU by seed | mIoU | 95 % | the first less this one, 95 % | prompts decoded | masks kept |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    tables = {
        name: {key: np.array([[photo[key] for photo in run] for run in runs]) for key in runs[0][0]}
        for name, runs in found.items()
    }
    first, *_ = tables.values()
    for name, figures in tables.items():
        miou = figures["miou"].mean(0)
        own, ahead = mean_interval(miou), paired_difference(first["miou"].mean(0), miou)
        assert own is not None
        assert ahead is not None
        seeds = ", ".join(f"{value:.3f}" for value in figures["miou"].mean(1))
        beside = "–" if figures is first else f"{ahead.mean:+.3f} ({ahead.low:+.3f} to {ahead.high:+.3f})"
        lines.append(
            f"| {name} | {seeds} | {own.mean:.3f} | {own.low:.3f} to {own.high:.3f} | {beside} |"
            f" {figures['prompts'].mean():.1f} | {figures['masks'].mean():.1f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge both subsets for every seed; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", required=True)
    parser.add_argument("--curation", required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=60, help="median that the threshold is chosen for")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    try:
        training, held_out = PromptMapRows(arguments.maps).split()
        everything = sorted({name.removesuffix(MIRRORED) for name in training.image_ids})
        chosen = sorted(chosen_photos(arguments.curation) & set(everything))
        if not chosen:
            raise ValueError(f"{arguments.curation}: none of the photos chosen is among the maps")
        shards = [shard for data in arguments.data for shard in list_shards(data)]
        judged = list(islice(load_photos(shards, read=read_annotated), arguments.photos))
    except (ValueError, OSError) as error:
        print(f"curation: {error}", file=sys.stderr)
        return 2
    photos = PromptedPhotos(load_sam(training.sam), judged)
    recipe = PredictorRecipe(steps=arguments.steps, warmup=arguments.steps // 5, accumulate=1)
    print(f"{len(chosen)} of {len(everything)} photos to train on, {len(judged)} judged", file=sys.stderr)
    found: dict[str, list[list[dict[str, float]]]] = {f"{len(chosen)} curated": [], f"{len(chosen)} at random": []}
    for seed in arguments.seeds:
        drawn = np.random.default_rng(seed).choice(everything, len(chosen), replace=False)
        for name, subset in zip(found, (chosen, drawn.tolist()), strict=True):
            rows = rows_of(training, subset)
            found[name].append(scores(rows, held_out, replace(recipe, seed=seed), photos, arguments.prompts))
            mean = np.mean([photo["miou"] for photo in found[name][-1]])
            print(f"{name}, seed {seed}: {len(rows)} rows, mIoU {mean:.4f}", file=sys.stderr, flush=True)
    print(table(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

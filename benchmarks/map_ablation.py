"""Which prompt maps and which loss make the better predictor? One table: mIoU and prompts a photo of `aop`, by seed.

    python benchmarks/map_ablation.py --maps out/maps/bsds out/maps/coco --data bsds500/val --photos 10 --seeds 0 1 2
    … --more recorded=out/maps/recorded interior=out/maps/interior

--maps are folders of pipelines/build_prompt_maps.py; their targets are made anew from the objects they hold, for every
kernel, both ways of joining prompts and every loss, one thing changed at a time. --more are further folders, trained on
as they are. Every predictor trains for as long; its threshold is chosen for the same median of prompts on rows held
out; photos of --data judge it, and are not trained on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from aopsam.metrics import paired_difference
from aopsam.predictor.frame import FRAME_SIZE
from aopsam.predictor.interior import interior_point
from aopsam.predictor.kernels import PRESETS, Combine
from aopsam.predictor.targets import prompt_map
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import load_photos
from aopsam.training.predictor import PromptMaps
from aopsam.training.prompted_photos import PromptedPhotos
from aopsam.training.recipes import MapLoss, PredictorRecipe
from benchmarks.judged_predictor import scores
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.prompt_maps.rows import PromptMapRows


@dataclass(frozen=True)
class Variant:
    """Variant of maps and loss, one row of the table."""

    preset: str = "medium"
    combine: Combine = "max"
    loss: MapLoss = "mse"


VARIANTS = {
    "medium, max, mse": Variant(),
    **{f"kernel {name}": Variant(preset=name) for name in PRESETS if name != "medium"},
    "sum": Variant(combine="sum"),
    "cross-entropy": Variant(loss="cross-entropy"),
    "focal": Variant(loss="focal"),
    "kernel sharp, cross-entropy": Variant(preset="sharp", loss="cross-entropy"),
}


class Retargeted:
    """Rows whose maps are made anew from their objects."""

    def __init__(self, rows: PromptMapRows, variant: Variant) -> None:
        self.rows = rows
        preset = PRESETS[variant.preset]
        self.maps = []
        for index in range(len(rows)):
            _, masks = rows.objects(index)
            points = np.array([interior_point(mask) for mask in masks]).reshape(-1, 2)
            sigmas = preset.sigmas(masks.sum((1, 2)))
            target = prompt_map(
                points,
                (FRAME_SIZE, FRAME_SIZE),
                box=preset.box,
                sigma=preset.sigma,
                combine=variant.combine,
                sigmas=sigmas,
            )
            self.maps.append(target.astype(np.float16))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.rows[index] | {"map": self.maps[index]}


def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge every variant; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", required=True)
    parser.add_argument("--more", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--photos", type=int, default=10)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=60, help="median that the threshold is chosen for")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    training, held_out = PromptMapRows(arguments.maps).split()
    shards = [shard for data in arguments.data for shard in list_shards(data)]
    judged = list(islice(load_photos(shards, lambda line: None, read_annotated), arguments.photos))
    photos = PromptedPhotos(load_sam(training.sam), judged)
    base = PredictorRecipe(steps=arguments.steps, warmup=arguments.steps // 5, accumulate=1)
    runs: list[tuple[str, PromptMaps, PromptMaps, MapLoss]] = []
    for name in arguments.only:
        variant = VARIANTS[name]
        runs.append((name, Retargeted(training, variant), held_out, variant.loss))
    for entry in arguments.more:
        name, _, folder = entry.partition("=")
        runs.append((name, *PromptMapRows([folder]).split(), PredictorRecipe().loss))
    print("| maps | rows | mIoU by seed | mean | against the first, 95 % | prompts decoded | masks kept |")
    print("|---|---:|---|---:|---|---:|---:|")
    first: np.ndarray | None = None
    for name, rows, unseen, loss in runs:
        found = []
        for seed in arguments.seeds:
            found.append(scores(rows, unseen, replace(base, seed=seed, loss=loss), photos, arguments.prompts))
            print(f"{name}, seed {seed}: {np.mean([photo['miou'] for photo in found[-1]]):.4f}", file=sys.stderr)
        table = {key: np.array([[photo[key] for photo in run] for run in found]) for key in found[0][0]}
        miou = table["miou"].mean(0)
        first = miou if first is None else first
        beside = paired_difference(miou, first)
        assert beside is not None
        seeds = ", ".join(f"{value:.3f}" for value in table["miou"].mean(1))
        print(
            f"| {name} | {len(rows)} | {seeds} | {miou.mean():.3f} | {beside.mean:+.3f} ({beside.low:+.3f} to"
            f" {beside.high:+.3f}) | {table['prompts'].mean():.1f} | {table['masks'].mean():.1f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

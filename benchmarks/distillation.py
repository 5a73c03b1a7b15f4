"""Does distillation lift a student above the same student trained without it, at equal total steps?

    python benchmarks/distillation.py --data bsds500/train bsds500/extra coco/train --val bsds500/val coco/val
    python benchmarks/distillation.py --student efficient_sam_ti --steps 400 --seeds 0 ...

Three arms begin with the same random weights of a `TinyEncoder` and end as fine-tuning inside SAM with the
decoder of the teacher (the bundled `tiny`) frozen; or of EfficientSAM-Ti that reads 224 px, whose decoder begins with
the teacher's weights and learns along:

- alone: STEPS of fine-tuning;
- decoupled: half of them decoupled distillation, on the same photos without their annotations, then half fine-tuning;
- sami: half of them SAMI, then half fine-tuning.

SAMI drops the tokens of masked patches where the student is EfficientSAM. Every part says how its loss began and ended,
means of ten updates. Judged by one interior point and one box a mask, best of three, on PHOTOS photos of every --val
and at most MASKS masks a photo. Prints a markdown table: mean over seeds and, in brackets, smallest and largest; then
what each arm is above `alone`, seed by seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, StoredPhotos, load_photos
from aopsam.training.distillation import DecoupledTask
from aopsam.training.finetune import FinetuneRecipe, FinetuneTask
from aopsam.training.sami import SamiRecipe, SamiTask
from aopsam.training.student import StudentRecipe, begin_positions, share_decoder
from aopsam.training.task import Task
from aopsam.training.trainer import Reports, train
from aopsam.training.validation import best_of_three
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards

if TYPE_CHECKING:
    from segment_anything.modeling import Sam  # may only come after aopsam

STUDENTS = ("tiny", "efficient_sam_ti")
ARMS = ("alone", "decoupled", "sami")
MASKS = 12
ALONE = FinetuneRecipe(windows=2, prompts=8, average=0.99, cross_entropy=0.0)
"""Without the paper's cross entropy, which keeps an encoder that begins with nothing at empty masks."""
DECOUPLED = StudentRecipe(picture_px=256, rate=4e-3, zoom=(0.65, 1.6), average=0.99)
SAMI = SamiRecipe(picture_px=256, rate=4e-3, zoom=(0.65, 1.6), average=0.99, decoder_blocks=2, decoder_width=256)
"""With a smaller decoder than the paper's, which would cost three quarters of a step."""
PLAIN_PX = 224
"""Side of EfficientSAM's square, for the sake of time; the model's own is 1024."""
PLAIN: dict[str, Any] = {"picture_px": None, "teacher_px": PLAIN_PX, "zoom": (1.0, 2.24), "rate": 1e-3}
"""Arguments that a distillation of EfficientSAM adds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train all arms and print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="annotated photos to train on")
    parser.add_argument("--val", nargs="+", required=True, help="annotated photos to judge by")
    parser.add_argument("--steps", type=int, default=600, help="in all, pretraining included (default: %(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--photos", type=int, default=24, help="of every --val (default: %(default)s)")
    parser.add_argument("--student", choices=STUDENTS, default="tiny")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    arguments = parser.parse_args(argv)
    try:
        shards = [shard for data in arguments.data for shard in list_shards(data)]
        photos = load_photos(shards, read=read_annotated)
        judged = [_few(load_photos(list_shards(val), read=read_annotated), arguments.photos) for val in arguments.val]
    except (ValueError, OSError) as error:
        print(f"distillation: {error}", file=sys.stderr)
        return 2
    teacher = load_sam("tiny")
    scores: dict[str, list[list[float]]] = {arm: [] for arm in arguments.arms}
    for seed in arguments.seeds:
        for arm in arguments.arms:
            began = time.process_time()
            sam = _train(arm, seed, arguments.steps, teacher, photos, arguments.student)
            seconds = time.process_time() - began
            scores[arm].append([best_of_three(sam, part, kind) for part in judged for kind in ("point", "box")])
            shown = ", ".join(f"{score:.3f}" for score in scores[arm][-1])
            print(f"seed {seed}, {arm}: {shown} ({seconds:.0f} CPU seconds)", file=sys.stderr, flush=True)
    print(_table(scores, [f"{Path(val).parent.name}, {kind}" for val in arguments.val for kind in ("point", "box")]))
    return 0


def _train(arm: str, seed: int, steps: int, teacher: Sam, photos: StoredPhotos, name: str) -> Sam:
    plain = name != "tiny"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = efficient_sam_ti(PLAIN_PX) if plain else assemble(TinyEncoder())
    begin_positions(student)
    share_decoder(student, teacher)
    before = 0 if arm == "alone" else steps // 2
    own: dict[str, Any] = {"seed": seed, "steps": before} | (PLAIN if plain else {})
    if arm == "decoupled":
        recipe = replace(DECOUPLED, **own)
        student.image_encoder.load_state_dict(_run(DecoupledTask(recipe, teacher, student, photos)))
    elif arm == "sami":
        masked = replace(SAMI, **own)
        student.image_encoder.load_state_dict(_run(SamiTask(masked, teacher, student, photos)))
    last = replace(ALONE, seed=seed, steps=steps - before, decoder=plain)
    student.load_state_dict(_run(FinetuneTask(last, student, photos)))
    return student.eval()


def _run(task: Task) -> dict[str, torch.Tensor]:
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        reports = Reports(log=lambda step, figures: losses.append(figures["loss"]))
        weights = train(task, Path(folder), checkpoint_every=10**9, reports=reports)
    print(f"{type(task).__name__}: loss {losses[0]:.4f} to {losses[-1]:.4f}", file=sys.stderr, flush=True)
    return weights


def _few(photos: StoredPhotos, count: int) -> list[Annotated]:
    """Return `count` photos, evenly taken by their order, each with fewer of its masks."""
    return [_fewer_masks(photos[number]) for number in _evenly(len(photos), count)]


def _fewer_masks(photo: Annotated) -> Annotated:
    kept = _evenly(len(photo.rles), MASKS)
    return replace(
        photo, rles=[photo.rles[i] for i in kept], points_px=photo.points_px[kept], areas_px=photo.areas_px[kept]
    )


def _evenly(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def _table(scores: dict[str, list[list[float]]], names: list[str]) -> str:
    lines = [f"| | {' | '.join(names)} | mean |", "|---" * (len(names) + 2) + "|"]
    means = {}
    for arm, rows in scores.items():
        table = np.array(rows)
        table = np.concatenate([table, table.mean(1, keepdims=True)], axis=1)
        means[arm] = table[:, -1]
        cells = [f"{c.mean():.3f} ({c.min():.3f}–{c.max():.3f})" for c in table.T]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    for arm in [arm for arm in means if arm != "alone" and "alone" in means]:
        above = ", ".join(f"{difference:+.3f}" for difference in means[arm] - means["alone"])
        lines.append(f"\n{arm} above alone, mean of the columns, seed by seed: {above}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())

"""Distil a light image encoder from a heavy one, on photos without annotations, on Ray Train.

On a laptop:
    python pipelines/distill_encoder.py --method decoupled --teacher vit_b --student mobile_sam --data photos \\
        --out out/student
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/distill_encoder.py --method sami --teacher vit_h \\
        --student mobile_sam --data s3://bucket/sa-1b --out s3://bucket/student --workers 8

Methods: `decoupled`, student embedding -> teacher embedding (MobileSAM); `sami`, the same from a quarter of the
picture (EfficientSAM). Data: folders, globs, tars (SA-1B's too; its JSONs are not read) or Parquet files of photos; one
in ten is held out. Writes OUT/student.safetensors: the student's encoder with the teacher's prompt encoder and mask
decoder, for `--sam STUDENT --checkpoint` and to be fine-tuned. Checkpoints lie in OUT/train, and the same command again
goes on from the last; photos that could not be read are named in OUT/left_out. Exit codes: 0, 2 for wrong arguments, 3
if no photo can be read.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from aopsam.sam.registry import TRAINABLE
from aopsam.training.export import export_weights
from aopsam.training.sami import SamiRecipe
from aopsam.training.student import StudentRecipe
from aopsam.training.views import readable
from stages.config.arguments import absolute, positive
from stages.storage.atomic import write_bytes
from stages.storage.location import redact
from stages.train.distillation import DistillationWork, distillation_task, left_out
from stages.train.on_ray import add_training_options, recipe_from, train_on_ray

RECIPES = {"decoupled": StudentRecipe(), "sami": SamiRecipe()}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe = StudentRecipe()
    parser = argparse.ArgumentParser(description="distil a light image encoder")
    parser.add_argument("--method", required=True, choices=RECIPES)
    parser.add_argument("--teacher", required=True, choices=TRAINABLE)
    parser.add_argument("--student", required=True, choices=TRAINABLE)
    parser.add_argument("--data", nargs="+", required=True, type=absolute, help="photos: folders, globs, tars, Parquet")
    parser.add_argument("--checkpoint", type=absolute, help="the teacher's weights, where not bundled or official")
    parser.add_argument("--start", type=absolute, help="the student's weights to begin with (default: random)")
    add_training_options(parser, recipe)
    parser.add_argument("--batch", type=positive, default=recipe.batch, help="pictures (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=recipe.rate, help="peak, of AdamW (default: %(default)s)")
    parser.add_argument("--picture-px", type=positive, help="side, where both models take less than whole frames")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    recipe = recipe_from(RECIPES[arguments.method], arguments)
    work = DistillationWork(tuple(arguments.data), recipe, arguments.out, arguments.checkpoint, arguments.start)
    problems: list[str] = []
    try:
        task = distillation_task(work, problems.append)
    except (ValueError, OSError) as error:
        print(f"distill_encoder: {error}", file=sys.stderr)
        return 2
    print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
    try:
        readable(task.photos, 0)
    except ValueError as error:
        print(f"distill_encoder: {error}", file=sys.stderr)
        return 3
    print(f"{len(task.photos)} photos to train on", file=sys.stderr)
    weights = train_on_ray("distill_encoder", partial(distillation_task, work), task, arguments)
    if weights is None:
        return 0
    unreadable = left_out(arguments.out)
    print("".join(f"left out: {line}\n" for line in unreadable), end="", file=sys.stderr)
    task.student.image_encoder.load_state_dict(weights)
    facts = {"method": arguments.method, "photos": str(len(task.photos)), "recipe": json.dumps(asdict(task.recipe))}
    facts |= {"teacher": task.recipe.teacher, "teacher_sha256": task.recipe.teacher_sha256}
    thresholds = {name: str(value) for name, value in asdict(task.teacher.thresholds).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.safetensors"
        export_weights(task.student, path, thresholds | facts)
        write_bytes(f"{arguments.out.rstrip('/')}/{path.name}", path.read_bytes())
    print(f"{redact(arguments.out)}/student.safetensors: {arguments.student}, {len(unreadable)} photos left out")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

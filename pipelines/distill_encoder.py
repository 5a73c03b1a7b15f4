"""Distil a light image encoder from a heavy one, on photos without annotations, on Ray Train.

On a laptop:
    python pipelines/distill_encoder.py --method decoupled --teacher vit_b --student mobile_sam --data photos --out out
On a cluster (absolute paths or URIs that every node reaches), EfficientSAM as its paper begins it:
    ray job submit --working-dir . -- python pipelines/distill_encoder.py --method sami --recipe paper \\
        --teacher vit_h --student efficient_sam_ti --data s3://bucket/imagenet --out s3://bucket/ti --workers 8

Methods: `decoupled`, student embedding -> teacher embedding (MobileSAM); `sami`, the teacher's features from a quarter
of the picture (EfficientSAM). Data: folders, globs, tars (SA-1B's too; its JSONs are not read) or Parquet files of
photos; one in ten is held out. Writes OUT/student.safetensors: the student's encoder with the teacher's prompt encoder
and mask decoder, for `--sam STUDENT --checkpoint` and fine-tuning (which EfficientSAM's by SAMI needs, its decoder,
too). The same command goes on from OUT/train. Exit codes: 0, 2, 3 if no photo can be read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from aopsam._options import Count, Limits, OneOf
from aopsam.sam.names import TRAINABLE
from stages.config.command_line import Uri, checking_input, command, parse
from stages.storage.location import redact
from stages.train.arguments import TrainingArguments


@dataclass(frozen=True, kw_only=True)
class Arguments(TrainingArguments):
    """Distil a light image encoder."""

    method: Literal["decoupled", "sami"]
    """Learn the teacher's embedding, or the same from a quarter of the picture."""
    teacher: Annotated[str, OneOf(TRAINABLE)]
    """Model to learn from: tiny, mobile_sam, vit_b, vit_l, vit_h, efficient_sam_ti or efficient_sam_s."""
    student: Annotated[str, OneOf(TRAINABLE)]
    """Model that learns, of the same names."""
    recipe: Literal["ours", "paper"] = "ours"
    """Hyper-parameters where flags say nothing; paper: EfficientSAM's for SAMI, batches of 4,096 of 224 px."""
    data: tuple[Uri, ...]
    """Photos: folders, globs, tars, Parquet."""
    checkpoint: Uri | None = None
    """The teacher's weights, where not the bundled or official ones."""
    start: Uri | None = None
    """The student's weights to begin with; by default random."""
    seed: int = 0
    """Seed of all that is drawn."""
    steps: Count | None = None
    """Updates in all; ours 1000, the paper's 125114."""
    accumulate: Count | None = None
    """Batches to an update; ours 1, the paper's make up 4096 pictures."""
    precision: Literal["auto", "float32", "bfloat16"] | None = None
    """Precision that the student computes in; auto: bfloat16 where the device multiplies it, else float32."""
    batch: Count | None = None
    """Pictures at once; ours 4, the paper's 32."""
    rate: Annotated[float, Limits(0, open=True)] | None = None
    """Peak learning rate, of AdamW; ours 1e-3, the paper's 2.4e-3."""
    picture_px: Count | None = None
    """Side of the pictures, where the student takes less than whole frames; the paper's 224."""
    teacher_px: Count | None = None
    """Side of what EfficientSAM's teacher reads; by default the teacher's own, the paper's 224."""

    def job(self) -> Any:
        """Return the checked job: teacher, student, photos, recipe."""
        from stages.train.distillation import DistillationJob, student_recipe

        names = ("teacher", "student", "seed", "steps", "accumulate", "precision", "batch", "rate")
        given = {name: getattr(self, name) for name in (*names, "picture_px", "teacher_px")}
        made = student_recipe(self.method, self.recipe, self.workers, given)
        return DistillationJob(self.data, made, self.out, self.checkpoint, self.start)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments, problems = parse(Arguments, argv), list[str]()
    from stages.train.distillation import distillation_task, finish_student
    from stages.train.on_ray import train_on_ray  # here: flags are judged before torch is imported

    with checking_input():
        arguments.check_out("student.safetensors")
        job = arguments.job()
        task = distillation_task(job, problems.append)
    print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
    if not len(task.photos):
        print("distill_encoder: no photo that can be trained on", file=sys.stderr)
        return 3
    print(task.pool.describe(), file=sys.stderr)
    if (weights := train_on_ray("distill_encoder", partial(distillation_task, job), task, arguments)) is None:
        return 0
    finish_student(task, weights, path := f"{arguments.out.rstrip('/')}/student.safetensors", arguments.method)
    print(f"{redact(path)}: {arguments.student}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

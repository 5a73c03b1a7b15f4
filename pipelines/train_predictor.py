"""Train the prompt predictor on prompt maps, on Ray Train.

On a laptop:
    python pipelines/train_predictor.py --data out/maps/bsds out/maps/coco --out out/predictor
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/train_predictor.py --data s3://bucket/maps \\
        --out s3://bucket/predictor --workers 4

Data: folders of pipelines/build_prompt_maps.py. Writes OUT/predictor.safetensors, for `label_corpus.py --predictor`;
checkpoints lie in OUT/train, and the same command again goes on from the last. One photo in ten is held out: the
sampling threshold is chosen on those of them that are annotated all over. Exit codes: 0, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from aopsam.predictor.sampling import Sampling
from aopsam.predictor.weights import save_predictor
from aopsam.training.calibration import calibrate_threshold, confidence_maps
from aopsam.training.predictor import PredictorRecipe
from stages.apply import choose_resources, start_ray
from stages.apply_predictor import HOLD_OUT, train_on_ray
from stages.arguments import absolute, positive
from stages.atomic import write_bytes
from stages.location import redact
from stages.prompt_map_rows import PromptMapRows

SAMPLING = Sampling(smoothing_sigma=1.0, spacing=1)
"""The paper's 2 and 6 leave too few peaks of a map that is as smooth as ours (aopsam/weights/predictor-tiny.md)."""

PROMPTS = 100
"""Median prompts a photo that the threshold is chosen for; the paper's Table 2 has 61 to 120."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    recipe = PredictorRecipe()
    parser = argparse.ArgumentParser(description="train the prompt predictor on prompt maps")
    parser.add_argument("--data", nargs="+", required=True, type=absolute, help="folders or URIs of prompt maps")
    parser.add_argument("--out", required=True, type=absolute, help="folder or URI; holds a run to go on with, or none")
    parser.add_argument("--steps", type=positive, default=recipe.steps, help="updates (default: %(default)s)")
    parser.add_argument("--batch", type=positive, default=recipe.batch, help="rows at once (default: %(default)s)")
    parser.add_argument("--accumulate", type=positive, default=recipe.accumulate, help="batches to an update")
    parser.add_argument("--learning-rate", type=float, default=recipe.learning_rate, help="peak, of Adam")
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--spacing", type=positive, default=SAMPLING.spacing, help="of sampled peaks, map pixels")
    parser.add_argument("--smoothing-sigma", type=float, default=SAMPLING.smoothing_sigma, help="map pixels")
    parser.add_argument(
        "--prompts", type=positive, default=PROMPTS, help="wanted median a photo (default: %(default)s)"
    )
    parser.add_argument("--workers", type=positive, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--threads", type=positive, help="CPU threads a worker (default: 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    fields = ("steps", "batch", "accumulate", "learning_rate", "seed")
    recipe = PredictorRecipe(**{name: getattr(arguments, name) for name in fields})
    try:
        training, held_out = PromptMapRows(arguments.data).split(HOLD_OUT)
        if not len(training) or not len(held_out):
            raise ValueError(f"{len(training) + len(held_out)} rows are too few to train on and to hold some out")
    except (ValueError, OSError) as error:
        print(f"train_predictor: {error}", file=sys.stderr)
        return 2
    print(f"{len(training)} rows to train on, {len(held_out)} held out", file=sys.stderr)
    start_ray(arguments.workers, arguments.threads)
    resources = choose_resources(10**6, arguments.workers, arguments.threads, 1)
    predictor = train_on_ray(
        arguments.data,
        recipe,
        arguments.out,
        workers=arguments.workers,
        threads=resources.threads,
        use_gpu=resources.device == "cuda",
    )
    predictor.sam, predictor.sam_sha256 = training.sam, training.sam_sha256
    sampling = Sampling(smoothing_sigma=arguments.smoothing_sigma, spacing=arguments.spacing)
    predictor.sampling = calibrate_threshold(confidence_maps(predictor, held_out), sampling, arguments.prompts)
    notes = {f"recipe_{name}": str(value) for name, value in asdict(recipe).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictor.safetensors"
        save_predictor(predictor, path, notes | {"rows": str(len(training))})
        write_bytes(f"{arguments.out.rstrip('/')}/{path.name}", path.read_bytes())
    print(f"{redact(arguments.out)}/predictor.safetensors for {predictor.sam}, {predictor.sampling}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

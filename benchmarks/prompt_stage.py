"""Measure what prompts cost: time and peak memory of each strategy's prompt stage (AoP-SAM's Table 4).

    python benchmarks/prompt_stage.py --images PHOTOS --sam mobile_sam --threads 1 2 --json FILE

Each strategy and number of threads in a process of its own, on photos that are encoded already: what a strategy does
until its first prompts are there; what `aop` drops between rounds is in evaluate.py's tables. Memory is the process's
peak beyond what it held when the stage began, without model and embedding. Weights that are not here are random, as are
the predictor and the detector of the model's own: their networks' work is that of trained ones, the number of prompts
says nothing, and what hangs on it (peaks, NMS) little. `aop by tiny` is `aop` for a model without a predictor: it
encodes the photo with `tiny`, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aopsam.detector.network import BoxDetector
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.predictor.network import PromptPredictor
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.registry import MODELS, Thresholds, load_sam
from benchmarks.speed import is_missing, load, machine
from stages.evaluate.peak_memory import peak_memory

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

ROOT = Path(__file__).parent.parent
STRATEGIES = ("aop", "aop by tiny", "oas-box", "oas-center", "attention")


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="time and peak memory of prompt stages")
    parser.add_argument("--images", required=True, type=Path, help="folder of photos, or of tars in SA-1B's layout")
    parser.add_argument("--sam", default="mobile_sam")
    parser.add_argument("--count", type=int, default=5, help="photos")
    parser.add_argument("--repeat", type=int, default=3, help="times each photo, of which the quickest counts")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each in its process and print a table; return the exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.one:
        print(json.dumps(measure(arguments, arguments.one)))
        return 0
    rows = []
    print("| strategy | threads | seconds | memory MB | prompts |\n|---|--:|--:|--:|--:|")
    for threads in arguments.threads:
        for strategy in arguments.strategies:
            row = {"strategy": strategy, "threads": threads} | _in_a_process(arguments, strategy, threads)
            rows.append(row)
            print(_shown(row), flush=True)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        record = {"sam": arguments.sam, "photos": arguments.count, "machine": machine("cpu"), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def _shown(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"| {row['strategy']} | {row['threads']} | {row['error']} | | |"
    memory = "–" if row["peak_memory"] is None else f"{row['peak_memory'] / 1e6:.0f}"
    return f"| {row['strategy']} | {row['threads']} | {row['seconds']:.3f} | {memory} | {row['prompts']:.0f} |"


def _in_a_process(arguments: argparse.Namespace, strategy: str, threads: int) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__)), "--images", str(arguments.images), "--sam", arguments.sam]
    command += ["--count", str(arguments.count), "--repeat", str(arguments.repeat), "--one", strategy]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ran.returncode:
        return {"error": (ran.stderr.strip().splitlines() or ["failed"])[-1]}
    return json.loads(ran.stdout.strip().splitlines()[-1])


def measure(arguments: argparse.Namespace, strategy: str) -> dict[str, Any]:
    """Measure one strategy's first prompts on the photos: mean seconds, peak memory in bytes, mean prompts."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    photos = load(arguments.images, arguments.count)
    model = random_model(arguments.sam) if is_missing(arguments.sam) else load_sam(arguments.sam)
    generator = generator_for(model, strategy)
    encoded = [encode(model, photo.rgb) for photo in photos]
    first_prompts(generator, encoded[0])  # what the first run pays
    memory = [peak_memory(partial(first_prompts, generator, photo)) for photo in encoded]
    seconds, prompts = [], []
    for photo in encoded:
        seconds.append(min(_timed(generator, photo) for _ in range(arguments.repeat)))
        prompts.append(first_prompts(generator, photo))
    found = [value for value in memory if value is not None]
    return {
        "seconds": float(np.mean(seconds)),
        "peak_memory": max(found, default=None),
        "prompts": float(np.mean(prompts)),
    }


def random_model(name: str) -> Sam:
    """Build a model with random weights, in place of one whose weights are not here."""
    torch.manual_seed(0)
    model = MODELS[name].build().eval()
    model.name, model.sha256, model.thresholds = name, "random", Thresholds()
    return model


def generator_for(model: Sam, strategy: str) -> AutoMaskGenerator:
    """Build a strategy's generator; `aop` and `oas` get a predictor or detector of random weights."""
    if strategy == "aop":
        predictor = PromptPredictor()
        predictor.sam, predictor.sam_sha256 = model.name, model.sha256
        return AutoMaskGenerator(model, prompts="aop", predictor=predictor.eval(), output_mode="coco_rle")
    if strategy.startswith("oas"):
        detector = BoxDetector()
        detector.sam, detector.sam_sha256 = model.name, model.sha256
        options = {"detector": detector.eval()}
        return AutoMaskGenerator(model, prompts=strategy, strategy_options=options, output_mode="coco_rle")
    name = "aop" if strategy == "aop by tiny" else strategy
    return AutoMaskGenerator(model, prompts=name, output_mode="coco_rle")


@torch.inference_mode()
def first_prompts(generator: AutoMaskGenerator, photo: EncodedPhoto) -> int:
    """Run a strategy up to its first prompts; return how many it has proposed."""
    return generator.label(photo.rgb, photo).prompts_proposed


def _timed(generator: AutoMaskGenerator, photo: EncodedPhoto) -> float:
    began = time.perf_counter()
    first_prompts(generator, photo)
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())

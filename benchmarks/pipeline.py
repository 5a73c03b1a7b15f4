"""The whole pipeline on Ray against the bare generator: images/s over the same photos, and how soon the first file is.

    python benchmarks/pipeline.py --images PHOTOS [--count 200] [--json FILE]
    python benchmarks/pipeline.py --images PHOTOS --canned 0.1
    python benchmarks/pipeline.py --images PHOTOS -- --prompts grid-16 --actors 1 --threads 2

What follows `--` goes to label_corpus.py. The bare generator is one process that reads, decodes and labels one photo
after another, with as many CPU threads as all actors together; it does the even photos before the pipeline runs and
the odd ones after it, so that what else the machine does falls on both. --canned replaces the model in both by one
that waits so many seconds and computes nothing, as a GPU's would look from here.

Printed: images/s of both and their ratio (the pipeline's from the moment that its first actor began to work until the
last row was reported, tables written; the bare generator's once its model is loaded), seconds from the start of the
command to the first file on disk, and how many images/s each stage would do alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.photos.decode import open_photo
from benchmarks.canned import CannedGenerator
from benchmarks.repeated import repeat_photos
from pipelines import label_corpus
from stages.engine.resources import choose_resources
from stages.label.actor import make_generator

ROOT = Path(__file__).parent.parent


def bare_seconds(generator: AutoMaskGenerator | CannedGenerator, photos: Sequence[Path]) -> float:
    """Read, decode and label photos one after another; return the seconds that it took."""
    began = time.perf_counter()
    for photo in photos:
        generator.label(open_photo(photo.read_bytes(), 10**9).rgb)
    return time.perf_counter() - began


def run_pipeline(command: Sequence[str], out: Path) -> tuple[dict[str, Any], float]:
    """Run the pipeline; return its manifest, and the seconds from the start of the command to its first file.

    Raises:
        RuntimeError: the run failed.
    """
    began, first = time.monotonic(), None
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            if first is None and any((out / "labels").glob("*.parquet")):
                first = time.monotonic() - began
            time.sleep(0.1)
        if process.returncode != 0 or first is None:
            output.seek(0)
            raise RuntimeError(f"status {process.returncode}: {output.read()[-3000:]}")
    return json.loads((out / "manifest.json").read_text()), first


def main(argv: Sequence[str] | None = None) -> int:
    """Run both, print; return the exit status."""
    parser = argparse.ArgumentParser(description="the pipeline on Ray against the bare generator")
    parser.add_argument("--images", required=True, type=Path, help="folder of JPEGs")
    parser.add_argument("--count", type=int, default=200, help="photos: those of the folder, again and again")
    parser.add_argument("--canned", type=float, help="replace the model by one that waits so many seconds")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("options", nargs="*", help="after --: further arguments of label_corpus.py")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        photos, out = repeat_photos(arguments.images, arguments.count, Path(folder) / "photos"), Path(folder) / "out"
        options = ["--images", str(photos), "--out", str(out), *arguments.options]
        parsed = label_corpus.parse_arguments(options)
        resources = choose_resources(parsed.actors, parsed.threads, arguments.count)
        torch.set_num_threads(resources.actors * resources.threads)
        real = make_generator(parsed.label.with_written_options(), resources.device)
        generator: AutoMaskGenerator | CannedGenerator = real
        command = [sys.executable, str(ROOT / "pipelines" / "label_corpus.py")]
        if arguments.canned is not None:
            generator = CannedGenerator(real, arguments.canned)
            command = [sys.executable, str(ROOT / "benchmarks" / "canned.py"), str(arguments.canned)]
        listed = sorted(photos.iterdir())
        seconds = bare_seconds(generator, listed[::2])
        manifest, first = run_pipeline([*command, *options], out)
        seconds += bare_seconds(generator, listed[1::2])
    figures = _figures(manifest, arguments.count / seconds, first)
    print(f"{arguments.count} photos, {resources}")
    print(f"bare generator  {figures['bare_images_per_second']:.3f} images/s")
    print(f"pipeline        {figures['pipeline_images_per_second']:.3f} images/s: {figures['ratio']:.1%} of it")
    print(f"first file      {first:.1f} s after the start of the command")
    for stage, rate in figures["stage_images_per_second"].items():
        print(f"{stage:>14}  {rate:.3g} images/s")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _figures(manifest: dict[str, Any], bare: float, first: float) -> dict[str, Any]:
    actors = manifest["actors"]
    rate = actors["images"] / (manifest["seconds"] - actors["seconds_start"])
    stages = manifest["stages"] | manifest["reading"] | {"write": actors["seconds_write_image"]}
    return {
        "bare_images_per_second": bare,
        "pipeline_images_per_second": rate,
        "ratio": rate / bare,
        "seconds_to_first_file": first,
        "stage_images_per_second": {stage: 1 / seconds for stage, seconds in stages.items() if seconds > 0},
        "manifest": manifest,
    }


if __name__ == "__main__":
    raise SystemExit(main())

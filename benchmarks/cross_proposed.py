"""Prompts of another model's predictor against those of a SAM's own: what `aop` loses where no predictor was trained.

    git show 6b66793:aopsam/weights/tiny.safetensors > runs/second.safetensors
    git show 6b66793:aopsam/weights/predictor-tiny.safetensors > runs/second-predictor.safetensors
    python benchmarks/cross_proposed.py --data bsds500/val --sam tiny --checkpoint runs/second.safetensors \\
        --predictor runs/second-predictor.safetensors

The SAM of --checkpoint decodes both; its own predictor (--predictor) proposes, or the bundled `tiny` with its own. mIoU
is reading (a), over ground-truth masks, 95 % by bootstrap over photos; differences are paired.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice

import torch

from aopsam.metrics import mean_interval, paired_difference
from aopsam.photos.decode import open_photo
from aopsam.predictor.weights import load_predictor
from aopsam.prompting import make_strategy
from aopsam.sam.encode import encode
from aopsam.sam.registry import load_sam
from benchmarks.equal_prompts import AskedOnce
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.config.strategy_spec import parse_strategies
from stages.evaluate.ground_truth import usable_annotations
from stages.storage.location import absolute


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="prompts of another model's predictor against a SAM's own")
    parser.add_argument("--data", required=True, help="annotated photos: tar, folder, glob or .json")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--checkpoint", required=True, help="its weights, other than the bundled ones")
    parser.add_argument("--predictor", required=True, help="trained for those weights")
    parser.add_argument("--prompts", default="aop,aop(elimination=diverse,max_decoded=100)", help="STRATEGY,…")
    parser.add_argument("--limit", type=int, help="photos, the first ones")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    model, own = load_sam(arguments.sam, arguments.checkpoint), load_predictor(arguments.predictor)
    specs = parse_strategies(arguments.prompts)
    strategies = {
        (spec.text, who): make_strategy(spec.name, model, predictor, **spec.options)
        for spec in specs
        for who, predictor in (("own", own), ("tiny", None))
    }
    counts: list[int] = []
    found: dict[tuple[str, str], list[tuple[float, int]]] = {key: [] for key in strategies}
    samples = (sample for uri in list_shards(absolute(arguments.data)) for sample in read_annotated(uri, print))
    for sample in islice(samples, arguments.limit):
        rgb = open_photo(sample.jpeg, 200_000_000).rgb
        annotations = usable_annotations(sample.annotations, (rgb.shape[0], rgb.shape[1]))
        if annotations:
            photo = AskedOnce(encode(model, rgb), annotations)
            counts.append(len(annotations))
            for key, strategy in strategies.items():
                found[key].append(photo.run(strategy))
    print(f"{arguments.data}, {len(counts)} photos, {sum(counts)} masks\n")
    print("| prompts | proposed by | decoded | mIoU | 95 % | own - this | 95 % |\n|---|---|---:|---:|---:|---:|---:|")
    for (prompts, who), results in found.items():
        values = [value for value, _ in results]
        estimate = mean_interval(values, counts)
        apart = paired_difference([value for value, _ in found[prompts, "own"]], values, counts, counts)
        assert estimate is not None
        assert apart is not None
        difference = "– | –" if who == "own" else f"{apart.mean:+.3f} | {apart.low:+.3f} … {apart.high:+.3f}"
        decoded = sum(count for _, count in results) / len(results)
        print(
            f"| {prompts} | {who} | {decoded:.1f} | {estimate.mean:.3f} | {estimate.low:.3f} … {estimate.high:.3f} |"
            f" {difference} |"
        )


if __name__ == "__main__":
    main()

"""Measure prompt strategies on annotated photos: one model, the same thresholds and photos, one run.

    python pipelines/evaluate.py --data bsds500/val coco/val --sam tiny \\
        --prompts gt-point,gt-box,aop,random-match,grid-16,grid-32 --out out/evaluation
    python pipelines/evaluate.py --data sa1b/sa_000000.tar --sam vit_b,mobile_sam --limit 50 \\
        --prompts "aop,aop(adaptive_filtering=false),aop(box_nms_thresh=0.5),grid-32" \\
        --sweep aop:threshold=0.1,0.2,0.3 "aop(elimination=scaled):k=1.2,1.3,1.4" --out out/evaluation
    ray job submit --working-dir . -- python pipelines/evaluate.py --data /data/val --sam tiny --prompts aop,grid-32 \\
        --out /data/evaluation

Data: tars in SA-1B's layout, instance files of COCO or LVIS (.json) with the photos in a folder beside them, or a
folder of photos beside one of PNG masks (`images` and `masks`, `Imgs` and `GT`, …).
Strategies: those of label_corpus.py, whose options may be those of the generator, too; `gt-point`, `gt-box` (one
prompt a ground-truth mask, best of three masks), `random-match` (as many random points as `aop` decoded).
Writes OUT/table.md (the papers' tables), OUT/index.html (with pictures and failures), OUT/plots/*.svg,
OUT/metrics.parquet, OUT/evaluation.json. Exit codes: 0, 2 for wrong arguments, 3 if no photo could be measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import pyarrow as pa

from stages.annotations.shards import list_shards
from stages.config.arguments import absolute, positive
from stages.config.strategy_spec import add_sweeps, parse_strategies
from stages.evaluate.actor import RESULTS, EvaluatePhotos, Evaluation
from stages.evaluate.failures import show, worst_losses
from stages.evaluate.output import write_evaluation
from stages.evaluate.run import measure
from stages.runner import choose_resources, start_ray
from stages.storage.location import redact


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="mIoU, prompts and time of prompt strategies on annotated photos")
    parser.add_argument(
        "--data", nargs="+", required=True, help="tars, folders, globs or .json; each is measured on its own"
    )
    parser.add_argument("--sam", required=True, help="NAME[,NAME]")
    parser.add_argument("--prompts", required=True, help="STRATEGY[,STRATEGY]; the others are compared to the first")
    parser.add_argument("--sweep", nargs="+", default=[], help="STRATEGY:OPTION=VALUE,VALUE…; joins --prompts")
    parser.add_argument("--out", required=True, type=absolute, help="folder or URI of the results")
    parser.add_argument("--checkpoint", type=absolute, help="weights of the SAM, where not the official or bundled")
    parser.add_argument("--predictor", type=absolute, help="weights of the prompt predictor, where not the bundled")
    parser.add_argument("--limit", type=positive, help="photos of each --data, the first ones")
    parser.add_argument("--failures", type=int, default=6, help="photos shown on which the first strategy loses most")
    parser.add_argument("--seed", type=int, default=0, help="of random prompts and of the bootstrap")
    parser.add_argument("--actors", type=positive, help="default: one a GPU, else one for every two CPUs")
    parser.add_argument("--threads", type=positive, help="CPU threads an actor (default: 2)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        shards = {redact(data): list_shards(absolute(data)) for data in arguments.data}
        sources = [{"data": data, "shards": uris, "limit": arguments.limit} for data, uris in shards.items()]
        strategies = add_sweeps(parse_strategies(arguments.prompts), arguments.sweep)
        sams = tuple(arguments.sam.split(","))
        evaluation = Evaluation(sams, tuple(strategies), arguments.checkpoint, arguments.predictor, arguments.seed)
        here = EvaluatePhotos(evaluation)  # here, too, so that a mistake shows before Ray starts
        weights = here.weights()
    except (ValueError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    start_ray(arguments.actors, arguments.threads)
    resources = choose_resources(len(sources) * (arguments.limit or 10**6), arguments.actors, arguments.threads, 1)
    print(
        f"measuring {arguments.prompts} of {arguments.sam} on {resources.device}: {resources.actors} actors", flush=True
    )
    began = time.monotonic()
    evaluation = replace(evaluation, device=resources.device, threads=resources.threads)
    results = pa.concat_tables([RESULTS.empty_table(), *measure(sources, evaluation, weights, resources)])
    facts = {
        "configuration": vars(arguments) | {"data": list(shards), "out": redact(arguments.out)},
        "weights": weights,
        "seconds": time.monotonic() - began,
        "resources": asdict(resources),
    }
    losses = show(worst_losses(results, strategies, arguments.failures), sources, here)
    outcome = write_evaluation(results, strategies, facts, arguments.out, arguments.seed, losses)
    print(outcome.table)
    for failure in outcome.failures:
        print(f"not measured: {failure}")
    print(f"{outcome.measured} photos measured, {len(outcome.failures)} not; tables in {redact(arguments.out)}")
    return 0 if outcome.measured else 3


if __name__ == "__main__":
    raise SystemExit(main())

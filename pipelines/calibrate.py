"""Choose strategy, options and thresholds for a new domain, on a few labelled photos of it.

    python pipelines/calibrate.py --data SHARD --sam tiny --out runs/calibration
    python pipelines/calibrate.py --data COD10K --sam mobile_sam --prompts aop,grid-16 --at-most-prompts 60 \\
        --sweep threshold=0.1,0.2,0.3 box_nms_thresh=0.5,0.7 --limit 30 --out runs/calibration
    python pipelines/label_corpus.py --config runs/calibration/config.yaml --images PHOTOS --out OUT

Data as in evaluate.py. Tries the strategies, then one option of the best after the other, and chooses the fewest
prompts, then the fewest masks, within a point of the best mIoU. Every second photo is held out, to say what the chosen
setting does on photos that it was not chosen by. Writes OUT/config.yaml, OUT/table.md, OUT/index.html, OUT/pareto.svg
and OUT/calibration.json. Exit codes: 0, 2 for wrong arguments or if nothing fits, 3 if no photo could be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import torch

from aopsam.photos.decode import PhotoError
from aopsam.predictor.weights import load_predictor
from aopsam.sam.registry import load_sam
from stages.annotations.shards import list_shards
from stages.calibrate.output import config_of, write_calibration
from stages.calibrate.search import MeasureSettings, Rule, Trial, calibrate, default_sweeps
from stages.config.arguments import absolute, positive
from stages.config.strategy_spec import parse_strategies, parse_values
from stages.evaluate.actor import open_sample, read_samples
from stages.storage.location import redact


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="a configuration for label_corpus.py, chosen on a few labelled photos")
    parser.add_argument("--data", required=True, help="tar, folder, glob or .json of labelled photos")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--prompts", default="aop", help="STRATEGY[,STRATEGY] to begin with")
    parser.add_argument("--sweep", nargs="+", help="OPTION=VALUE,VALUE… to try instead of the usual ones")
    parser.add_argument("--within", type=float, default=1.0, help="points of mIoU to give up for a lower cost")
    parser.add_argument("--at-most-prompts", type=float, help="instead: the best mIoU at so many prompts a photo")
    parser.add_argument("--no-hold-out", action="store_true", help="choose by all photos, and measure on none")
    parser.add_argument("--out", required=True, type=absolute, help="folder or URI of the results")
    parser.add_argument("--checkpoint", type=absolute, help="weights of the SAM, where not the official or bundled")
    parser.add_argument("--predictor", type=absolute, help="weights of the prompt predictor, where not the bundled")
    parser.add_argument("--limit", type=positive, default=20, help="photos, the first ones (default: 20)")
    parser.add_argument("--threads", type=positive, default=2, help="CPU threads")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    try:
        source = {"data": redact(arguments.data), "shards": list_shards(absolute(arguments.data))}
        bases = parse_strategies(arguments.prompts)
        given = None if arguments.sweep is None else dict(parse_values(text) for text in arguments.sweep)
        model = load_sam(arguments.sam, arguments.checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
        predictor = load_predictor(arguments.predictor) if arguments.predictor else None
        photos = []
        for table in read_samples(pa.Table.from_pylist([source | {"limit": arguments.limit}])):
            try:
                photos.append(open_sample(table.to_pylist()[0]))
            except (PhotoError, ValueError) as error:
                print(f"not used: {error}", file=sys.stderr)
        choosing, others = (photos, []) if arguments.no_hold_out else (photos[::2], photos[1::2])
        if not any(photo.annotations for photo in choosing):
            print(f"calibrate: {source['data']}: no photo with an annotated mask to choose by", file=sys.stderr)
            return 3
        rule = Rule(arguments.within / 100, arguments.at_most_prompts)
        measure = MeasureSettings(model, choosing, predictor)
        sweeps = partial(default_sweeps, model) if given is None else lambda name: given
        trials, chosen = calibrate(measure, bases, sweeps, rule, _tell)
        named = {"sam": arguments.sam, "checkpoint": arguments.checkpoint, "predictor": arguments.predictor}
        config = config_of(chosen, named)
    except (ValueError, OSError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    held_out = None
    if any(photo.annotations for photo in others):
        again = MeasureSettings(model, others, predictor)
        held_out = again(bases[0]), again(chosen.spec)
    facts = {"arguments": vars(arguments) | {"data": source["data"], "out": redact(arguments.out)}}
    print(write_calibration(trials, chosen, held_out, config, facts, arguments.out))
    print(f"configuration in {redact(arguments.out)}/config.yaml")
    return 0


def _tell(trial: Trial) -> None:
    print(f"{trial.spec.text}: mIoU {trial.quality:.3f}, {trial.prompts:.1f} prompts", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

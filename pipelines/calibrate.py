"""Choose strategy, options and thresholds for a new domain, on a few labelled photos of it.

    python pipelines/calibrate.py --data SHARD --sam tiny --out runs/calibration
    python pipelines/calibrate.py --data COD10K --sam mobile_sam --prompts aop,grid-16 --at-most-prompts 60 \\
        --sweep threshold=0.1,0.2,0.3 mask_nms_thresh=0.5,0.7 --limit 30 --out runs/calibration
    python pipelines/label_corpus.py --config runs/calibration/config.yaml --images PHOTOS --out OUT

Data as in evaluate.py. Tries the strategies, then one option of the best after the other, and chooses the fewest
prompts, then the fewest masks, within a point of the best mIoU. Every second photo is held out, to say what the chosen
setting does on photos that it was not chosen by. Writes OUT/config.yaml, OUT/table.md, OUT/index.html, OUT/pareto.svg
and OUT/calibration.json. Exit codes: 0, 2 for wrong arguments or if nothing fits, 3 if no photo could be read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated

from aopsam._options import Count, Limits
from stages.config.command_line import ModelArguments, Uri, checking_input, command_anew, parse
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Find a configuration for label_corpus.py, chosen on a few labelled photos."""

    data: str
    """Tar, folder, glob or instance file (.json) of labelled photos."""
    prompts: str = "aop"
    """STRATEGY[,STRATEGY] to begin with."""
    sweep: tuple[str, ...] = ()
    """OPTION=VALUE,VALUE… to try instead of the usual ones."""
    within: Annotated[float, Limits(0, 100)] = 1.0
    """Points of mIoU to give up for a lower cost."""
    at_most_prompts: Annotated[float, Limits(0)] | None = None
    """Instead: the best mIoU at so many prompts a photo."""
    no_hold_out: bool = False
    """Choose by all photos, and measure on none."""
    out: Uri
    """Folder or URI of the results."""
    predictor: Uri | None = None
    """Weights of the prompt predictor, or REGISTRY@VERSION; by default the bundled ones."""
    limit: Count = 20
    """Photos, the first ones."""
    threads: Count = 2
    """CPU threads."""


@command_anew
def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Try settings and choose; what takes seconds to import comes now, after the flags have been judged."""
    import torch

    from aopsam.sam.registry import load_sam
    from stages.calibrate.output import check_out, config_of, write_calibration
    from stages.calibrate.search import MeasureSettings, Rule, calibrate, default_sweeps, measure_both, open_photos
    from stages.config.strategy_spec import parse_strategies, parse_values
    from stages.registry.reference import open_predictor
    from stages.storage.fetched import local_file

    torch.set_num_threads(arguments.threads)
    with checking_input():
        check_out(arguments.out)
        bases = parse_strategies(arguments.prompts)
        given = dict(parse_values(text) for text in arguments.sweep)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_sam(arguments.sam, local_file(arguments.checkpoint)).to(device)
        predictor = open_predictor(arguments.predictor)
        photos = open_photos(arguments.data, arguments.limit)
    choosing, others = (photos, []) if arguments.no_hold_out else (photos[::2], photos[1::2])
    if not any(photo.annotations for photo in choosing):
        print(f"calibrate: {redact(arguments.data)}: no photo with an annotated mask to choose by", file=sys.stderr)
        return 3
    with checking_input():
        measure = MeasureSettings(model, choosing, predictor)
        sweeps = (lambda spec: given) if given else partial(default_sweeps, model, predictor)
        rule = Rule(arguments.within / 100, arguments.at_most_prompts)
        trials, chosen = calibrate(measure, bases, sweeps, rule, partial(print, file=sys.stderr))
        config = config_of(chosen, {name: getattr(arguments, name) for name in ("sam", "checkpoint", "predictor")})
    held_out = measure_both(MeasureSettings(model, others, predictor), bases[0], chosen.spec)
    facts = {"arguments": asdict(arguments) | {name: redact(getattr(arguments, name)) for name in ("data", "out")}}
    print(write_calibration(trials, chosen, held_out, config, facts, arguments.out))
    print(f"configuration in {redact(arguments.out)}/config.yaml")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

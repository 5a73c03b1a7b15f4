"""Measure prompt strategies on annotated photos: one model, the same thresholds and photos, one run.

    python pipelines/evaluate.py --data bsds500/val coco/val --sam tiny \\
        --prompts gt-point,gt-box,aop,random-match,grid-16,grid-32 --out out/evaluation
    python pipelines/evaluate.py --data sa1b/sa_000000.tar --sam vit_b,mobile_sam --limit 50 \\
        --prompts "aop,aop(adaptive_filtering=false),aop(mask_nms_thresh=0.5),grid-32" \\
        --sweep aop:threshold=0.1,0.2,0.3 "aop(elimination=scaled):k=1.2,1.3,1.4" --out out/evaluation
    ray job submit --working-dir . -- python pipelines/evaluate.py --data /data/val --sam tiny --prompts aop,grid-32 \\
        --out /data/evaluation

Data: SA-1B's tars, instance files of COCO or LVIS (.json) beside a folder of photos, photos beside PNG masks.
Strategies: those of label_corpus.py, whose options may be those of the generator, too; `gt-point`, `gt-points-2`,
`gt-box` (one prompt a ground-truth mask, best of three masks; with refine=formula or masks_per_prompt=1 the one that
the model would choose), `random-match` (as many random points as `aop` decoded).
Writes OUT/table.md (the papers' tables), OUT/index.html (with pictures and failures), OUT/plots/*.svg,
OUT/metrics.parquet, OUT/evaluation.json, and OUT/parts, by which the same command goes on after a kill. Exits 0, 2 for
wrong arguments, 3 if no photo could be measured or too many failed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from aopsam._options import Count, Limits
from stages.config.command_line import RunArguments, SamNames, Uri, checking_input, command, parse
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    """Measure mIoU, prompts and time of prompt strategies on annotated photos."""

    data: tuple[str, ...]
    """Tars, folders, globs or instance files (.json); each is measured on its own."""
    sam: SamNames
    """Models, separated by commas."""
    prompts: str
    """STRATEGY[,STRATEGY]; the others are compared to the first."""
    sweep: tuple[str, ...] = ()
    """STRATEGY:OPTION=VALUE,VALUE…; joins --prompts."""
    out: Uri
    """Folder or URI of the results."""
    checkpoint: Uri | None = None
    """Weights of the SAM, where not the bundled or official ones."""
    predictor: Uri | None = None
    """Weights of the prompt predictor, or REGISTRY@VERSION; by default the bundled ones."""
    limit: Count | None = None
    """Photos of each --data, the first ones; by default all."""
    failures: Annotated[int, Limits(0)] = 6
    """Photos shown on which the first strategy loses most."""
    seed: Annotated[int, Limits(0)] = 0
    """Seed of random prompts and of the bootstrap."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Measure what is not yet measured; what takes seconds to import comes now, after the flags have been judged."""
    from stages.config.strategy_spec import add_sweeps, parse_strategies, preset_values
    from stages.engine.resources import start
    from stages.evaluate.actor import EvaluatePhotos, Evaluation
    from stages.evaluate.failures import show, worst_losses
    from stages.evaluate.output import write_evaluation, write_metrics
    from stages.evaluate.run import list_sources, measure, prepare_evaluation
    from stages.registry.reference import resolve_predictor

    began, out, limit = time.monotonic(), arguments.out.rstrip("/"), arguments.limit
    with checking_input():
        sources = list_sources(arguments.data, limit)
        strategies = add_sweeps(parse_strategies(arguments.prompts), arguments.sweep)
        which = arguments.checkpoint, resolve_predictor(arguments.predictor), arguments.seed
        evaluation = Evaluation(tuple(arguments.sam.split(",")), tuple(strategies), *which)
        here = EvaluatePhotos(evaluation)
        job = prepare_evaluation(sources, evaluation, weights := here.weights(), out)
    if (status := job.nothing_to_do("tables", arguments.max_failed)) is not None:
        return status
    resources = start(arguments.actors, arguments.threads, limit and limit * len(sources), arguments.device)
    print(f"measuring {arguments.prompts} of {arguments.sam}: {resources}", flush=True)
    done, results = measure(job, evaluation, weights, resources, arguments.max_seconds)
    write_metrics(results, out)
    losses = show(worst_losses(results, strategies, arguments.failures), sources, here)
    given = asdict(arguments) | {"data": [source.name for source in sources], "out": redact(out)}
    given |= {"predictor": evaluation.predictor and redact(evaluation.predictor), "presets": preset_values(strategies)}
    spent = {"seconds": time.monotonic() - began, "resources": asdict(resources)}
    facts = {"configuration": given, "weights": weights} | spent
    outcome = write_evaluation(results, strategies, facts, out, arguments.seed, losses)
    job.finish(done)
    print(f"{outcome}\n{outcome.measured} photos measured, {len(outcome.failures)} not; tables in {redact(out)}")
    return done.exit_status(arguments.max_failed)


if __name__ == "__main__":
    raise SystemExit(main())

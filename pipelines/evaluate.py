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

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import pyarrow as pa

from aopsam._options import Count, Limits
from stages.annotations.shards import list_shards
from stages.config.command_line import ResourceArguments, Uri, checking_input, command, parse
from stages.config.strategy_spec import StrategySpec, add_sweeps, parse_strategies
from stages.engine.resources import start
from stages.evaluate.actor import RESULTS, EvaluatePhotos, Evaluation
from stages.evaluate.failures import show, worst_losses
from stages.evaluate.output import check_out, write_evaluation, write_metrics
from stages.evaluate.run import measure
from stages.storage.location import absolute, printable, redact


@dataclass(frozen=True, kw_only=True)
class Arguments(ResourceArguments):
    """Measure mIoU, prompts and time of prompt strategies on annotated photos."""

    data: tuple[str, ...]
    """Tars, folders, globs or instance files (.json); each is measured on its own."""
    sam: str
    """NAME[,NAME]."""
    prompts: str
    """STRATEGY[,STRATEGY]; the others are compared to the first."""
    sweep: tuple[str, ...] = ()
    """STRATEGY:OPTION=VALUE,VALUE…; joins --prompts."""
    out: Uri
    """Folder or URI of the results."""
    checkpoint: Uri | None = None
    """Weights of the SAM, where not the bundled or official ones."""
    predictor: Uri | None = None
    """Weights of the prompt predictor, where not the bundled ones."""
    limit: Count | None = None
    """Photos of each --data, the first ones; by default all."""
    failures: Annotated[int, Limits(0)] = 6
    """Photos shown on which the first strategy loses most."""
    seed: Annotated[int, Limits(0)] = 0
    """Of random prompts and of the bootstrap."""

    def evaluation(self, strategies: Sequence[StrategySpec]) -> Evaluation:
        """Return models, strategies and seed to measure."""
        sams = tuple(self.sam.split(","))
        return Evaluation(sams, tuple(strategies), self.checkpoint, self.predictor, self.seed)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit status."""
    arguments, began = parse(Arguments, argv), time.monotonic()
    with checking_input():
        check_out(arguments.out)
        shards = {printable(redact(data)): list_shards(absolute(data)) for data in arguments.data}
        sources = [{"data": data, "shards": uris, "limit": arguments.limit} for data, uris in shards.items()]
        strategies = add_sweeps(parse_strategies(arguments.prompts), arguments.sweep)
        evaluation = arguments.evaluation(strategies)
        here = EvaluatePhotos(evaluation)
    resources = start(arguments.actors, arguments.threads, arguments.limit and arguments.limit * len(sources))
    print(f"measuring {arguments.prompts} of {arguments.sam}: {resources}", flush=True)
    results = pa.concat_tables([RESULTS.empty_table(), *measure(sources, evaluation, here.weights(), resources)])
    write_metrics(results, arguments.out)
    losses = show(worst_losses(results, strategies, arguments.failures), sources, here)
    facts = {
        "configuration": asdict(arguments) | {"data": list(shards), "out": redact(arguments.out)},
        "weights": here.weights(),
        "seconds": time.monotonic() - began,
        "resources": asdict(resources),
    }
    outcome = write_evaluation(results, strategies, facts, arguments.out, arguments.seed, losses)
    print("\n".join([outcome.table, *(f"not measured: {failure}" for failure in outcome.failures)]))
    print(f"{outcome.measured} photos measured, {len(outcome.failures)} not; tables in {redact(arguments.out)}")
    return 0 if outcome.measured else 3


if __name__ == "__main__":
    raise SystemExit(main())

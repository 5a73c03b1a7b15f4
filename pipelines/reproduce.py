"""Fill the papers' tables with a SAM and data of your own, the papers' figures beside them.

    python pipelines/reproduce.py --sam vit_h --checkpoint sam_vit_h_4b8939.pth \\
        --data sa1b=/data/sa_000000.tar coco=/data/coco/instances_val2017.json lvis=/data/lvis/lvis_v1_val.json \\
        ilso1k=/data/ILSO1K soc=/data/SOC sip=/data/SIP nc4k=/data/NC4K cod10k=/data/COD10K/Test camo=/data/CAMO \\
        --out runs/reproduction
    python pipelines/reproduce.py --sam tiny --data coco=coco/val --limit 2 --tables aop-2 amr-2 --out /tmp/reproduction

Tables: AoP-SAM's 1 to 4 (aop-1, aop-2, aop-3a … aop-3d, aop-4), MobileSAMv2's 2 to 7 (mobile-sam-v2-2 …), Efficient
SAM2's 1 to 6 (efficient-sam2-1 …) and Adaptive Mask Refinement's II (amr-2). A row is a strategy of evaluate.py, which
is evaluated once on each data set, in OUT/ROLE, in however many tables it is. A table whose data is not given is listed
as not run. The same command goes on after a kill.
Writes OUT/index.html, OUT/tables.md, OUT/reproduction.json. Exit codes: 0, 2 for wrong arguments, 3 if some data had no
photo that could be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from aopsam._options import Count, Limits
from stages.config.command_line import RunArguments, SamName, Uri, checking_input, command, parse
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    """Fill the papers' tables, with their own figures beside."""

    sam: SamName
    """Model: a name of aopsam.sam.registry.MODELS, hf:ORG/NAME or hf:FOLDER."""
    data: tuple[str, ...]
    """ROLE=URI, ROLE one of sa1b, coco, lvis, ilso1k, soc, sip, nc4k, cod10k, camo."""
    out: Uri
    """Folder or URI of the results."""
    checkpoint: Uri | None = None
    """Weights of the SAM, where not the bundled or official ones."""
    predictor: Uri | None = None
    """Weights of the prompt predictor, or REGISTRY@VERSION; by default the bundled ones."""
    tables: tuple[str, ...] = ()
    """Names of tables; by default all."""
    limit: Count | None = None
    """Photos of each data set, the first ones; by default all."""
    seed: Annotated[int, Limits(0)] = 0
    """Seed of random prompts and of the bootstrap."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Reproduce; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Measure what is not yet measured; heavy imports come now, after the flags have been judged."""
    from stages.engine.resources import start
    from stages.evaluate.actor import Evaluation
    from stages.registry.reference import resolve_predictor
    from stages.reproduce.output import WRITTEN, write_reproduction
    from stages.reproduce.run import data_by_role, evaluate_role, prepare_roles
    from stages.reproduce.tables import chosen_tables
    from stages.storage.atomic import check_writable

    out, limit = arguments.out.rstrip("/"), arguments.limit
    with checking_input():
        tables, data = chosen_tables(arguments.tables), data_by_role(arguments.data)
        predictor = resolve_predictor(arguments.predictor)
        what = Evaluation((arguments.sam,), (), arguments.checkpoint, predictor, arguments.seed)
        check_writable(out, *WRITTEN)
        runs = prepare_roles(tables, data, what, limit, out)
    resources = start(arguments.actors, arguments.threads, limit, arguments.device)
    print(f"{len(tables)} tables with {arguments.sam}: {resources}", flush=True)
    done = {run.role: evaluate_role(run, resources, arguments.max_seconds, arguments.max_failed) for run in runs}
    entries = {role: of_role for role, (of_role, _) in done.items()}
    given = asdict(arguments) | {"data": [f"{role}={redact(uri)}" for role, uri in data.items()], "out": redact(out)}
    facts = {"configuration": given, "resources": asdict(resources)}
    print(f"{write_reproduction(tables, entries, arguments.sam, facts, out)}; in {redact(out)}")
    return max(status for _, status in done.values())


if __name__ == "__main__":
    raise SystemExit(main())

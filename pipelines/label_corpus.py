"""Label a corpus: photos in, mask tables out.

    python pipelines/label_corpus.py --images PHOTOS --out OUT
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/label_corpus.py --images s3://bucket/photos --out s3://bucket/out

Writes OUT/labels/*.parquet (one row an image), OUT/manifest.json, OUT/report.html. The same command resumes.
Exits 0 when done; 1 where the end could not be written; 2 for wrong arguments; 3 for too many failures; 130 at ctrl-C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from tyro import MISSING
from tyro.conf import OmitArgPrefixes

from aopsam._options import Count, Limits, Share
from stages.config.command_line import RunArguments, Uri, checking_input, command, parse, settings_file
from stages.config.label_config import LabelConfig
from stages.storage.errors import BadInput
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    """Label a corpus: photos in, mask tables out."""

    images: Uri
    """Folder, glob, tar shards or Parquet."""
    out: Uri
    """Folder for tables and report."""
    config: Uri | None = None
    """YAML or JSON file of settings: any flag below with _ for -, and strategy_options; flags win over it."""
    label: OmitArgPrefixes[LabelConfig] = field(default_factory=LabelConfig)
    """Settings of what is done to each photo."""
    threads: Count | None = 1
    """CPU threads of a model."""
    openers: Annotated[int, Limits(0)] | None = None
    """Processes that open photos apart from the models'; by default, beside GPUs, one for each CPU of other nodes."""
    photos_at_once: Count = 1
    """Photos that a model labels together, for GPUs; masks may differ from those of a photo alone by rounding."""
    rows_per_file: Count | None = None
    """Images an output file, the unit that a kill loses; by default a twentieth of them, 4 to 256."""
    trace: Share = 0.0
    """Share of photos, by their ids, whose rows also tell how they were prompted, for browse_labels.py; 17 KB each."""
    retry_failed: bool = False
    """Label photos again that were not found, could not be read or ended their worker."""
    plan: bool = False
    """Label three photos, say what the run will cost, and stop."""
    price: Annotated[float, Limits(0)] | None = None
    """Price of an actor's hour in any currency, for --plan."""


def parse_arguments(argv: Sequence[str] | None) -> Arguments:
    """Parse the command line; flags win over the file of --config."""
    with checking_input():
        label = LabelConfig() if (file := settings_file(argv)) is None else LabelConfig.from_file(file)
    return parse(Arguments, argv, Arguments(images=MISSING, out=MISSING, config=file, label=label))


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit status."""
    return run(parse_arguments(argv))


def run(arguments: Arguments) -> int:
    """Label what is undone; what takes seconds to import comes now, after the flags have been judged."""
    from stages.engine.resources import choose_resources, leave, start
    from stages.label.job import LabelJob, no_photos
    from stages.label.plan import plan_labelling
    from stages.results.finish import finish_run
    from stages.results.summary import describe, describe_nothing_to_do, exit_status

    how = (threads := arguments.threads or 1), arguments.retry_failed, arguments.photos_at_once, arguments.trace
    with checking_input():
        job = LabelJob.prepare(arguments.label, arguments.images, arguments.out, *how)
    wanted = arguments.actors, threads, None, arguments.device, arguments.openers
    if arguments.plan:
        print(plan_labelling(job, choose_resources(*wanted), arguments.price))
        return 0
    if finished := job.finished():
        print(describe_nothing_to_do(*finished, f"{redact(job.out)}/labels"))
        return exit_status(finished[0], arguments.max_failed)
    job.begin()
    print(f"{job}, {(resources := start(*wanted))}", flush=True)
    progress = job.label(resources, arguments.rows_per_file, arguments.max_seconds)
    if not progress.found.listed:
        raise BadInput(no_photos(job.flow.images, progress.found.others))
    summary, report = finish_run(job, progress, resources.actors, leave)
    print(f"{describe(summary)}\ntables   {redact(job.out)}/labels\nreport   {redact(report)}")
    return exit_status(summary, arguments.max_failed)


if __name__ == "__main__":
    raise SystemExit(main())

"""Label a corpus: photos in, mask tables out.

On a laptop:
    python pipelines/label_corpus.py --images PHOTOS --out OUT
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/label_corpus.py --images s3://bucket/photos --out s3://bucket/out

Writes OUT/labels/*.parquet (one row an image), OUT/manifest.json and OUT/report.html. The same command again finishes
what a kill left undone, with --retry-failed what may have failed by chance, too; --plan says what it will cost. Exit
status: 0 done; 1 the end could not be written, the labels are kept; 2 wrong arguments; 3 too many failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tyro import MISSING
from tyro.conf import OmitArgPrefixes

from aopsam._options import Count, Share
from stages.config.command_line import Uri, checking_input, command, parse, settings_file
from stages.config.label_config import LabelConfig
from stages.engine.resources import choose_resources
from stages.label.job import LabelJob
from stages.label.plan import plan_labelling
from stages.results.finish import finish_run
from stages.results.summary import describe, describe_nothing_to_do, exit_status
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Label a corpus: photos in, mask tables out."""

    images: Uri
    """Folder, glob, tar shards or Parquet."""
    out: Uri
    """Folder for tables and report."""
    config: Uri | None = None
    """YAML or JSON file of settings: any flag below with _ for -, and strategy_options; flags win over it."""
    label: OmitArgPrefixes[LabelConfig] = field(default_factory=LabelConfig)
    """What is done to each photo."""
    max_failed: Share | None = None
    """Share of failed images to accept; by default any below all."""
    actors: Count | None = None
    """Label actors; by default one a GPU, else one a CPU."""
    threads: Count = 1
    """CPU threads of a model."""
    rows_per_file: Count | None = None
    """Images an output file, the unit that a kill loses; by default a twentieth of them, 4 to 256."""
    retry_failed: bool = False
    """Label photos again that were not found, could not be read or ended their worker."""
    plan: bool = False
    """Label three photos, say what the run will cost, and stop."""


def parse_arguments(argv: Sequence[str] | None) -> Arguments:
    """Parse the command line; flags win over the file of --config."""
    file = settings_file(argv)
    with checking_input():
        label = LabelConfig() if file is None else LabelConfig.from_file(file)
    return parse(Arguments, argv, Arguments(images=MISSING, out=MISSING, config=file, label=label))


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit status."""
    arguments = parse_arguments(argv)
    with checking_input():
        given = arguments.label, arguments.images, arguments.out, arguments.threads
        job = LabelJob.prepare(*given, retry_failed=arguments.retry_failed)
    if arguments.plan:
        print(plan_labelling(job, choose_resources(arguments.actors, arguments.threads)))
        return 0
    if finished := job.finished():
        print(describe_nothing_to_do(finished, job.listing.num_rows, f"{redact(job.out)}/labels"))
        return exit_status(finished, arguments.max_failed)
    job.begin()
    progress, actors = job.label(arguments.actors, arguments.threads, arguments.rows_per_file)
    summary, report = finish_run(job, progress, actors)
    print(f"{describe(summary)}\ntables   {redact(job.out)}/labels\nreport   {redact(report)}")
    return exit_status(summary, arguments.max_failed)


if __name__ == "__main__":
    raise SystemExit(main())

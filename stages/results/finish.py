"""End a labelling run: what its tables hold, the report, and last the manifest that says that it is finished."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from stages.config.manifest import make_manifest, write_manifest
from stages.label.job import LabelJob
from stages.label.progress import LabelProgress
from stages.results.report import write_report
from stages.results.settle import settle
from stages.results.summary import summarise
from stages.storage.errors import CannotWrite
from stages.storage.location import redact


def finish_run(
    job: LabelJob, progress: LabelProgress, actors: int, leave: Callable[[], None] = lambda: None
) -> tuple[dict, str]:
    """Join small files, write report and manifest; return the manifest, and the report's path or URI.

    The manifest comes last: where the report could not be written, the same command again is not told that the run is
    finished, and writes it.

    Args:
        job: the run.
        progress: of this run.
        actors: number of actors of this run.
        leave: leaves the cluster; called in a thread beside the report, once nothing needs the cluster any more.

    Raises:
        CannotWrite: the tables cannot be read or the rest not be written; the message says that the rows are kept.
    """
    try:
        found = settle(job.out)
        facts = summarise(found, progress, actors, progress.found.others)
        with ThreadPoolExecutor(1) as beside:
            left = beside.submit(leave)
            report = write_report(job.out, job.flow.images, make_manifest(job.configuration, "finished", facts), found)
        left.result()
        return write_manifest(job.out, job.configuration, "finished", facts), report
    except (ValueError, OSError) as error:
        kept = f"the labels are kept in {redact(job.out)}/labels, the same command again writes the rest"
        raise CannotWrite(f"{error}: {kept}") from error

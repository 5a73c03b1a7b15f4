"""Retrain the prompt predictor on what a corpus has that earlier versions have not seen, and use it if it is as good.

    python pipelines/retrain.py --corpus s3://bucket/photos --registry s3://bucket/registry --eval s3://bucket/val.json
    python pipelines/retrain.py --corpus photos --registry registry --eval val --annotated fixed.json=3 --sparse coco
    ray job submit --working-dir . -- python pipelines/retrain.py --corpus s3://bucket/photos \\
        --registry s3://bucket/registry --eval s3://bucket/val.json

New photos, by their content, are curated and labelled by a costly strategy, unless they are annotated (--annotated,
--sparse: as build_prompt_maps.py takes them, URI or URI=WEIGHT). The predictor in use is trained on, and both are
measured on --eval: the new one is taken into use if the paired interval of mIoU reaches no further than --tolerance
points below 0, with no more prompts. REGISTRY/versions/N holds weights, card, page and lineage, REGISTRY/latest.json
says which is in use, REGISTRY/runs/DATE is the work: the same command goes on where it was killed. docs/retraining.md
says more. Exit codes: 0, in use or refused or nothing new; 1 for a failure, or another process at the same run; 2 for
wrong arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tyro.conf import OmitArgPrefixes

from stages.config.command_line import RunArguments, Uri, checking_input, command, parse
from stages.retrain.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Arguments(RunArguments):
    """Retrain the prompt predictor on what is new in a corpus."""

    corpus: Uri
    """Photos: folder, glob, tars, Parquet."""
    registry: Uri
    """Folder or s3:// URI of the versions."""
    eval: tuple[Uri, ...]
    """Annotated photos that old and new are compared on; never trained on."""
    settings: OmitArgPrefixes[Settings] = field(default_factory=Settings)
    """Settings of the retraining."""
    run: str | None = None
    """Name of the run below REGISTRY/runs; by default the date, or yesterday's where that run has not ended."""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Retrain; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Do what is undone of the run; what takes seconds to import comes now, after the flags have been judged."""
    from stages.engine.resources import start
    from stages.registry.lease import hold
    from stages.registry.versions import Registry
    from stages.retrain.choose import choose_photos, copy_chosen, lineage_of
    from stages.retrain.find import find_new
    from stages.retrain.job import Means, RetrainJob, name_of_today
    from stages.retrain.learn import build_all_maps, label_photos, train
    from stages.retrain.release import compare, release

    with checking_input():
        registry = Registry(arguments.registry.rstrip("/"))
        name = arguments.run or name_of_today(registry)
        job = RetrainJob(registry, name, arguments.corpus, arguments.eval, arguments.settings).prepared()
    if said := job.finished():
        print(said)
        return 0
    with hold(job.run) as lease:
        resources = start(arguments.actors, arguments.threads, device=arguments.device)
        means = Means(resources, arguments.max_seconds, arguments.max_failed)
        found = find_new(job, means)
        if isinstance(found, str):
            print(found)
            return 0
        curation = choose_photos(job, found, means)
        photos = copy_chosen(job, found, curation)
        labels = label_photos(job, photos, means)
        maps = build_all_maps(job, found, photos, labels, means)
        weights = train(job, maps, means)
        compared = compare(job, weights, means)
        print(release(job, weights, compared, found, lineage_of(job, found, curation), lease))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Label a corpus: photos in, mask tables out.

On a laptop:
    python pipelines/label_corpus.py --images PHOTOS --out OUT
On a cluster (absolute paths or URIs that every node reaches):
    ray job submit --working-dir . -- python pipelines/label_corpus.py --images s3://bucket/photos --out s3://bucket/out

Writes OUT/labels/*.parquet (one row an image), OUT/manifest.json and OUT/report.html. The same command again finishes
what a kill left undone; --plan says what it will cost. Exit status: 0 done; 2 wrong arguments; 3 too many failures.
"""

from __future__ import annotations

import argparse
import sys

from stages.config.arguments import absolute, add_label_options, label_config, positive, share
from stages.corpus.listing import list_images
from stages.label.actor import LabelPhotos, make_generator, weights_of
from stages.label.folder import done_images, write_table
from stages.label.plan import plan_labelling
from stages.label.progress import Progress
from stages.results.report import write_report
from stages.results.summary import check_configuration, describe, finished_manifest, write_finished, write_started
from stages.runner import choose_resources, label_manifest, start_ray
from stages.storage.location import redact


def build_parser() -> argparse.ArgumentParser:
    """The arguments of this job."""
    parser = argparse.ArgumentParser(description="Label a corpus: photos in, mask tables out.")
    parser.add_argument("--images", required=True, type=absolute, help="folder, glob, tar shards or Parquet; any URI")
    parser.add_argument("--out", required=True, type=absolute, help="folder for tables and report; any URI")
    add_label_options(parser)
    parser.add_argument("--max-failed", type=share, help="share of failed images to accept (default: any below all)")
    parser.add_argument("--actors", type=positive, help="label actors (default: one a GPU, else one a CPU)")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads of a model (default: 1)")
    parser.add_argument("--rows-per-file", type=positive, help="images an output file, the unit that a kill loses")
    parser.add_argument("--plan", action="store_true", help="label three photos, say what the run will cost, and stop")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the job; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    images, out = arguments.images, arguments.out.rstrip("/")
    try:
        config = label_config(arguments)
        weights = weights_of(make_generator(config))
        # Threads too: they change the order of sums, and with it the last digits.
        settled = {"images": redact(images), "weights": weights, "threads": arguments.threads}
        configuration = config.as_dict() | settled
        check_configuration(out, configuration)
        manifest = list_images(images, exclude=out)
        if manifest.num_rows == 0:
            raise ValueError(f"{redact(images)}: no photos there; give a folder, glob, tar or Parquet that holds some")
        done = done_images(f"{out}/labels")
    except (ValueError, OSError) as error:
        print(f"label_corpus: {error}", file=sys.stderr)
        return 2

    undone = sum(image_id not in done for image_id in manifest.column("image_id").to_pylist())
    if arguments.plan:
        resources = choose_resources(manifest.num_rows, arguments.actors, arguments.threads, arguments.rows_per_file)
        print(plan_labelling(manifest, done, config, images, resources))
        return 0
    before = finished_manifest(out)
    if undone == 0 and before is not None:
        print(f"nothing to do: all {manifest.num_rows} images have their row in {redact(out)}/labels")
        return exit_status(before, arguments.max_failed)
    write_started(out, configuration)
    write_table(manifest, f"{out}/images.parquet")
    progress, actors = Progress(undone), 0
    if undone:
        start_ray(arguments.actors, arguments.threads)
        resources = choose_resources(manifest.num_rows, arguments.actors, arguments.threads, arguments.rows_per_file)
        print(
            f"labelling {undone} of {manifest.num_rows} images: {config.sam}, {config.prompts}, {resources}", flush=True
        )
        settings = {"config": config, "images": images} | resources.of_an_actor()
        progress, actors = Progress(undone), resources.actors
        for finished in label_manifest(manifest, f"{out}/labels", LabelPhotos, settings, resources):
            progress.add(finished)
        progress.close()
    summary = write_finished(out, configuration, progress, actors)
    report = write_report(out, images, summary)
    print(f"{describe(summary)}\ntables   {redact(out)}/labels\nreport   {redact(report)}")
    return exit_status(summary, arguments.max_failed)


def exit_status(summary: dict, max_failed: float | None) -> int:
    """3 where more failed than was accepted or nothing could be labelled, else 0."""
    labelled = summary["status"]["ok"] + summary["status"]["empty"]
    too_many = max_failed is not None and summary["failed_share"] > max_failed
    return 3 if too_many or labelled == 0 else 0


if __name__ == "__main__":
    raise SystemExit(main())

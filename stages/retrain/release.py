"""Compare the new weights with the old ones, make a version of them, and take it into use if it passes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from aopsam.report.evaluation_page import evaluation_html
from aopsam.sam.checkpoints import file_sha256
from schemas.lineage import SCHEMA
from stages.annotations.job import status_of
from stages.annotations.samples import Source
from stages.config.strategy_spec import StrategySpec
from stages.evaluate.actor import EvaluatePhotos, Evaluation
from stages.evaluate.charts import charts_of
from stages.evaluate.failures import show, worst_losses
from stages.evaluate.output import write_evaluation, write_metrics
from stages.evaluate.run import list_sources, measure, prepare_evaluation
from stages.evaluate.tables import facts_of, fill, markdown
from stages.registry.lease import Lease
from stages.registry.versions import CARD, METRICS, PAGE, WEIGHTS, Version
from stages.retrain.find import Found
from stages.retrain.gate import Verdict, judge
from stages.retrain.job import Means, RetrainJob, accept, proposing
from stages.storage.fetched import local_file, read_file
from stages.storage.location import redact
from stages.storage.tables import read_table

SHOWN = 4
"""Photos on the page on which the new weights gain most, and as many on which they lose most."""


@dataclass(frozen=True)
class Compared:
    """Old and new weights side by side.

    Attributes:
        number: reserved for the version.
        specs: the old strategy, if there is one, and the new one.
        entries: of `stages.evaluate.summary.summarise`.
        verdict: of the gate.
        stage: what measures the strategies.
        sources: the photos.
    """

    number: int
    specs: Sequence[StrategySpec]
    entries: Sequence[Mapping[str, Any]]
    verdict: Verdict
    stage: EvaluatePhotos
    sources: Sequence[Source]


def compare(job: RetrainJob, weights: str, means: Means) -> Compared:
    """Measure old and new weights on the same photos, those that are not yet, and judge.

    Args:
        job: the run.
        weights: folder of the new weights.
        means: what it works with.
    """
    number, old, out = job.registry.reserve(job.name), job.before(), f"{job.run}/evaluation"
    new = proposing(f"version {number}", f"{weights}/{WEIGHTS}")
    specs = [new] if old is None else [old, new]
    sources = list_sources(job.judged, None)
    settings, on = job.settings, means.resources
    evaluation = Evaluation((settings.sam,), tuple(specs), settings.checkpoint, threads=on.threads)
    stage = EvaluatePhotos(evaluation)
    work = prepare_evaluation(sources, evaluation, used := stage.weights(), out)
    if work.finished() is None:
        done, results = measure(work, evaluation, used, on, means.max_seconds)
        accept("eval", status_of(done.photos, done.failed, means.max_failed))
        write_metrics(results, out)
        facts = {"configuration": job.configuration, "weights": used, "resources": asdict(on)}
        write_evaluation(results, specs, facts, out)
        work.finish(done)
    entries = json.loads(read_file(f"{out}/evaluation.json"))["results"]
    verdict = judge(entries, None if old is None else old.text, new.text, settings.gate)
    print(f"compared: {verdict.reason}", flush=True)
    return Compared(number, specs, entries, verdict, stage, sources)


def release(
    job: RetrainJob, weights: str, compared: Compared, found: Found, photos: Sequence[Mapping[str, Any]], lease: Lease
) -> str:
    """Make the version, take it into use if it passed and nobody else was first, and return lines that say so.

    Args:
        job: the run.
        weights: folder of the new weights.
        compared: of `compare`.
        found: photos of the run.
        photos: rows of schemas/lineage.py.
        lease: hold of the run's folder.
    """
    number, verdict = compared.number, compared.verdict
    content = read_file(f"{weights}/{WEIGHTS}")
    digest = file_sha256(Path(local_file(f"{weights}/{WEIGHTS}")))
    version = Version(
        number, job.parent, job.name, digest, found.inputs_sha256, verdict.passed, verdict.reason, job.configuration
    )
    table = pa.Table.from_pylist([dict(photo) for photo in photos], schema=SCHEMA)
    figures = {"passed": verdict.passed, "reason": verdict.reason, "results": compared.entries}
    files = {
        WEIGHTS: content,
        METRICS: json.dumps(figures, indent=2, ensure_ascii=False).encode(),
        CARD: _card(version, compared, table.num_rows).encode(),
        PAGE: _page(job, version, compared).encode(),
    }
    lease.check()
    job.registry.publish(version, files, table)
    outcome = _take_into_use(job, compared)
    job.end(number, outcome)
    return f"{outcome}\npage     {redact(job.registry.folder(number))}/{PAGE}"


def _take_into_use(job: RetrainJob, compared: Compared) -> str:
    """Promote the version if it passed and the version in use is still the one it was compared with."""
    number, reason = compared.number, compared.verdict.reason
    latest = job.registry.latest()
    in_use = latest and latest.number
    if in_use == number:  # by this run, before it was killed
        return f"version {number} is in use now: {reason}"
    if not compared.verdict.passed:
        return f"version {number} was not taken into use: {reason}"
    if in_use != job.parent or not job.registry.promote(number, latest, job.name):
        first = job.registry.latest()
        other = "none is" if first is None else f"version {first.number} is"
        return f"version {number} was not taken into use: {other} in use by now, which it was not compared with"
    return f"version {number} is in use now: {reason}"


def _card(version: Version, compared: Compared, photos: int) -> str:
    """Return the card of a version: data, terms, recipe, seed, quality."""
    configuration = version.configuration
    recipe = "\n".join(f"| {name} | {value} |" for name, value in configuration["recipe"].items())
    tables = markdown(facts_of(compared.entries, compared.specs), fill(compared.entries, compared.specs))
    sam = configuration["weights"]["sam"]
    places = ", ".join([*configuration["corpus"], *configuration["annotated"], *configuration["sparse"]])
    return f"""# Prompt predictor, version {version.number}

{"Passed" if version.passed else "Refused"}: {version.reason}.

- For: {sam["name"]} ({sam["sha256"][:12]}). Trained on from {_origin(compared)}, by run {version.run}.
- Data: {photos} photos of {places}; photos.parquet has the digest of each. Their terms are those of their owners.
- Annotations: those of the annotated sources, else masks of `{configuration["teacher_prompts"]}`.
- Made: {datetime.now(UTC).date().isoformat()}. Weights: {version.weights_sha256}.

| recipe | |
|---|---|
{recipe}

{tables}"""


def _origin(compared: Compared) -> str:
    return compared.specs[0].text if len(compared.specs) > 1 else "random weights"


def _page(job: RetrainJob, version: Version, compared: Compared) -> str:
    """Return the page of a version: verdict, tables, charts, and photos on which it gains and loses most."""
    specs, entries = compared.specs, compared.entries
    metrics = read_table(f"{job.run}/evaluation", "metrics.parquet")
    losses = worst_losses(metrics, list(reversed(specs)), SHOWN)
    gains = worst_losses(metrics, specs, SHOWN) if len(specs) > 1 else []
    lines = [
        f"{'Passed' if version.passed else 'Refused'}: {version.reason}.",
        f"Run {version.run}, trained on from {_origin(compared)}.",
        *facts_of(entries, specs),
    ]
    return evaluation_html(
        f"Version {version.number} of {redact(job.registry.uri)}",
        lines,
        fill(entries, specs),
        charts_of(entries, specs),
        show([*losses, *gains], compared.sources, compared.stage),
        {"configuration": version.configuration},
        ("Photos", "on which the new version loses most, then those on which it gains most"),
    )

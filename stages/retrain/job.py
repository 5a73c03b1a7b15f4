"""A retraining before its first photo: what it is of, its folder below the registry, the version it goes on from."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from aopsam.predictor.weights import BUNDLED, load_predictor
from stages.annotations.shards import list_shards
from stages.config.label_config import LabelConfig
from stages.config.manifest import check_configuration, finished_manifest, write_manifest
from stages.config.strategy_spec import PREDICTOR, StrategySpec
from stages.corpus.listing import open_corpus
from stages.engine.resources import Resources
from stages.label.actor import make_generator, weights_of
from stages.registry.reference import open_predictor
from stages.registry.versions import Registry, Version
from stages.retrain.settings import Settings
from stages.storage.atomic import check_writable
from stages.storage.errors import RunFailed
from stages.storage.fetched import read_file
from stages.storage.location import redact

FOUND = "found"
"""Folder of a run that says which photos are new."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def proposing(name: str, predictor: str) -> StrategySpec:
    """Return `aop` with a predictor's points alone: things would hide what it lacks."""
    return StrategySpec(name, "aop", {"things": 0, PREDICTOR: predictor})


@dataclass(frozen=True)
class Means:
    """Resources and limits that the phases of a run share.

    Attributes:
        resources: actors, threads and device.
        max_seconds: longest time for a photo.
        max_failed: share of failed photos to accept; None for any below all.
    """

    resources: Resources
    max_seconds: float
    max_failed: float | None


@dataclass(frozen=True)
class RetrainJob:
    """A retraining.

    Attributes:
        registry: of the versions.
        name: of the run, a folder below the registry.
        corpus: photos, as --images of `label_corpus.py`.
        judged: annotated photos that old and new are compared on.
        settings: what is trained on and how.
        parent: version to go on from and to compare with; None for none yet.
    """

    registry: Registry
    name: str
    corpus: str
    judged: tuple[str, ...]
    settings: Settings
    parent: int | None = None

    @property
    def run(self) -> str:
        """Folder of the run."""
        return f"{self.registry.uri}/runs/{self.name}"

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """Settings, places and weights as values of JSON, without credentials."""
        settings = self.settings
        given = {name: [redact(text) for text in getattr(settings, name)] for name in ("annotated", "sparse")}
        given["corpus"], given["eval"] = [redact(self.corpus)], [redact(each) for each in self.judged]
        return {
            **asdict(settings),
            **given,
            "weights": weights_of(make_generator(self.teacher())),
            "checkpoint": settings.checkpoint and redact(settings.checkpoint),
        }

    def prepared(self) -> RetrainJob:
        """Check all that can be checked before the work, and return the job with its parent; write nothing.

        A run of today or yesterday of the same configuration that was begun and not finished is gone on with.

        Raises:
            ValueError: photos or weights that are not there, a registry or run that cannot be written or is of another
                configuration, a version in use of other weights.
            OSError: something that cannot be read.
        """
        self.registry.check()
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"--run {self.name}: a name is letters, digits, '.', '_' and '-'")
        for uri in (*(source.uri for source in self.settings.sources), *self.judged):
            list_shards(uri)
        open_corpus(self.corpus)
        check_writable(self.registry.uri, "latest.json", "versions/", f"runs/{self.name}/")
        check_configuration(self.run, self.configuration, FOUND, "--run")
        begun, latest = _manifest(self.run), self.registry.latest()
        number = begun["parent"] if begun is not None else None if latest is None else latest.number
        job = replace(self, parent=number)
        job._check_parent()
        return job

    def _check_parent(self) -> None:
        """Refuse to go on from a version that is a predictor of other weights than the settings'."""
        old = None if self.parent is None else open_predictor(f"{self.registry.uri}@{self.parent}")
        digest = self.configuration["weights"]["sam"]["sha256"]
        if old is not None and old.sam_sha256 != digest:
            raise ValueError(
                f"version {self.parent} of {self.registry} is a predictor of {old.sam} ({old.sam_sha256[:12]}), not of"
                f" {self.settings.sam} ({digest[:12]}): give the weights it was trained for (--checkpoint), or another"
                " --registry"
            )

    def finished(self) -> str | None:
        """Return a line about what the run made, where it has ended; else None."""
        manifest = finished_manifest(self.run)
        return None if manifest is None else f"nothing to do: run {self.name} has ended: {manifest['outcome']}"

    def begin(self) -> None:
        """Write what the run is of and from which version it goes on."""
        write_manifest(self.run, self.configuration, "running", {"parent": self.parent})

    def end(self, version: int, outcome: str) -> None:
        """Write what became of the run, last of all."""
        facts = {"parent": self.parent, "version": version, "outcome": outcome}
        write_manifest(self.run, self.configuration, "finished", facts)

    def teacher(self) -> LabelConfig:
        """Return how photos without annotations are labelled.

        Raises:
            ValueError: no strategy.
        """
        settings = self.settings
        config = LabelConfig(sam=settings.sam, checkpoint=settings.checkpoint, prompts=settings.teacher_prompts)
        return config.with_written_options()

    def before(self) -> StrategySpec | None:
        """Return the strategy until now: with the parent, else with the bundled predictor if it is of this very SAM.

        None where it is not.
        """
        if self.parent is not None:
            return proposing(f"version {self.parent}", f"{self.registry.uri}@{self.parent}")
        bundled = load_predictor().sam_sha256 == self.configuration["weights"]["sam"]["sha256"]
        return proposing("the bundled one", str(BUNDLED)) if bundled else None

    def ancestors(self) -> list[Version]:
        """Return the versions that the run goes on from, newest first."""
        return list(self.registry.lineage(self.parent))


def accept(what: str, status: int) -> None:
    """End the run where too much of a phase failed.

    Raises:
        RunFailed: the status is not 0.
    """
    if status:
        raise RunFailed(f"{what}: no photo could be used, or more failed than --max-failed accepts")


def name_of_today(registry: Registry) -> str:
    """Return the name of a run that begins now: the date (UTC); yesterday's where that run is not finished."""
    today = datetime.now(UTC).date()
    yesterday = (today - timedelta(days=1)).isoformat()
    begun = _manifest(f"{registry.uri}/runs/{yesterday}")
    return yesterday if begun is not None and begun["state"] == "running" else today.isoformat()


def _manifest(run: str) -> dict[str, Any] | None:
    """Return the manifest of a run that was begun."""
    try:
        manifest = json.loads(read_file(f"{run}/manifest.json"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and "parent" in manifest else None

"""Find what earlier versions have not seen: photos of the corpus by their content, annotations of annotated photos."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.listing import SCHEMA
from stages.annotations.shards import list_shards
from stages.config.label_config import digest
from stages.corpus.listing import list_images
from stages.corpus.others import describe_others
from stages.engine.progress import Progress
from stages.engine.resources import Resources
from stages.engine.steps import Tasks, run_steps
from stages.retrain.contents import CONTENTS, read_contents
from stages.retrain.job import FOUND, Means, RetrainJob
from stages.storage.atomic import write_text
from stages.storage.fetched import read_file
from stages.storage.location import redact
from stages.storage.tables import list_names, read_each, write_table

LISTED_A_UNIT = 256
"""Listed photos of a unit of work."""

NEW_A_FILE = 512
"""New photos of a file, which is read by one task."""

CORPUS, JUDGED = "corpus", "eval"
"""Names of sources; annotated ones have their number."""


@dataclass(frozen=True)
class Found:
    """Photos of a run.

    Attributes:
        new: rows of the listing with `content_sha256`, of photos without annotations that no ancestor has seen; each
            content once.
        annotated: by the number of its source, its photos: `image_id`, `content_sha256`, `annotations_sha256`, and
            `chosen`, False for those that old and new are compared on.
        inputs_sha256: digest of all that the version will be made of.
    """

    new: pa.Table
    annotated: Mapping[int, pa.Table]
    inputs_sha256: str


def find_new(job: RetrainJob, means: Means) -> Found | str:
    """Return what is new, or a line that says why there is nothing to do; written once into the run's folder.

    Raises:
        ValueError: photos that are not there.
    """
    if f"{FOUND}.json" in list_names(f"{job.run}/{FOUND}"):
        return read_found(job)
    contents, listing = _read(job, means.resources)
    by_source = {name: contents.filter(pc.equal(contents["source"], name)) for name in _sources(job)}
    judged = by_source[JUDGED]["content_sha256"]
    annotated = {}
    for number, _ in enumerate(job.settings.sources):
        rows = by_source[str(number)].select(["image_id", "content_sha256", "annotations_sha256"])
        annotated[number] = rows.append_column("chosen", pc.invert(pc.is_in(rows["content_sha256"], judged)))
    seen = [job.registry.photos(version.number) for version in job.ancestors()]
    known = {value for table in seen for value in table["content_sha256"].to_pylist()}
    for table in (*annotated.values(), by_source[JUDGED]):
        known.update(table["content_sha256"].to_pylist())
    new = _once(listing, by_source[CORPUS], known)
    pairs = _pairs(annotated.values())
    fresh = pairs - _pairs(seen)
    inputs = [job.parent, sorted(new["content_sha256"].to_pylist()), sorted(pairs), job.configuration]
    found = Found(new, annotated, digest({"inputs": inputs}))
    print(f"{listing.num_rows} photos, {new.num_rows} of them new; {len(fresh)} new annotations", flush=True)
    for version in job.registry.versions():
        if version.inputs_sha256 == found.inputs_sha256 and version.run != job.name:
            return f"nothing new since {version}"
    if new.num_rows + len(fresh) < job.settings.at_least:
        return f"nothing to do: fewer new photos and annotations than --at-least {job.settings.at_least}"
    job.begin()
    _write(job, found)
    return found


def _sources(job: RetrainJob) -> list[str]:
    return [CORPUS, JUDGED, *(str(number) for number, _ in enumerate(job.settings.sources))]


def _read(job: RetrainJob, resources: Resources) -> tuple[pa.Table, pa.Table]:
    """Return `CONTENTS` of all sources, and the listing of the corpus; say on stderr what cannot be read."""
    others = Counter[str]()
    listing = list_images(job.corpus, exclude=job.registry.uri, others=others)
    if others:
        print(f"{redact(job.corpus)}: {describe_others(others)}", file=sys.stderr)
    rows = listing.append_column("images", pa.array([job.corpus] * listing.num_rows, pa.string()))
    units = [rows.slice(start, LISTED_A_UNIT) for start in range(0, rows.num_rows, LISTED_A_UNIT)]
    named = [(JUDGED, uri) for uri in job.judged]
    named += [(str(number), source.uri) for number, source in enumerate(job.settings.sources)]
    units += [pa.table({"shard": [shard], "source": [name]}) for name, uri in named for shard in list_shards(uri)]
    tables, progress = [CONTENTS.empty_table()], Progress("photos")
    for table in run_steps(units, [Tasks(read_contents, max(2, resources.actors))]):
        problems = table["problem"].drop_null().to_pylist()
        print("".join(f"left out: {line}\n" for line in problems), end="", file=sys.stderr, flush=True)
        progress.expect(table.num_rows)
        progress.add(table.num_rows, len(problems))
        tables.append(table.filter(table["problem"].is_null()))
    progress.close()
    contents = pa.concat_tables(tables)
    # Of the corpus are those without a source: the listing has no such column.
    return contents.set_column(0, "source", pc.fill_null(contents["source"], CORPUS)), listing


def _once(listing: pa.Table, contents: pa.Table, known: set[str]) -> pa.Table:
    """Return the rows of the listing whose content is not known, the first of each content, with `content_sha256`."""
    of = dict(zip(contents["image_id"].to_pylist(), contents["content_sha256"].to_pylist(), strict=True))
    places, digests, taken = [], [], set(known)
    for place, image_id in enumerate(listing["image_id"].to_pylist()):
        content = of.get(image_id)
        if content is not None and content not in taken:
            taken.add(content)
            places.append(place)
            digests.append(content)
    rows = listing.take(pa.array(places, pa.int64())).select(SCHEMA.names)
    return rows.append_column("content_sha256", pa.array(digests, pa.string()))


def _pairs(tables: Iterable[pa.Table]) -> set[tuple[str, str]]:
    """Return (content, annotations) of tables; of rows without annotations none."""
    found: set[tuple[str, str]] = set()
    for table in tables:
        columns = (table[name].to_pylist() for name in ("content_sha256", "annotations_sha256"))
        found |= {(content, marks) for content, marks in zip(*columns, strict=True) if marks is not None}
    return found


def _write(job: RetrainJob, found: Found) -> None:
    folder = f"{job.run}/{FOUND}"
    for number, name in enumerate(new_files(found.new.num_rows)):
        write_table(found.new.slice(number * NEW_A_FILE, NEW_A_FILE), f"{folder}/{name}")
    for number, table in found.annotated.items():
        write_table(table, f"{folder}/annotated-{number}.parquet")
    with write_text(f"{folder}/{FOUND}.json") as text:
        json.dump({"inputs_sha256": found.inputs_sha256, "new": found.new.num_rows}, text)


def read_found(job: RetrainJob) -> Found:
    """Read what `find_new` found.

    Raises:
        ValueError: the run's folder does not hold it whole.
    """
    folder = f"{job.run}/{FOUND}"
    said = json.loads(read_file(f"{folder}/{FOUND}.json"))
    new = list(read_each(folder, new_files(said["new"]), lambda file: file.read()))
    annotated = {
        number: next(read_each(folder, [f"annotated-{number}.parquet"], lambda file: file.read()))
        for number, _ in enumerate(job.settings.sources)
    }
    empty = SCHEMA.append(pa.field("content_sha256", pa.string())).empty_table()
    return Found(pa.concat_tables(new) if new else empty, annotated, said["inputs_sha256"])


def new_files(found: int) -> list[str]:
    """Return the names of the files of so many new photos; a run that was killed may have left more."""
    return [f"new-{number:05d}.parquet" for number in range(-(-found // NEW_A_FILE))]

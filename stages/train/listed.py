"""Stream photos without annotations part by part: an archive, or some files, is read when the training comes to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import starmap
from typing import Any, TypeVar

import numpy as np

from aopsam.photos.decode import PhotoError, open_photo
from aopsam.photos.sa1b import Sample
from aopsam.training.annotated import Annotated, Findings
from aopsam.training.stream import Check, First, PhotoStream, read_first
from stages.corpus.fetch import MAX_BYTES, FetchError, fetch
from stages.corpus.listing import Corpus, Row, open_corpus, parts_of
from stages.corpus.others import describe_others
from stages.corpus.walk import Found
from stages.storage.location import locate, redact

FILES_A_PART = 64
"""Files beside each other that are read together."""
AT_ONCE = 16
"""Files that are asked for at the same time: a store answers many at once."""


Made = TypeVar("Made")


@dataclass(frozen=True)
class ListedPart:
    """Photos of a source that are read one after the other.

    Attributes:
        images: the source, as `stages.corpus.listing.open_corpus` takes it.
        root: of its `Corpus`.
        explicit: of its `Corpus`.
        what: an archive, or rows of files.
    """

    images: str
    root: bytes
    explicit: bool
    what: Found | list[Row]


def read_listed(
    sources: Sequence[str], check: Check, on_problem: Callable[[str], None], seed: int, exclude: str | None = None
) -> tuple[First, PhotoStream]:
    """Read the first photos of sources, all of them together one stream whose order depends on the seed.

    Names of files are listed before; archives are opened when the stream comes to them. Photos of small sources are in
    the order of `stages.corpus.listing.list_images`, source after source.

    Args:
        sources: as `list_images` takes them.
        check: makes a photo of a sample, whose id is the photo's `file_name`.
        on_problem: called with one line for each problem in the first photos, and for files that are not looked at.
        seed: of the order of the parts, where there are more photos.
        exclude: a folder on this machine that is left out: the run's output.

    Raises:
        ValueError: photos that are not there.
    """
    others = {images: Counter[str]() for images in sources}
    parts = [part for images in sources for part in _parts(images, exclude, others[images])]
    stream = PhotoStream(parts, lambda part, report: _read(part, others[part.images], report), seed)
    first = read_first(stream, check)
    for images, counted in others.items():
        if counted:
            on_problem(f"{redact(images)}: {describe_others(counted)}")
    for line in stream.findings.lines():
        on_problem(line)
    return first, stream


def _parts(images: str, exclude: str | None, others: Counter[str]) -> list[ListedPart]:
    corpus, found = open_corpus(images, exclude)
    parts: list[ListedPart] = []
    for one in sorted(found, key=lambda one: one.relative):
        for part in parts_of(corpus, [one], others):
            last = parts[-1].what if parts else None
            if isinstance(part, list) and isinstance(last, list) and len(last) < FILES_A_PART:
                last += part
            else:
                parts.append(ListedPart(images, corpus.root, corpus.explicit, part))
    return parts


def _read(part: ListedPart, others: Counter[str], report: Callable[[str], None]) -> Iterator[Sample]:
    """Yield the photos of a part, the same at every call; report what cannot be read."""
    corpus = Corpus(locate(part.images), part.root, part.explicit)  # a file system must not be used after a fork

    def read(row: Row, data: bytes | None = None) -> tuple[dict[str, Any], bytes | FetchError]:
        values = corpus.table([row]).to_pylist()[0]
        try:
            return values, data or fetch(values, part.images)
        except FetchError as error:
            return values, error

    found = (
        starmap(read, corpus.photos_of_archive(part.what, others, MAX_BYTES))
        if isinstance(part.what, Found)
        else _at_once(read, part.what)
    )
    for values, data in found:
        if isinstance(data, FetchError):
            report(f"{values['uri']}: {data}")
        else:
            yield Sample(values["file_name"], data, 0, 0, [])


def _at_once(read: Callable[[Row], Made], rows: Sequence[Row]) -> Iterator[Made]:
    """Yield what is made of rows, in order, some of them at the same time; no thread is left between them."""
    for start in range(0, len(rows), AT_ONCE):
        with ThreadPoolExecutor(AT_ONCE) as threads:
            made = list(threads.map(read, rows[start : start + AT_ONCE]))
        yield from made


def bare(sample: Sample, findings: Findings) -> Annotated | None:
    """Decode a photo that has no annotations; note where it is none."""
    try:
        rgb = open_photo(sample.jpeg).rgb
    except PhotoError as error:
        findings.say(f"{sample.id}: {error}")
        return None
    return Annotated(sample.id, rgb, [], np.zeros((0, 2)), np.zeros(0))

"""Choose photos by their descriptions: tables of `DESCRIPTIONS` in, schemas/curation.py out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aopsam.curation.choose import choose
from aopsam.curation.fingerprint import SIDE
from aopsam.curation.near_duplicates import duplicate_groups
from aopsam.curation.strata import BINS, strata
from schemas.conform import conform
from schemas.curation import SCHEMA, Reason
from stages.curate.actor import DESCRIPTIONS

STATISTICS = ("masks", "object_scale", "layout")


@dataclass(frozen=True)
class Keep:
    """Number of photos to choose, or share of the usable ones; never more than are different."""

    images: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> Keep:
        """Parse `500` as a number of photos, `0.33` as a share.

        Raises:
            ValueError: neither a whole number of at least 1 nor a number above 0 and at most 1.
        """
        wrong = ValueError(f"--keep {text}: neither a whole number of photos nor a share above 0 and up to 1.0")
        try:
            keep = cls(images=int(text)) if text.strip().isdecimal() else cls(share=float(text))
        except ValueError:
            raise wrong from None
        if (keep.images is not None and keep.images < 1) or (keep.share is not None and not 0 < keep.share <= 1):
            raise wrong
        return keep

    def of(self, usable: int, different: int) -> int:
        """Return how many photos to choose of `usable` ones, `different` of which are no duplicates."""
        wanted = self.images if self.share is None else max(1, round(self.share * usable))
        assert wanted is not None
        return min(wanted, different)


def usable_descriptions(tables: Sequence[pa.Table]) -> tuple[pa.Table, list[str]]:
    """Return the descriptions, sorted by id, shard and digest, and a line for each that is left out.

    Of several photos of one id the one of the first shard stays, since a list of ids could not choose between them.

    Args:
        tables: tables of `stages.curate.actor.DESCRIPTIONS`.
    """
    descriptions = pa.concat_tables([DESCRIPTIONS.empty_table(), *tables])
    problems = []
    descriptions = descriptions.sort_by([(name, "ascending") for name in ("image_id", "shard", "digest")])
    names, shards = descriptions.column("image_id").to_pylist(), descriptions.column("shard").to_pylist()
    first = [place == 0 or names[place - 1] != name for place, name in enumerate(names)]
    for place, is_first in enumerate(first):
        if not is_first:
            problems.append(f"{names[place]} of {shards[place]}: another photo has this name; names must differ")
    return descriptions.filter(pa.array(first, pa.bool_())), problems


def curate(descriptions: pa.Table, keep: Keep, seed: int) -> pa.Table:
    """Choose photos; the same for every order of shards and number of actors.

    Args:
        descriptions: rows of `usable_descriptions`, at least one.
        keep: how many photos to choose.
        seed: seed of `aopsam.curation.choose.choose`.

    Returns:
        Table of schemas/curation.py, a row a photo, in the order of the descriptions.
    """
    names = descriptions.column("image_id").to_pylist()
    kept = _kept(descriptions)
    different = np.flatnonzero(kept == np.arange(len(kept)))
    bins = strata([descriptions.column(name).to_numpy()[different] for name in STATISTICS])
    count = keep.of(len(kept), len(different))
    choice = choose(embeddings(descriptions)[different], bins, count, seed)
    rows: list[dict[str, Any]] = [
        {"chosen": False, "reason": Reason.DUPLICATE, "duplicate_of": names[other]} for other in kept
    ]
    for place, row in enumerate(different):
        order, distance = int(choice.order[place]), float(choice.distance[place])
        labels = zip(STATISTICS, bins[place] + 1, strict=True)
        rows[row] = {
            "chosen": order >= 0,
            "reason": Reason.CHOSEN if order >= 0 else Reason.NOT_NEEDED,
            "stratum": ", ".join(f"{name} {number}/{BINS}" for name, number in labels),
            "order": order if order >= 0 else None,
            "distance": distance if np.isfinite(distance) else None,
        }
    given = descriptions.select(["image_id", "shard", *STATISTICS])
    made = pa.Table.from_pylist(
        rows, schema=pa.schema([field for field in SCHEMA if field.name not in given.schema.names])
    )
    for name in made.column_names:
        given = given.append_column(name, made.column(name))
    return conform(given, SCHEMA)


def embeddings(descriptions: pa.Table) -> np.ndarray:
    """Return the embeddings of the photos, (N, C) float16 unit vectors."""
    return _stacked(descriptions, "embedding")


def _kept(descriptions: pa.Table) -> np.ndarray:
    """Return (N,) the row kept in place of each: itself, or of its duplicates the largest, then best annotated."""
    fingerprints = _stacked(descriptions, "fingerprint").reshape(-1, SIDE, SIDE)
    groups = duplicate_groups(fingerprints, descriptions.column("digest").to_pylist())
    pixels = pc.multiply(descriptions.column("width").cast(pa.int64()), descriptions.column("height")).to_numpy()
    # Most pixels first, then most masks; between equals the first row, that is the first name.
    by_worth = np.lexsort((np.arange(len(groups)), -descriptions.column("masks").to_numpy(), -pixels))
    _, best = np.unique(groups[by_worth], return_index=True)
    return by_worth[best][groups]


def _stacked(descriptions: pa.Table, name: str) -> np.ndarray:
    return np.stack([np.frombuffer(value, np.float16) for value in descriptions.column(name).to_pylist()])

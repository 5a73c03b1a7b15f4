"""What a job makes of annotated photos, without an OUT."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from stages.annotations.each_photo import EachPhoto, Outcome, Work
from stages.annotations.job import Done
from stages.annotations.samples import ReadSamples, Source


def done_here(work: Work, schema: pa.Schema, sources: Sequence[Source], rows: int = 16) -> Done:
    """Do the work on all photos of the sources; the rows are in one table."""
    stage = EachPhoto(lambda: work, schema)
    results = pa.concat_tables(stage(samples) for source in sources for samples in ReadSamples(rows)(source.unit()))
    photos = results.column("outcome").drop_null().to_pylist()
    outcomes = [Outcome(*(photo[name] for name in Outcome._fields)) for photo in photos]
    made = results.filter(results.column("outcome").is_null()).select(schema.names).cast(schema)
    return Done(len(photos), outcomes, [made])

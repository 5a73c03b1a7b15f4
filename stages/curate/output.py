"""Write the files of a curation: its table and two pictures of it."""

from __future__ import annotations

import io
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.curation import Reason
from stages.curate.cover import cover_distances, cover_png
from stages.curate.sheet import sheet_png
from stages.storage.atomic import write_bytes
from stages.storage.location import open_filesystem, redact


def write_curation(out: str, descriptions: pa.Table, curation: pa.Table, seed: int) -> tuple[float, float]:
    """Write `curation.parquet`, the work, and then `cover.png` and `sheet.png`, which show it.

    Args:
        out: folder or URI, without a slash at its end.
        descriptions: `stages.curate.actor.DESCRIPTIONS` of N photos.
        curation: schemas/curation.py, the same photos.
        seed: seed of the random choice that the picture compares with.

    Returns:
        The embedding distance of the farthest photo from those chosen, and from as many drawn at random.
    """
    buffer = io.BytesIO()
    pq.write_table(curation, buffer, compression="zstd")
    write_bytes(f"{out}/curation.parquet", buffer.getvalue())
    ours, random = cover_distances(descriptions, curation.column("chosen").to_numpy(), seed)
    write_bytes(f"{out}/cover.png", cover_png(curation, ours, random))
    write_bytes(f"{out}/sheet.png", sheet_png(descriptions, curation))
    return float(ours.max()), float(random.max())


def refuse_to_overwrite(out: str) -> None:
    """Refuse a folder that holds a curation of a run that does not say what it was.

    Raises:
        ValueError: it holds one.
    """
    filesystem, root = open_filesystem(out)
    if filesystem.isfile(f"{root}/curation.parquet") and not filesystem.exists(f"{root}/manifest.json"):
        raise ValueError(f"{redact(out)} holds a curation already; give another folder")


def account(curation: pa.Table, problems: int, cover: tuple[float, float], out: str) -> str:
    """Return three lines: how many photos were chosen, how well they cover the rest, where the result lies."""
    reasons = Counter(curation.column("reason").to_pylist())
    return (
        f"{curation.num_rows} photos and {problems} problems: {reasons[Reason.CHOSEN]} chosen,"
        f" {reasons[Reason.DUPLICATE]} near-duplicates and {reasons[Reason.NOT_NEEDED]} not needed left out\n"
        f"farthest photo from those chosen {cover[0]:.3f}, from as many at random {cover[1]:.3f}\n"
        f"{out}/curation.parquet says which and why; cover.png and sheet.png, in the same folder, show it"
    )

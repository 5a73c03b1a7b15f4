"""Labels → files in the formats of other tools. To add a format: a file here and a line in `EXPORTS`."""

from __future__ import annotations

from collections.abc import Callable

from stages.results.export.coco import export_coco
from stages.results.export.exported import Exported

EXPORTS: dict[str, Callable[[str, str], Exported]] = {
    "coco": export_coco,
}
"""Name of the format -> function of (labels, out): folders, local or fsspec URIs."""

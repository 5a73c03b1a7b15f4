"""Write a SAM and its prompt predictor as ONNX files, for programs without PyTorch.

    python pipelines/export_onnx.py --sam tiny --out runs/onnx
    python pipelines/export_onnx.py --sam vit_b --checkpoint s3://bucket/sam_vit_b_01ec64.pth --out s3://bucket/onnx
    ray job submit --working-dir . -- python pipelines/export_onnx.py --sam vit_b --out s3://bucket/onnx
    python examples/onnx_everything.py runs/onnx photo.jpg > masks.json

Writes OUT/encoder.onnx, OUT/decoder.onnx (segment-anything's interface), OUT/low_res_decoder.onnx (the same without the
enlarged masks, for everything mode), OUT/predictor.onnx, OUT/proposer_encoder.onnx where the predictor reads another
SAM's embeddings, and OUT/model.json, last, which says what they are (docs/onnx.md). Needs `pip install 'aopsam[onnx]'`.
Exit codes: 0, 1 if OUT could not be written, 2 for wrong arguments.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.config.command_line import ModelArguments, Uri, checking_input, command_anew, parse
from stages.storage.location import redact


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelArguments):
    """Write a SAM and its prompt predictor as ONNX files."""

    predictor: Uri | None = None
    """Weights of the prompt predictor, or REGISTRY@VERSION; by default the bundled ones."""
    out: Uri
    """Folder or URI."""


@command_anew
def main(argv: Sequence[str] | None = None) -> int:
    """Export; returns the exit status."""
    return run(parse(Arguments, argv))


def run(arguments: Arguments) -> int:
    """Export; what takes seconds to import comes now, after the flags have been judged."""
    from aopsam.onnx.export import FILES, check_exportable, export_sam
    from aopsam.sam.registry import load_sam
    from stages.registry.reference import open_predictor
    from stages.storage.atomic import check_writable, write_path
    from stages.storage.fetched import local_file

    out = arguments.out.rstrip("/")
    with tempfile.TemporaryDirectory(prefix="aopsam-") as folder:
        with checking_input():
            check_exportable(arguments.sam)
            check_writable(out, *FILES)
            model = load_sam(arguments.sam, local_file(arguments.checkpoint))
            names = export_sam(model, Path(folder), open_predictor(arguments.predictor))
        for name in names:
            with write_path(f"{out}/{name}") as part:
                shutil.copyfile(Path(folder, name), part)
        total = sum(Path(folder, name).stat().st_size for name in names)
    print(f"{redact(out)}: {', '.join(names)}; {total / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

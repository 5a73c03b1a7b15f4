"""Models of `transformers` beside the registry's own: processor time of one photo's embedding and of 64 points' masks.

    python benchmarks/hugging_face.py

SAM's ViT-B with random weights, whose times are those of the published ones. Encoders: the registry's, and that of
`transformers` as `load_sam("hf:…")` runs it. Decoders of the same weights: aopsam's, and the forward of `transformers`.
Ratios of processor times within one run, one thread, least of the repeats. Needs the extra `hf`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch

from aopsam.sam.decode import decode_prompts
from aopsam.sam.encode import encode
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import MODELS, load_sam


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--points", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        transformers.SamModel(transformers.SamConfig()).save_pretrained(folder)
        theirs, model = transformers.SamModel.from_pretrained(folder).eval(), load_sam(f"hf:{folder}")
    own = MODELS["vit_b"].build()
    rgb = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    encoded = encode(model, rgb)
    points = np.random.default_rng(1).uniform(0, 1024, (arguments.points, 2))
    prompts = Prompts.from_points(points)
    given = torch.tensor(points, dtype=torch.float32)[None, :, None]

    def forward() -> object:
        batches = given.split(16, dim=1)
        return [theirs(image_embeddings=encoded.embedding, input_points=batch) for batch in batches]

    def decode() -> object:
        vars(encoded).pop("decoder", None)  # its part of the photo counts too
        return decode_prompts(encoded, prompts)

    rows: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "embedding: registry vit_b, transformers": (lambda: encode(own, rgb), lambda: encode(model, rgb)),
        f"masks of {arguments.points} points: aopsam, transformers": (decode, forward),
    }
    for name, (ours, other) in rows.items():
        fast, slow = np.min([(_seconds(ours), _seconds(other)) for _ in range(arguments.repeats)], axis=0)
        print(f"{name}: {fast:.2f} s, {slow:.2f} s, ratio {slow / fast:.2f}", flush=True)


@torch.inference_mode()
def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()

"""Measure how fast and how exact the image encoders are: plain fp32 PyTorch, ours and OpenVINO's, in turns in one run.

    python benchmarks/encoder.py --sam vit_b --rounds 3 --json encoder.json
    python benchmarks/encoder.py --sam tiny mobile_sam --openvino --precision auto

Plain is segment-anything's own forward for the ViTs; for `mobile_sam` our modules with each norm behind its
convolution, unfused attention and photos not channels last; for `tiny` the encoder itself. Without --checkpoint all but
`tiny` have random weights (seed 0, positions too). `ratio`: of plain's median seconds to those of the row, `fastest`:
of the least seconds, `CPU`: of the least seconds of processor time, which the load of others touches least (with
--threads 1). The cosine is that of a cell's embedding to plain's. Ratios hold within one run.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from aopsam.sam.encode import PRECISIONS, precision_dtype
from aopsam.sam.encoders import tiny_vit
from aopsam.sam.encoders.vit import ViTEncoder
from aopsam.sam.openvino_encoder import OpenVINOEncoder
from aopsam.sam.registry import MODELS, load_sam

# isort: split
from segment_anything.modeling import ImageEncoderViT  # after aopsam, which mends a torchvision without operators

Forward = Callable[[torch.Tensor], torch.Tensor]


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="seconds and exactness of the image encoders")
    parser.add_argument("--sam", nargs="+", choices=MODELS, default=["tiny", "mobile_sam", "vit_b"])
    parser.add_argument("--checkpoint", help="weights, where --sam names one model")
    parser.add_argument("--rounds", type=int, default=5, help="timed photos of each kind, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of all but the plain one")
    parser.add_argument("--openvino", action="store_true", help="OpenVINO too; compiling takes a minute")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    arguments = build_parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    rows = []
    print(f"{'model':<12}{'encoder':<10}{'seconds':>9}{'ratio':>7}{'fastest':>9}{'CPU':>7}{'cosine':>10}{'least':>10}")
    for name in arguments.sam:
        encoder = build(name, arguments.checkpoint)
        kinds = forwards(encoder, arguments.precision, arguments.openvino)
        for row in measure(kinds, int(encoder.img_size), arguments.rounds):  # type: ignore[arg-type]
            rows.append({"model": name, "threads": arguments.threads, "precision": arguments.precision, **row})
            ratios = (
                f"{row['seconds']:>9.3f}{row['ratio']:>7.2f}{row['ratio_of_fastest']:>9.2f}{row['ratio_of_cpu']:>7.2f}"
            )
            cosines = f"{row['cosine']:>10.6f}{row['least_cosine']:>10.6f}"
            print(f"{name:<12}{row['encoder']:<10}{ratios}{cosines}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


def build(name: str, checkpoint: str | None) -> nn.Module:
    """Build the encoder in eval mode; parameters without weights are random, positions too, which start at zero."""
    if checkpoint or name == "tiny":
        return load_sam(name, checkpoint).image_encoder
    torch.manual_seed(0)
    encoder = MODELS[name].build().image_encoder
    for parameter_name, parameter in encoder.named_parameters():
        if "pos" in parameter_name or parameter_name.endswith("attention_biases"):
            nn.init.normal_(parameter, std=0.1)
    return encoder


def forwards(encoder: nn.Module, precision: str, openvino: bool) -> dict[str, Forward]:
    """Return the forward functions by name: plain PyTorch first, then those compared with it."""
    ours = copy.deepcopy(encoder).to(precision_dtype(precision, torch.device("cpu")))
    found: dict[str, Forward] = {"plain": partial(plain, encoder), "ours": partial(cast, ours)}
    return {**found, "openvino": OpenVINOEncoder(encoder, precision)} if openvino else found


def plain(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run the encoder's weights without our changes."""
    if isinstance(encoder, ViTEncoder):
        return ImageEncoderViT.forward(encoder, x)
    if not isinstance(encoder, tiny_vit.TinyViTEncoder):
        return encoder(x)
    apart = mock.patch.object(tiny_vit, "conv_norm", lambda x, conv, norm: norm(conv(x)))
    with apart, sdpa_kernel(SDPBackend.MATH):
        x = encoder.patch_embed(x)
        for layer in encoder.layers:
            x = layer(x)
        return encoder.neck(x)


def cast(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run an encoder in its own precision, as `encode` does; the result is float32."""
    return encoder(x.to(next(encoder.parameters()).dtype)).float()


@torch.inference_mode()
def measure(kinds: dict[str, Forward], size: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Measure each kind: median seconds, ratio of plain's seconds to them, cosines of cells to plain's embedding.

    Args:
        kinds: functions (1, 3, S, S) -> (1, C, h, w) by name; the first is plain.
        size: S; the photo is noise above the last quarter, which is padding.
        rounds: number of times that every kind is measured, in turns.
    """
    photo = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    photo[:, :, size * 3 // 4 :] = 0
    embeddings = {kind: forward(photo) for kind, forward in kinds.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, forward in kinds.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            forward(photo)
            seconds[kind].append(time.perf_counter() - began)
            cpu[kind].append(time.process_time() - began_cpu)
    first = next(iter(kinds))
    for kind, taken in seconds.items():
        cosine = torch.cosine_similarity(embeddings[kind], embeddings[first], dim=1)
        yield {
            "encoder": kind,
            "seconds": statistics.median(taken),
            "ratio": statistics.median(seconds[first]) / statistics.median(taken),
            "ratio_of_fastest": min(seconds[first]) / min(taken),
            "ratio_of_cpu": min(cpu[first]) / min(cpu[kind]),
            "cosine": cosine.mean().item(),
            "least_cosine": cosine.min().item(),
        }


if __name__ == "__main__":
    raise SystemExit(main())

"""Everything mode beside `SamAutomaticMaskGenerator`: speed, agreement and quality, in one process and one run.

    python benchmarks/speed.py --data bsds500/val --sam tiny=20 mobile_sam=1 vit_b=1 --json FILE
    python benchmarks/speed.py --data bsds500/val --sam vit_b=50 vit_h=50 tiny=50 --device cuda --json FILE

Photo by photo, all systems take turns: SAM's own generator on SAM's own encoder, ours with the same grid, ours with
each of --prompts by its defaults. Speeds are source images per second; a stage's is what it would be if nothing else
took time. The library alone: neither Ray nor Arrow, so it runs on a bare GPU machine. Models whose weights are not here
(in $AOPSAM_CACHE) get an encoder of random weights, whose work is done and thrown away for the embedding of `tiny`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from aopsam._cache_dir import cache_dir
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.metrics import iou_matrix
from aopsam.photos.decode import open_photo
from aopsam.photos.sa1b import read_shard
from aopsam.sam.registry import MODELS, load_sam
from aopsam.training.annotated import Annotated, annotated
from stages.config.strategy_spec import parse_strategies

# isort: split
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry  # after aopsam, which mends torchvision

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PROMPTS = "aop,aop(redraw=false),aop(elimination=diverse,max_decoded=100)"
SAME = 0.99
"""IoU from which two masks are the same."""
STAGES = ("encode", "prompt", "decode", "filter", "rle")


@dataclass
class Tally:
    """Figures of one system on all photos so far."""

    seconds: float = 0.0
    masks: int = 0
    decoded: int = 0
    best: list[float] = field(default_factory=list)
    """For each annotated mask the best IoU."""
    same: list[int] = field(default_factory=lambda: [0, 0])
    """Masks of SAM's that it has, too, and its masks that SAM has, too."""
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="everything mode beside segment-anything's own")
    parser.add_argument("--data", required=True, type=Path, help="folder of tars in SA-1B's layout, or of photos")
    parser.add_argument("--sam", nargs="+", default=["tiny=20"], help="models and how many photos each, NAME=COUNT")
    parser.add_argument("--prompts", default=PROMPTS, help="strategies beside the grid")
    parser.add_argument("--grid", type=int, default=32, help="points per side of SAM's and our grid")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return the exit status."""
    arguments = build_parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {"machine": machine(arguments.device), "threads": arguments.threads, "models": {}}
    try:
        wanted = [(name, int(count)) for name, _, count in (entry.partition("=") for entry in arguments.sam)]
        photos = load(arguments.data, max(count for _, count in wanted))
        for name, count in wanted:
            model = stand_in(name) if is_missing(name) else load_sam(name)
            results["models"][name] = measure(model.to(arguments.device), photos[:count], arguments)
    except (ValueError, OSError) as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(model: Sam, photos: Sequence[Annotated], arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all systems on all photos, in turns; print and return a table."""
    settings = {key: getattr(model.thresholds, key) for key in NAMES} | {"output_mode": "coco_rle"}
    theirs = SamAutomaticMaskGenerator(reference(model), points_per_side=arguments.grid, **settings)
    ours = {f"grid-{arguments.grid}": AutoMaskGenerator(model, points_per_side=arguments.grid, **settings)}
    for spec in parse_strategies(arguments.prompts):
        options = {"output_mode": "coco_rle"} | spec.generator_options
        ours[spec.text] = AutoMaskGenerator(model, prompts=spec.name, strategy_options=spec.strategy_options, **options)
    tallies = {name: Tally() for name in ("SAM", *ours)}
    for generator in ours.values():  # what the first run pays: compilation, caches, memory
        generator.label(photos[0].rgb[:64, :64])
    for photo in photos:
        began = time.perf_counter()
        records = theirs.generate(photo.rgb)
        tallies["SAM"].seconds += time.perf_counter() - began
        masks_of_sam = [record["segmentation"] for record in records]
        tallies["SAM"].masks += len(records)
        tallies["SAM"].decoded += arguments.grid**2
        tallies["SAM"].best += best(masks_of_sam, photo)
        for name, generator in ours.items():
            began = time.perf_counter()
            labelled = generator.label(photo.rgb)
            tally = tallies[name]
            tally.seconds += time.perf_counter() - began
            masks = [record["segmentation"] for record in labelled.records]
            tally.masks += len(masks)
            tally.decoded += labelled.prompts_decoded
            tally.best += best(masks, photo)
            agree = iou_matrix(masks_of_sam, masks) >= SAME
            tally.same = [tally.same[0] + int(agree.any(axis=1).sum()), tally.same[1] + int(agree.any(axis=0).sum())]
            for stage, seconds in labelled.seconds.items():
                tally.stages[stage] += seconds
        print(f"{model.name}: {len(tallies['SAM'].best)} annotated masks so far", file=sys.stderr, flush=True)
    return table(model, len(photos), tallies)


NAMES = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh")


def table(model: Sam, photos: int, tallies: dict[str, Tally]) -> dict[str, Any]:
    """Print the figures of all systems and return them."""
    print(f"\n{model.name} ({model.sha256[:12]}), {photos} photos; speeds in source images per second")
    header = ("system", "img/s", "x SAM", "x enc", "decoded", "kept", "SAM in it", "it in SAM", "mIoU", *STAGES)
    print(f"{header[0]:<32}" + "".join(f"{name:>10}" for name in header[1:]))
    sam, found = tallies["SAM"], {}
    for name, tally in tallies.items():
        row: dict[str, float | None] = {
            "images_per_second": photos / tally.seconds,
            "times_sam": sam.seconds / tally.seconds,
            "times_encoder": tally.seconds / tally.stages["encode"] if tally.stages else None,
            "decoded": tally.decoded / photos,
            "kept": tally.masks / photos,
            "sam_in_it": tally.same[0] / sam.masks if tally.stages and sam.masks else None,
            "it_in_sam": tally.same[1] / tally.masks if tally.stages and tally.masks else None,
            "miou": float(np.mean(tally.best)) if tally.best else None,
        }
        row |= {stage: photos / tally.stages[stage] if tally.stages.get(stage) else None for stage in STAGES}
        print(
            f"{name:<32}" + "".join(f"{'–' if value is None else format(value, '.4g'):>10}" for value in row.values())
        )
        found[name] = row
    return {"photos": photos, "sha256": model.sha256, "systems": found}


def best(masks: list[Any], photo: Annotated) -> list[float]:
    """Return, for each annotated mask, the best IoU of any of `masks`."""
    iou = iou_matrix(masks, list(photo.rles))
    return iou.max(axis=0).tolist() if len(masks) else [0.0] * len(photo.rles)


def load(data: Path, count: int) -> list[Annotated]:
    """Load the first `count` photos of a folder of photos or of tars."""
    shards = sorted(data.glob("*.tar"))
    if shards:
        found = (annotated(sample, print) for shard in shards for sample in read_shard(shard))
    else:
        found = (plain(path) for path in sorted(data.iterdir()) if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photos = list(islice((photo for photo in found if photo is not None), count))
    if not photos:
        raise ValueError(f"{data}: no photos there; give a folder of photos, or of tars in SA-1B's layout")
    return photos


def plain(path: Path) -> Annotated:
    """Load a photo without annotations."""
    rgb = open_photo(path.read_bytes()).rgb
    return Annotated(path.stem, rgb, [], np.zeros((0, 2)), np.zeros(0))


def is_missing(name: str) -> bool:
    """Return whether the weights of a model would have to be downloaded."""
    if name not in MODELS:
        raise ValueError(f"unknown SAM {name!r}; the names are {', '.join(MODELS)}")
    weights = MODELS[name].weights
    return not (weights if isinstance(weights, Path) else cache_dir() / weights.filename).exists()


class Borrowing(nn.Module):
    """An image encoder of random weights that does all its work, and answers with the embedding of another."""

    def __init__(self, encoder: Any, other: Any) -> None:
        super().__init__()
        self.encoder, self.other, self.img_size = encoder, other, encoder.img_size
        self._other_size = [other.img_size] * 2

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the other encoder's embedding (B, C, h', w') of the same square, resized to this one's cells."""
        own = self.encoder(pixels)
        smaller = functional.interpolate(pixels, self._other_size, mode="bilinear", antialias=True)
        return functional.interpolate(self.other(smaller), own.shape[-2:], mode="bilinear")


def stand_in(name: str) -> Sam:
    """Build a model with an encoder of random weights behind which all is `tiny`'s: the embedding, resized to this
    encoder's cells, prompt encoder, mask decoder, thresholds. It costs what the model costs, and 0.2 s a photo."""
    torch.manual_seed(0)
    model, tiny = MODELS[name].build(), load_sam("tiny")
    for parameter in model.image_encoder.parameters():
        if not parameter.any():  # positions begin at 0: give them something to say
            torch.nn.init.normal_(parameter, std=0.02)
    model.image_encoder = Borrowing(model.image_encoder, tiny.image_encoder)
    model.mask_decoder.load_state_dict(tiny.mask_decoder.state_dict())
    model.prompt_encoder.load_state_dict(tiny.prompt_encoder.state_dict())
    model.name, model.sha256, model.thresholds = name, "random encoder", tiny.thresholds
    return model.eval()


def reference(model: Sam) -> Sam:
    """Load a model's weights into segment-anything's own code; return the model itself where it has no such encoder."""
    if model.name not in sam_model_registry:
        return model
    theirs = sam_model_registry[model.name]()
    if isinstance(model.image_encoder, Borrowing):
        theirs.image_encoder = Borrowing(theirs.image_encoder, model.image_encoder.other)
    theirs.load_state_dict(model.state_dict())
    return theirs.to(model.device).eval()


def machine(device: str) -> dict[str, Any]:
    """Describe the machine of the run."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = f"{names[0]} × {len(names)}" if names else processor
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "processor": processor,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    raise SystemExit(main())

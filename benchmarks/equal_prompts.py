"""mIoU of prompt strategies on the same photos, groups of them compared with their first, decoded once a prompt.

    python benchmarks/equal_prompts.py --data bsds500/val --limit 40 --out out/equal.jsonl --prompts \\
        "aop(elimination=diverse,max_decoded=50),grid-7;aop(elimination=diverse,max_decoded=100),grid-10"

As `pipelines/evaluate.py` measures (reading (a), over ground-truth masks, 95 % by bootstrap over photos), no times:
strategies that ask for the same point share its masks, which saves half of the work where budgets are compared. A photo
is one line of --out; the same command goes on where it stopped, and prints the tables of what is there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aopsam.masks import rle
from aopsam.masks.nms import box_nms
from aopsam.masks.trace import trace
from aopsam.metrics import iou_matrix, mean_interval, paired_difference
from aopsam.photos.decode import open_photo
from aopsam.predictor.weights import load_predictor
from aopsam.prompting import Decoded, Strategy, make_strategy
from aopsam.prompting.fates import Fates
from aopsam.sam.decode import decode_passing
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import load_sam
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.config.strategy_spec import StrategySpec, parse_strategies
from stages.evaluate.ground_truth import Annotation, usable_annotations
from stages.storage.location import absolute

if TYPE_CHECKING:  # importing it before aopsam would fail beside a torchvision without operators
    from segment_anything.modeling import Sam


class AskedOnce:
    """Masks of one photo by prompt: each prompt is decoded the first time that a strategy asks for it."""

    def __init__(self, photo: EncodedPhoto, annotations: Sequence[Annotation]) -> None:
        self.photo = photo
        self.truths = [annotation["segmentation"] for annotation in annotations]
        self._known: dict[bytes, dict[str, Any]] = {}

    def run(self, strategy: Strategy) -> tuple[float, int]:
        """Run a strategy on the photo; return its mIoU over the ground truth and the number of prompts decoded."""
        rounds = strategy.rounds(self.photo, Fates())
        prompts, answers = next(rounds, None), []
        while prompts is not None:
            now = self._answers(prompts)
            answers += now
            logits = torch.cat([torch.zeros(0, 1, 1), *(answer["logits"] for answer in now)][bool(now) :])
            estimates = torch.stack([answer["predicted_iou"] for answer in now] or [torch.zeros(3)])[: len(now)]
            try:
                prompts = rounds.send(Decoded(prompts, estimates, logits))
            except StopIteration:
                prompts = None
        if not any(len(answer["scores"]) for answer in answers):
            return 0.0, len(answers)
        boxes, scores, iou = (np.concatenate([answer[key] for answer in answers]) for key in ("boxes", "scores", "iou"))
        kept = box_nms(torch.from_numpy(boxes), torch.from_numpy(scores), self.photo.model.thresholds.box_nms_thresh)
        return float(iou[kept.numpy()].max(axis=0).mean()), len(answers)

    def _answers(self, prompts: Prompts) -> list[dict[str, Any]]:
        keys = [coords.tobytes() for coords in prompts.coords_px]
        new = np.array([number for number, key in enumerate(keys) if key not in self._known], np.int64)
        if len(new):
            self._known.update(zip([keys[number] for number in new], self._decode(prompts[new]), strict=True))
        return [self._known[key] for key in keys]

    def _decode(self, prompts: Prompts) -> list[dict[str, Any]]:
        limits = self.photo.model.thresholds
        decoded = decode_passing(self.photo, prompts, min_iou=limits.pred_iou_thresh)
        settings = {"threshold": self.photo.model.mask_threshold, "offset": 1.0}
        found = trace(decoded.logits, self.photo.resampling, **settings, least_stability=limits.stability_score_thresh)
        stable = [number for number, mask in enumerate(found) if mask.runs is not None]
        runs = [mask.runs for mask in found if mask.runs is not None]
        boxes = np.array([mask.box_xyxy_px for mask in runs], np.float32).reshape(-1, 4)
        iou = iou_matrix([rle.from_runs(mask) for mask in runs], self.truths)
        asked, which = decoded.index[stable].T
        scores = decoded.predicted_iou[asked, which].numpy()
        answers = []
        for number in range(len(prompts)):
            own = np.flatnonzero(asked.numpy() == number)
            part = {"boxes": boxes[own], "scores": scores[own], "iou": iou[own]}
            answers.append(
                part | {"logits": decoded.logits[stable][own], "predicted_iou": decoded.predicted_iou[number]}
            )
        return answers


def measure(model: Sam, strategies: dict[str, Strategy], data: str, limit: int | None, out: Path) -> None:
    """Measure the strategies on the photos that `out` lacks; append one line a photo."""
    done = {row["image_id"] for row in _rows(out) if row["data"] == data}
    samples = (sample for uri in list_shards(absolute(data)) for sample in read_annotated(uri, print))
    for sample in islice(samples, limit):
        if sample.id in done:
            continue
        rgb = open_photo(sample.jpeg, 200_000_000).rgb
        annotations = usable_annotations(sample.annotations, (rgb.shape[0], rgb.shape[1]))
        if not annotations:
            continue
        photo = AskedOnce(encode(model, rgb), annotations)
        row: dict[str, Any] = {"data": data, "image_id": sample.id, "ground_truths": len(annotations)}
        with torch.inference_mode(), out.open("a") as file:
            print(json.dumps(row | {name: photo.run(each) for name, each in strategies.items()}), file=file)


def table(rows: Sequence[dict[str, Any]], group: Sequence[StrategySpec]) -> str:
    """Return the table of a group of strategies on the photos of one data set, in Markdown."""
    counts = [row["ground_truths"] for row in rows]
    lines = [f"{rows[0]['data']}, {len(rows)} photos, {sum(counts)} masks", ""]
    lines += ["| prompts | decoded | mIoU | 95 % | first − this | 95 % |", "|---|---:|---:|---:|---:|---:|"]
    first = [row[group[0].text][0] for row in rows]
    for spec in group:
        values = [row[spec.text][0] for row in rows]
        own, apart = mean_interval(values, counts), paired_difference(first, values, counts, counts)
        assert own is not None
        assert apart is not None
        decoded = np.mean([row[spec.text][1] for row in rows])
        difference = "– | –" if spec is group[0] else f"{apart.mean:+.3f} | {apart.low:+.4f} … {apart.high:+.4f}"
        lines.append(
            f"| {spec.text} | {decoded:.1f} | {own.mean:.3f} | {own.low:.3f} … {own.high:.3f} | {difference} |"
        )
    return "\n".join(lines) + "\n"


def _rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then print a table a group and data set."""
    parser = argparse.ArgumentParser(description="prompt strategies at equal numbers of prompts")
    parser.add_argument("--data", nargs="+", required=True, help="annotated photos: tars, folders, globs or .json")
    parser.add_argument("--prompts", required=True, help="STRATEGY,…;STRATEGY,…: groups, compared with their first")
    parser.add_argument("--out", type=Path, required=True, help="file of results, one line a photo")
    parser.add_argument("--limit", type=int, help="photos of each --data, the first ones")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--checkpoint", help="weights of the SAM, where not the official or bundled")
    parser.add_argument("--predictor", help="weights of the prompt predictor, where not the bundled")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    groups = [parse_strategies(group) for group in arguments.prompts.split(";")]
    model = load_sam(arguments.sam, arguments.checkpoint)
    predictor = load_predictor(arguments.predictor) if arguments.predictor else None
    specs = {spec.text: spec for group in groups for spec in group}
    strategies = {name: make_strategy(spec.name, model, predictor, **spec.options) for name, spec in specs.items()}
    for data in arguments.data:
        measure(model, strategies, data, arguments.limit, arguments.out)
    for data in arguments.data:
        rows = [row for row in _rows(arguments.out) if row["data"] == data]
        for group in groups:
            print(table(rows, group))


if __name__ == "__main__":
    main()

"""Find the masks of every object in photos with ONNX Runtime: no PyTorch, nothing of aopsam. Copy it and change it.

    python pipelines/export_onnx.py --sam tiny --out runs/onnx                   # once; this one needs PyTorch
    pip install numpy scipy pillow pycocotools onnxruntime
    python examples/onnx_everything.py runs/onnx photo.jpg other.jpg --prompts aop > masks.json

Its masks are those of `AutoMaskGenerator(model, prompts=…, rank_by="predicted_iou")`, for the prompts `aop` (AoP-SAM's
predictor with the rule `covered`) and `grid-N`. Prints {photo: records}, each mask in COCO's run-length encoding.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from pycocotools import mask as coco
from scipy import ndimage

AT_ONCE, MOST = 16, 512  # prompts decoded between two filterings, and on one photo
LIKENESS, TIMES = 0.8, 3  # `aop` drops a prompt that lies in so many masks whose features have at least this cosine


class Everything:
    """Everything mode over the files of pipelines/export_onnx.py."""

    def __init__(self, folder: Path, encoder: str = "encoder.onnx", threads: int = 0) -> None:
        """Read the files; ONNX Runtime chooses the number of its threads where `threads` is 0."""
        self.about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        names = encoder, "low_res_decoder.onnx", "predictor.onnx"
        self.other = self.about["predictor"]["proposer_encoder"]  # where another SAM proposes
        names += ("proposer_encoder.onnx",) if self.other else ()
        self.encoder, self.decoder, self.predictor, *self.proposer = (
            onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"]) for name in names
        )

    def generate(self, rgb: np.ndarray, prompts: str = "aop") -> list[dict[str, Any]]:
        """Return a record for each mask in a photo (H, W, 3) uint8, by falling predicted IoU."""
        photo, found = _Photo(self, rgb), list[dict[str, Any]]()
        waiting = photo.proposed() if prompts == "aop" else photo.grid(int(prompts.removeprefix("grid-")))
        times = np.zeros(len(waiting), int)
        while len(waiting):
            records, logits = photo.decode(waiting[:AT_ONCE])
            found, waiting, times = found + records, waiting[AT_ONCE:], times[AT_ONCE:]
            if prompts == "aop" and len(logits) and len(waiting):
                times = times + photo.repeats(waiting, logits)
                waiting, times = waiting[times < TIMES], times[times < TIMES]
        return _without_duplicates(found, self.about["thresholds"]["box_nms_thresh"])


class _Photo:
    """An encoded photo. Points are XY in its pixels; low-resolution logits are (K, 4h, 4w) for (h, w) cells."""

    def __init__(self, model: Everything, rgb: np.ndarray) -> None:
        self.model, self.rgb, (self.height, self.width) = model, rgb, rgb.shape[:2]
        self.side, self.threshold = model.about["encoder"]["square_px"], model.about["mask_threshold"]
        pixels, (rows, columns) = _square(rgb, model.about["encoder"], self.side)
        self.embedding = model.encoder.run(None, {"pixels": pixels})[0]
        self.scale = np.float32([columns / self.width, rows / self.height])
        self.low = 4 * self.embedding.shape[2]
        self.low_shown = -(-rows * self.low // self.side), -(-columns * self.low // self.side)
        # SAM enlarges logits to its square, cuts the padding off and resizes to the photo: a matrix for each axis.
        enlarged = _resize_matrix(self.low, self.side)
        self.down = _resize_matrix(rows, self.height) @ enlarged[:rows]
        self.across = (_resize_matrix(columns, self.width) @ enlarged[:columns]).T

    def grid(self, number: int) -> np.ndarray:
        """Return the centres of N × N equal cells, row by row."""
        steps = (np.arange(number) + 0.5) / number
        return np.stack(np.meshgrid(steps * self.width, steps * self.height), axis=-1).reshape(-1, 2)

    def proposed(self) -> np.ndarray:
        """Return the predictor's prompts, the most confident first."""
        model, about, embedding = self.model, self.model.about["predictor"], self.embedding
        if model.other:
            pixels, _ = _square(self.rgb, model.other, model.other["square_px"])
            embedding = model.proposer[0].run(None, {"pixels": pixels})[0]
        pixels, (rows, columns) = _square(self.rgb, model.other or model.about["encoder"], about["square_px"])
        (found,) = model.predictor.run(None, {"pixels": pixels, "image_embeddings": embedding})
        peaks = _peaks(found[0, 0, :rows, :columns], **about["sampling"])[:MOST]
        return (peaks + 0.5) * [self.width / columns, self.height / rows]

    def decode(self, points: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Return records and logits of the masks that pass SAM's filters."""
        given = {
            "image_embeddings": self.embedding,
            "point_coords": np.stack([np.float32(points) * self.scale, np.zeros((len(points), 2), np.float32)], axis=1),
            "point_labels": np.tile(np.float32([1, -1]), (len(points), 1)),  # -1: no point
            "mask_input": np.zeros((1, 1, self.low, self.low), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
        }
        estimates, logits = (array[:, 1:] for array in self.model.decoder.run(None, given))  # 0 is the single mask
        limits, records, kept = self.model.about["thresholds"], list[dict[str, Any]](), [np.zeros_like(logits[:0, 0])]
        for prompt, which in np.argwhere(estimates > (limits["pred_iou_thresh"] or -np.inf)):
            full = self.down @ logits[prompt, which] @ self.across
            inner, outer = (np.count_nonzero(full > self.threshold + move) for move in (1, -1))
            stability = inner / outer if outer else 0.0
            if stability >= limits["stability_score_thresh"]:
                scores = {"predicted_iou": float(estimates[prompt, which]), "stability_score": stability}
                records.append(_record(full > self.threshold) | scores | {"point_coords": [points[prompt].tolist()]})
                kept.append(logits[prompt, which][None])
        return records, np.concatenate(kept)

    def repeats(self, points: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Count the masks that each point lies in and resembles."""
        inside = logits > self.threshold
        on_cells = inside.copy()
        on_cells[:, self.low_shown[0] :], on_cells[:, :, self.low_shown[1] :] = False, False
        on_cells = on_cells.reshape(len(logits), self.low // 4, 4, -1, 4).mean((2, 4)).reshape(len(logits), -1)
        means = _unit(on_cells @ self.embedding[0].reshape(len(self.embedding[0]), -1).T, 1)
        at = points * self.scale * (self.low / self.side)
        shown = _unit(self.embedding[0], 0)[:, : -(-self.low_shown[0] // 4), : -(-self.low_shown[1] // 4)]
        place = at.T[::-1] / 4 - 0.5
        features = [ndimage.map_coordinates(channel, place, order=1, mode="nearest") for channel in shown]
        x, y = at.T.astype(int).clip(0, self.low - 1)
        return np.sum((means @ _unit(np.array(features), 0) > LIKENESS) & inside[:, y, x], axis=0)


def _square(rgb: np.ndarray, reads: dict[str, Any], side: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a photo resized, normalised and padded with zeros, (1, 3, side, side), and its rows and columns there."""
    rows, columns = (max(1, int(edge * side / max(rgb.shape[:2]) + 0.5)) for edge in rgb.shape[:2])
    small = np.asarray(Image.fromarray(rgb).resize((columns, rows), Image.Resampling.BILINEAR), np.float32)
    pixels = np.zeros((1, 3, side, side), np.float32)
    pixels[0, :, :rows, :columns] = ((small - np.float32(reads["mean_rgb"])) / np.float32(reads["std_rgb"])).transpose(
        2, 0, 1
    )
    return pixels, (rows, columns)


def _resize_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Return a bilinear resize along one axis, (size_out, size_in) float32."""
    at = ((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5).clip(0, size_in - 1)
    return (1 - abs(at[:, None] - np.arange(size_in))).clip(0).astype(np.float32)


def _peaks(confidence: np.ndarray, threshold: float, smoothing_sigma: float, spacing: int) -> np.ndarray:
    """Return local maxima of the smoothed map, XY cells, by falling confidence; of equal neighbours the first."""
    smooth = ndimage.gaussian_filter(confidence, smoothing_sigma)
    highest = ndimage.maximum_filter(smooth, size=2 * spacing + 1, mode="nearest")
    found = np.argwhere((smooth == highest) & (smooth > threshold))
    alive = found[np.argsort(-smooth[tuple(found.T)], kind="stable")]
    for i in range(len(alive)):
        if i < len(alive):
            near = abs(alive - alive[i]).max(axis=1) <= spacing
            alive = alive[~near | (np.arange(len(alive)) <= i)]
    return alive[:, ::-1]


def _record(mask: np.ndarray) -> dict[str, Any]:
    rle = coco.encode(np.asfortranarray(mask, np.uint8))
    (y,), (x,) = np.nonzero(mask.any(axis=1)), np.nonzero(mask.any(axis=0))
    box = [x[0], y[0], x[-1] - x[0], y[-1] - y[0]] if len(x) else [0, 0, 0, 0]
    segmentation = {"size": list(mask.shape), "counts": rle["counts"].decode()}
    return {"segmentation": segmentation, "area": int(mask.sum()), "bbox": [int(side) for side in box]}


def _without_duplicates(records: list[dict[str, Any]], threshold: float) -> list[dict[str, Any]]:
    """Return records by falling predicted IoU, without those whose box has a higher IoU with a better one's."""
    left = sorted(records, key=lambda record: -record["predicted_iou"])
    kept = []
    while left:
        kept.append(left.pop(0))
        boxes = np.array([kept[-1]["bbox"], *(record["bbox"] for record in left)], float)
        shared = (
            (
                np.minimum(boxes[0, :2] + boxes[0, 2:], boxes[:, :2] + boxes[:, 2:])
                - np.maximum(boxes[0, :2], boxes[:, :2])
            )
            .clip(0)
            .prod(1)
        )
        union = boxes[0, 2:].prod() + boxes[:, 2:].prod(1) - shared
        left = [record for record, s, u in zip(left, shared[1:], union[1:], strict=True) if not s > threshold * u]
    return kept


def _unit(vectors: np.ndarray, axis: int) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True).clip(1e-12)


def main() -> None:
    """Print the masks of the photos that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of pipelines/export_onnx.py")
    parser.add_argument("photos", nargs="+", help="files that Pillow opens")
    parser.add_argument("--prompts", default="aop", help="aop or grid-N")
    given = parser.parse_args()
    model = Everything(given.folder)
    opened = {path: np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB")) for path in given.photos}
    print(json.dumps({path: model.generate(rgb, given.prompts) for path, rgb in opened.items()}))


if __name__ == "__main__":
    main()

"""Find the masks of every object in photos with ONNX Runtime: no PyTorch, nothing of aopsam. Copy it and change it.

    python pipelines/export_onnx.py --sam tiny --out runs/onnx                   # once; this one needs PyTorch
    pip install numpy scipy pillow pycocotools onnxruntime
    python examples/onnx_everything.py runs/onnx aop photo.jpg other.jpg > masks.json

Its masks are those of `AutoMaskGenerator(model, prompts=…, rank_by="predicted_iou")`, for the prompts `aop` (AoP-SAM's
predictor with the rule `covered`) and `grid-N`. Prints {photo: records}, each mask in COCO's run-length encoding.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from pycocotools import mask as coco
from scipy import ndimage

AT_ONCE, MOST, TIMES, LIKENESS = 16, 512, 3, 0.8  # of `aop`: prompts a round, a photo; masks and cosine that drop one


class Everything:
    """Everything mode over the files of pipelines/export_onnx.py."""

    def __init__(self, folder: Path) -> None:
        self.about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.other = self.about["predictor"]["proposer_encoder"]  # where another SAM proposes
        names = "encoder", "low_res_decoder", "predictor", *["proposer_encoder"] * bool(self.other)
        cpu = ["CPUExecutionProvider"]
        self.run = {name: onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=cpu).run for name in names}

    def generate(self, rgb: np.ndarray, prompts: str = "aop") -> list[dict[str, Any]]:
        """Return a record for each mask in a photo (H, W, 3) uint8, by falling predicted IoU."""
        photo, found = _Photo(self, rgb), list[dict[str, Any]]()
        side = 0 if prompts == "aop" else int(prompts.removeprefix("grid-"))
        centres = (np.indices((side, side))[::-1].reshape(2, -1).T + 0.5) / max(side, 1) * rgb.shape[1::-1]
        waiting = centres if side else photo.proposed()
        times = np.zeros(len(waiting), int)
        while len(waiting):
            records, logits = photo.decode(waiting[:AT_ONCE])
            found, waiting, times = found + records, waiting[AT_ONCE:], times[AT_ONCE:]
            if prompts == "aop" and len(logits) and len(waiting):
                times = times + photo.repeats(waiting, logits)
                waiting, times = waiting[times < TIMES], times[times < TIMES]
        found.sort(key=lambda record: -record["predicted_iou"])
        boxes, alive = np.array([record["bbox"] for record in found], float), np.ones(len(found), bool)
        for i in range(len(found)):  # box NMS: those go that overlap a better one
            overlap = coco.iou(boxes[i:], boxes[i : i + 1], [0])[1:, 0]
            alive[i + 1 :] &= ~(alive[i] & (overlap > self.about["thresholds"]["box_nms_thresh"]))
        return [record for record, stays in zip(found, alive, strict=True) if stays]


class _Photo:
    """An encoded photo. Points are XY in its pixels; low-resolution logits are (K, 4h, 4w) for (h, w) cells."""

    def __init__(self, model: Everything, rgb: np.ndarray) -> None:
        self.model, self.rgb, (self.height, self.width) = model, rgb, rgb.shape[:2]
        self.side, self.threshold = model.about["encoder"]["square_px"], model.about["mask_threshold"]
        pixels, (rows, columns) = _square(rgb, model.about["encoder"])
        self.embedding = model.run["encoder"](None, {"pixels": pixels})[0]
        self.scale = np.array([columns / self.width, rows / self.height], np.float32)
        self.low = 4 * self.embedding.shape[2]
        self.low_shown = -(-rows * self.low // self.side), -(-columns * self.low // self.side)
        # SAM enlarges logits to its square, cuts the padding off and resizes to the photo: a matrix for each axis.
        enlarged = _resize_matrix(self.low, self.side)
        self.down = _resize_matrix(rows, self.height) @ enlarged[:rows]
        self.across = (_resize_matrix(columns, self.width) @ enlarged[:columns]).T

    def proposed(self) -> np.ndarray:
        """Return the peaks of the predictor's smoothed map, the most confident first."""
        model, about, given = self.model, self.model.about["predictor"], {"image_embeddings": self.embedding}
        if model.other:
            given["pixels"], _ = _square(self.rgb, model.other)
            given["image_embeddings"] = model.run["proposer_encoder"](None, {"pixels": given["pixels"]})[0]
        given["pixels"], (rows, columns) = _square(self.rgb, about)
        confidence = model.run["predictor"](None, given)[0][0, 0, :rows, :columns]
        smooth = ndimage.gaussian_filter(confidence, about["sampling"]["smoothing_sigma"])
        highest = ndimage.maximum_filter(smooth, size=2 * about["sampling"]["spacing"] + 1, mode="nearest")
        y, x = np.nonzero((smooth == highest) & (smooth > about["sampling"]["threshold"]))
        order = np.argsort(-smooth[y, x], kind="stable")[:MOST]
        return (np.stack([x, y], axis=1)[order] + 0.5) * [self.width / columns, self.height / rows]

    def decode(self, points: np.ndarray) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Return records and logits of the masks that pass SAM's filters: of four the last three, as SAM does."""
        coords = np.stack([np.float32(points) * self.scale, np.zeros((len(points), 2), np.float32)], axis=1)
        labels = np.tile(np.array([1, -1], np.float32), (len(points), 1))  # of a point, and of none
        no = np.zeros(1, np.float32)
        mask = {"mask_input": np.broadcast_to(no, (1, 1, self.low, self.low)), "has_mask_input": no}
        given = mask | {"image_embeddings": self.embedding, "point_coords": coords, "point_labels": labels}
        estimates, logits = (four[:, 1:] for four in self.model.run["low_res_decoder"](None, given))
        limits, records, kept = self.model.about["thresholds"], list[dict[str, Any]](), [logits[:0, 0]]
        for prompt, which in np.argwhere(estimates > (limits["pred_iou_thresh"] or -np.inf)):
            full = self.down @ logits[prompt, which] @ self.across
            inner, outer = (int(np.count_nonzero(full > self.threshold + move)) for move in (1, -1))
            if (stability := inner / max(outer, 1)) < limits["stability_score_thresh"]:
                continue
            kept.append(logits[prompt, which][None])
            rle = coco.encode(np.asfortranarray(full > self.threshold, np.uint8))
            box = (coco.toBbox(rle) - [0, 0, 1, 1]).clip(0).astype(int)  # SAM's: last index minus first
            rle["counts"], area = rle["counts"].decode(), int(coco.area(rle))
            record = {
                "segmentation": rle,
                "area": area,
                "bbox": box.tolist(),
                "point_coords": [points[prompt].tolist()],
            }
            records.append(record | {"predicted_iou": float(estimates[prompt, which]), "stability_score": stability})
        return records, np.concatenate(kept)

    def repeats(self, points: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Count the masks that each point lies in and resembles."""
        (rows, columns), cells, inside = self.low_shown, self.embedding[0], logits > self.threshold
        shares = inside.copy()
        shares[:, rows:], shares[:, :, columns:] = False, False
        shares = shares.reshape(len(logits), self.low // 4, 4, -1, 4).mean((2, 4)).reshape(len(logits), -1)
        of_masks = _unit(shares @ cells.reshape(len(cells), -1).T, 1)
        at = (points * self.scale * (self.low / self.side)).T
        channels, place = _unit(cells, 0)[:, : -(-rows // 4), : -(-columns // 4)], at[::-1] / 4 - 0.5
        of_points = np.array([ndimage.map_coordinates(each, place, order=1, mode="nearest") for each in channels])
        x, y = at.astype(int).clip(0, self.low - 1)
        return np.sum((of_masks @ _unit(of_points, 0) > LIKENESS) & inside[:, y, x], axis=0)


def _square(rgb: np.ndarray, reads: dict[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a photo resized, normalised and padded with zeros, (1, 3, S, S), and its rows and columns there."""
    side = reads["square_px"]
    rows, columns = (max(1, int(edge * side / max(rgb.shape[:2]) + 0.5)) for edge in rgb.shape[:2])
    small = np.array(Image.fromarray(rgb).resize((columns, rows), Image.Resampling.BILINEAR), np.float32)
    normal = ((small - np.float32(reads["mean_rgb"])) / np.float32(reads["std_rgb"])).transpose(2, 0, 1)
    return np.pad(normal, ((0, 0), (0, side - rows), (0, side - columns)))[None], (rows, columns)


def _resize_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Return a bilinear resize along one axis, (size_out, size_in) float32."""
    at = ((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5).clip(0, size_in - 1)
    return (1 - abs(at[:, None] - np.arange(size_in))).clip(0).astype(np.float32)


def _unit(vectors: np.ndarray, axis: int) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True).clip(1e-12)


if __name__ == "__main__":
    everything = Everything(Path(sys.argv[1]))
    photos = {path: ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in sys.argv[3:]}
    print(json.dumps({path: everything.generate(np.array(photo), sys.argv[2]) for path, photo in photos.items()}))

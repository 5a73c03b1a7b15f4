"""Detect the boxes of a photo with any detector in ONNX format (`pip install 'aopsam[onnx]'`).

The model reads a photo, not an embedding. It must have:

- one input (1, 3, H, W) float32 of a fixed H and W: RGB in 0 to 1, the photo as large as fits with its sides in
  proportion, in the middle, grey (114 / 255) around it, as in the training of YOLO models;
- outputs named `boxes`, (N, 4) or (1, N, 4) XYXY in pixels of that input, and `scores`, (N,) or (1, N) in 0 to 1.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from aopsam._torchvision import torchvision
from aopsam.detector.inference import BEFORE_NMS, MAX_BOXES, NMS_THRESH

if TYPE_CHECKING:
    from types import ModuleType

_GREY = 114


class OnnxDetector:
    """Detector from an ONNX file, on the CPU.

    Attributes:
        sam: empty; it reads no SAM's embeddings.
        sha256: hex digest of the file.
    """

    sam = ""

    def __init__(self, path: Path | str) -> None:
        """Read a model.

        Raises:
            FileNotFoundError: no such file.
            ValueError: onnxruntime is not installed, the file is no ONNX model, or the model's inputs or outputs differ
                from the module's docstring.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such detector")
        onnxruntime = _import_onnxruntime(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors only; they are raised as well
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has many exception types of its own
            raise ValueError(f"{path}: not a model that ONNX Runtime can read ({_first_line(error)})") from error
        inputs = [(entry.name, entry.type, entry.shape) for entry in self._session.get_inputs()]
        name, kind, shape = inputs[0] if len(inputs) == 1 else ("", "", [])
        fixed = len(shape) == 4 and shape[:2] == [1, 3] and all(isinstance(side, int) for side in shape)
        if kind != "tensor(float)" or not fixed:
            raise ValueError(f"{path}: takes {inputs}; one tensor(float) of shape [1, 3, H, W] with fixed H and W fits")
        outputs = [entry.name for entry in self._session.get_outputs()]
        if not {"boxes", "scores"} <= set(outputs):
            raise ValueError(f"{path}: its outputs are {outputs}; 'boxes' and 'scores' must be among them")
        self._path, self._input, self._hw = path, name, (shape[2], shape[3])
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def detect(
        self, rgb: np.ndarray, *, max_boxes: int = MAX_BOXES, nms_thresh: float = NMS_THRESH
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes of the objects in a photo, by falling score.

        Args:
            rgb: (H, W, 3) uint8.
            max_boxes: largest K.
            nms_thresh: IoU above which the box with the lower score is dropped.

        Returns:
            (K, 4) float32 XYXY in original pixels, inside the photo, and (K,) float32 scores.

        Raises:
            ValueError: the outputs have other shapes than in the module's docstring, or numbers that are not finite.
        """
        pixels, scale, corner = letterbox(rgb, self._hw)
        raw_boxes, raw_scores = self._session.run(["boxes", "scores"], {self._input: pixels})
        count = np.size(raw_scores)
        if np.shape(raw_boxes) not in ((count, 4), (1, count, 4)) or np.shape(raw_scores) not in ((count,), (1, count)):
            shapes = np.shape(raw_boxes), np.shape(raw_scores)
            raise ValueError(f"{self._path}: answers boxes and scores of shapes {shapes}; (N, 4) and (N,) fit")
        boxes = torch.from_numpy((np.float32(raw_boxes).reshape(-1, 4) - np.tile(corner, 2)) / scale).float()
        scores = torch.from_numpy(np.float32(raw_scores).reshape(-1))
        if not (boxes.isfinite().all() and scores.isfinite().all()):
            raise ValueError(f"{self._path}: answers with numbers that are not finite")
        boxes = torch.minimum(boxes.clamp_min(0), boxes.new_tensor([rgb.shape[1], rgb.shape[0]]).repeat(2))
        wide = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        boxes, scores = boxes[wide], scores[wide]
        best = scores.argsort(descending=True, stable=True)[:BEFORE_NMS]
        kept = best[torchvision.ops.nms(boxes[best], scores[best], nms_thresh)[:max_boxes]]
        return boxes[kept].numpy(), scores[kept].numpy()


def letterbox(rgb: np.ndarray, hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Resize and pad a photo to a model's input.

    Args:
        rgb: (H, W, 3) uint8.
        hw: the model's rows and columns.

    Returns:
        (1, 3, *hw) float32; (4,) model pixels per photo pixel, in x, y, x, y; and (2,) XY of the photo's corner.
    """
    factor = min(hw[0] / rgb.shape[0], hw[1] / rgb.shape[1])
    height, width = (max(1, round(side * factor)) for side in rgb.shape[:2])
    top, left = (hw[0] - height) // 2, (hw[1] - width) // 2
    frame = np.full((*hw, 3), _GREY, np.uint8)
    resized = Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR)
    frame[top : top + height, left : left + width] = np.asarray(resized)
    pixels = np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    scale = np.array([width / rgb.shape[1], height / rgb.shape[0]] * 2, np.float32)
    return pixels, scale, np.array([left, top], np.float32)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _import_onnxruntime(path: Path) -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"{path}: ONNX Runtime is not installed: pip install 'aopsam[onnx]'") from error
    return onnxruntime

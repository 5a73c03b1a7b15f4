"""A detector that answers with boxes of our choosing, and rows to train one on, for tests."""

from __future__ import annotations

import numpy as np
import torch
from segment_anything.modeling import Sam

from aopsam.detector.network import BoxDetector, Boxes


class ToldDetector(BoxDetector):
    """Answers with given boxes, in cells, whatever it sees; each stands at the position of the finest level that its
    centre lies in, the other answers have no score."""

    def __init__(self, sam: Sam, boxes_xyxy: list[list[float]], scores: list[float]) -> None:
        super().__init__(levels=2, width=8)
        self.sam, self.sam_sha256 = sam.name, sam.sha256
        self.told = torch.tensor(boxes_xyxy, dtype=torch.float32), torch.tensor(scores)
        self.eval()

    def forward(self, embedding: torch.Tensor) -> Boxes:
        logits, boxes = super().forward(embedding)
        told, scores = self.told
        centre = (2 * (told[:, :2] + told[:, 2:]) / 2).long()
        places = (centre[:, 1] * 2 * embedding.shape[-1] + centre[:, 0]) * 3
        logits, boxes = torch.full_like(logits, -20.0), boxes.clone()
        logits[0, places], boxes[0, places] = scores.logit(), told
        return Boxes(logits, boxes)


class Rectangles:
    """Rows whose embedding of 8 x 8 cells shows where two rectangles are, and where their edges lie in a cell.

    The photo fills the upper three quarters of the frame of 64 px.
    """

    def __init__(self, count: int, *, sparse: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.rows = []
        for _ in range(count):
            masks = np.zeros((2, 64, 64), bool)
            boxes = np.zeros((2, 4), np.float32)
            for mask, box in zip(masks, boxes, strict=True):
                x0, y0 = rng.integers(0, 40), rng.integers(0, 28)
                x1, y1 = x0 + rng.integers(8, 24), y0 + rng.integers(8, 20)
                mask[y0:y1, x0:x1] = True
                box[:] = x0, y0, x1, y1
            valid = np.zeros((64, 64), np.uint8)
            valid[:48] = masks.any(0)[:48] if sparse else 1
            covered = masks.sum(0).reshape(8, 8, 8, 8)
            sides = [covered.mean(axis=axes) for axes in ((1, 3), (1,), (3,))]
            embedding = np.concatenate(
                [sides[0][None], sides[1].transpose(2, 0, 1), sides[2].transpose(1, 0, 2)], axis=0
            ).astype(np.float16)
            self.rows.append(
                {
                    "image": np.repeat(masks.any(0)[..., None] * np.uint8(255), 3, axis=2),
                    "content_hw": np.array([48, 64]),
                    "embedding": embedding,
                    "valid": valid,
                    "weight": np.array(1, np.float32),
                    "boxes": boxes,
                    "masks": masks,
                }
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.rows[index]

    def objects(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.rows[index]["boxes"], self.rows[index]["masks"]

"""Prompts: points or boxes in original pixels, as every strategy yields them and the decoder reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prompts:
    """N prompts of one kind, S slots each: a point and its padding, or the two corners of a box; then further points.

    Attributes:
        coords_px: (N, S, 2) float32, XY in original pixels; the padding slot, the last, is (0, 0).
        labels: (N, S) int64, segment-anything's: [1, -1] for a point (and padding), [2, 3] for a box's corners;
            further points are 1 (part of the object) or 0 (not) behind a box's corners or before the padding.
        confidence: (N,) float32, the strategy's own score of each prompt; higher is better.
    """

    coords_px: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray

    @classmethod
    def from_points(cls, points_px: np.ndarray, confidence: np.ndarray | None = None) -> Prompts:
        """Make N prompts of one foreground point each; `points_px` is (N, 2) XY in original pixels."""
        points = np.asarray(points_px, dtype=np.float32).reshape(-1, 1, 2)
        return cls.from_labelled_points(points, np.ones((len(points), 1)), confidence)

    @classmethod
    def from_labelled_points(
        cls, points_px: np.ndarray, labels: np.ndarray, confidence: np.ndarray | None = None
    ) -> Prompts:
        """Make N prompts of P points each: (N, P, 2) XY in original pixels, (N, P) labels 1 or 0."""
        points, labels = np.asarray(points_px, np.float32), np.asarray(labels, np.int64)
        padding = np.zeros_like(points[:, :1]), np.full((len(points), 1), -1)
        coords = np.concatenate([points, padding[0]], axis=1)
        labels = np.concatenate([labels, padding[1]], axis=1)
        return cls(coords, labels, _confidence(confidence, len(points)))

    @classmethod
    def from_boxes(cls, boxes_xyxy_px: np.ndarray, confidence: np.ndarray | None = None) -> Prompts:
        """Make N prompts of one box each; `boxes_xyxy_px` is (N, 4), corners in original pixels."""
        coords = np.asarray(boxes_xyxy_px, dtype=np.float32).reshape(-1, 2, 2)
        return cls(coords, np.tile(np.array([2, 3]), (len(coords), 1)), _confidence(confidence, len(coords)))

    def with_points(self, points_px: np.ndarray, labels: np.ndarray) -> Prompts:
        """Return the prompts with P further points each: (N, P, 2) XY in original pixels, (N, P) labels 1 or 0."""
        at = self.coords_px.shape[1] if self.are_boxes else self.coords_px.shape[1] - 1
        coords = [self.coords_px[:, :at], np.asarray(points_px, np.float32), self.coords_px[:, at:]]
        return Prompts(
            np.concatenate(coords, axis=1),
            np.concatenate([self.labels[:, :at], labels, self.labels[:, at:]], axis=1),
            self.confidence,
        )

    @property
    def are_boxes(self) -> bool:
        """True for boxes, False for points and for no prompts."""
        return bool(len(self)) and int(self.labels[0, 0]) == 2

    @property
    def places_px(self) -> np.ndarray:
        """The first point of each, (N, 2) XY, or its box, (N, 4) XYXY, in original pixels."""
        return self.coords_px[:, :2].reshape(-1, 4) if self.are_boxes else self.coords_px[:, 0]

    def __len__(self) -> int:
        return len(self.coords_px)

    def __getitem__(self, which: slice | np.ndarray) -> Prompts:
        """Return the prompts at a slice, an index array or a boolean mask."""
        return Prompts(self.coords_px[which], self.labels[which], self.confidence[which])


def _confidence(confidence: np.ndarray | None, count: int) -> np.ndarray:
    return np.ones(count, np.float32) if confidence is None else np.asarray(confidence, np.float32).reshape(count)

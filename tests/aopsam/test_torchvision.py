from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from aopsam._torchvision import torchvision
from aopsam.masks.nms import box_nms
from tests.helpers import ROOT

USE = """
import torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 2)
print(torchvision.ops.nms(boxes, torch.ones(2), 0.5).tolist())
"""


@pytest.mark.parametrize(
    "order",
    [
        "import aopsam; import segment_anything",
        "import aopsam.masks.nms; import segment_anything",
        # Beside a CPU torch the first import fails; what it leaves behind must not spoil the second.
        """
try:
    import segment_anything
except RuntimeError as error:
    assert "torchvision::nms" in str(error)
import aopsam
import segment_anything
""",
    ],
)
def test_segment_anything_imports_after_aopsam(order: str) -> None:
    code = f"{order}\nimport segment_anything.automatic_mask_generator\n{USE}"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=600)
    assert run.stdout == "[0]\n", run.stderr


def slow_nms(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    """Pair by pair, in plain numbers."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -float(scores[i])):
        x0, y0, x1, y1 = boxes[i].tolist()
        for k in kept:
            a0, b0, a1, b1 = boxes[k].tolist()
            overlap = max(min(x1, a1) - max(x0, a0), 0) * max(min(y1, b1) - max(y0, b0), 0)
            if overlap / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - overlap) > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_nms_equals_a_slow_reference(threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 40, (300, 2), generator=generator)
    boxes = torch.cat([corners, corners + torch.randint(1, 40, (300, 2), generator=generator)], dim=1).double()
    scores = torch.randint(0, 50, (300,), generator=generator) / 50  # many ties
    expected = slow_nms(boxes, scores, threshold)
    assert torchvision.ops.nms(boxes.float(), scores, threshold).tolist() == expected
    assert box_nms(boxes, scores, threshold, most=7).tolist() == expected[:7]
    assert box_nms(boxes, scores, threshold, most=len(boxes) + 1).tolist() == expected


def test_batched_nms_keeps_classes_apart() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8]])
    kept = torchvision.ops.batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0]), 0.5)
    assert kept.tolist() == [0, 1]
    assert torchvision.ops.batched_nms(boxes[:0], torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []


def test_opening_photos_needs_no_torch() -> None:
    code = "import sys, stages.label.opened, stages.label.flow; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=600)


def test_a_model_is_loaded_without_torchs_compiler_which_still_comes_when_it_is_asked_for() -> None:
    code = """
import sys, aopsam, torch
aopsam.load_sam("tiny")
assert not [name for name in sys.modules if name.startswith(("torch._dynamo", "sympy", "transformers"))]
from torchvision.ops.roi_align import is_compile_supported
print(is_compile_supported("cpu"), torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert run.stdout == "True 2.0\n", run.stderr

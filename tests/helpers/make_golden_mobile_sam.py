"""Take the names, shapes and golden values of tests/data/mobile_sam_* from MobileSAM's reference implementation.

    git clone https://github.com/ChaoningZhang/MobileSAM && pip install timm==0.6.13
    python tests/helpers/make_golden_mobile_sam.py MobileSAM

The files in the repository come from commit 34bbbfdface3c18e5221aa7de6032d7220c6c6a1. The names are those of the
reference model's state dict, which the reference itself loads `weights/mobile_sam.pt` into strictly; the weights are
random, the same as in the test.
"""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np

import aopsam  # noqa: F401  torchvision works after it
from tests.helpers import ROOT

TESTS = ROOT / "tests"


def main() -> None:
    """Write both files from the checkout given on the command line."""
    sys.path.insert(0, sys.argv[1])
    from mobile_sam import sam_model_registry

    test = runpy.run_path(str(TESTS / "test_sam_encoders_tiny_vit.py"))
    sam = sam_model_registry["vit_t"]()
    shapes = {name: list(tensor.shape) for name, tensor in sam.state_dict().items()}
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(shape)}" for name, shape in shapes.items())
    (TESTS / "data" / "mobile_sam_keys.json").write_text(f"{{\n{rows}\n}}\n")
    sam.load_state_dict(test["random_state"](shapes), strict=True)
    sam.eval()  # again: the reference caches its attention biases when it enters eval mode
    np.savez_compressed(TESTS / "data" / "mobile_sam_golden.npz", **test["golden"](sam))


if __name__ == "__main__":
    main()

"""Import torchvision, also where its compiled operators do not load; for our own use and before segment-anything's.

PyPI's torchvision wheels are built for the CUDA build of torch. Beside a CPU-only torch their operators do not
load and `import torchvision` fails with "operator torchvision::nms does not exist". segment-anything needs only
`batched_nms`, so the schema and a CPU kernel of `nms` are registered here, before torchvision is imported. Where
the real operators load, nothing is touched.
"""

from __future__ import annotations

import sys

import torch

from aopsam.masks.nms import box_nms

__all__ = ["torchvision"]

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    _library = torch.library.Library("torchvision", "DEF")  # its registrations vanish with the object
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.impl("nms", box_nms, "CPU")
    for _name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[_name]  # the half-imported modules of the failed attempt
    import torchvision
    import torchvision.extension

    # torchvision.ops refuses to call nms while it believes that no operator was loaded.
    torchvision.extension._has_ops = lambda: True

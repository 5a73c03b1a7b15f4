"""Make `import segment_anything` work where torchvision's compiled operators do not load.

PyPI's torchvision wheels are built for the CUDA build of torch. Beside a CPU-only torch their operators do not
load and `import torchvision` fails with "operator torchvision::nms does not exist". segment-anything needs only
`batched_nms`, so the schema and a CPU kernel of `nms` are registered here, before torchvision is imported. Where
the real operators load, nothing is touched.
"""

from __future__ import annotations

import sys

import torch

_kept_alive: list[torch.library.Library] = []  # a Library's registrations vanish with the object


def _nms_cpu(boxes_xyxy: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    from aopsam.masks.nms import box_nms

    return box_nms(boxes_xyxy, scores, iou_threshold)


def ensure_torchvision() -> None:
    """Import torchvision, registering `nms` and the schema of `qnms` first if its own operators do not load."""
    try:
        import torchvision

        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms_cpu, "CPU")
    _kept_alive.append(library)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # the half-imported modules of the failed attempt
    import torchvision
    import torchvision.extension

    # torchvision.ops refuses to call nms while it believes that no operator was loaded.
    torchvision.extension._has_ops = lambda: True

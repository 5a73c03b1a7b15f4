"""Import torchvision, also where its compiled operators do not load; for our own use and before segment-anything's.

PyPI's torchvision wheels are built for the CUDA build of torch. Beside a CPU-only torch their operators do not
load and `import torchvision` fails with "operator torchvision::nms does not exist". segment-anything needs only
`batched_nms`, so the schema and a CPU kernel of `nms` are registered here, before torchvision is imported. Where
the real operators load, they stay.

torchvision imports `torch._dynamo` for one function that only its compiled `roi_align` calls: a quarter of the
processor time that a labelling process needs to start. That import waits here until the function is called.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

from aopsam.masks.nms import box_nms

__all__ = ["torchvision"]

_DYNAMO = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    supported: bool = importlib.import_module(_DYNAMO).is_compile_supported(device_type)
    return supported


_stand_in = None
if _DYNAMO not in sys.modules:
    _stand_in = sys.modules[_DYNAMO] = ModuleType(_DYNAMO)
    _stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
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
finally:
    if sys.modules.get(_DYNAMO) is _stand_in:
        sys.modules.pop(_DYNAMO, None)

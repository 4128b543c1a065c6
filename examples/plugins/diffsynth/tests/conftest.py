"""Lets the tests run where torchvision's compiled half does not fit torch: nothing here calls it.

The package index has torchvision for CUDA. Beside a CPU build of torch its library cannot be loaded, and
`import torchvision` fails because two operators have no declaration. So they get one. Never do this in a
program: `pip install` a torchvision that was built for your torch.
"""

from __future__ import annotations

import sys

import torch

KEPT = []
"""A declaration lasts as long as its library."""

try:
    import torchvision
except ModuleNotFoundError:
    pass  # without diffsynth, the tests are skipped
except RuntimeError:
    for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    KEPT.append(library)
    import torchvision  # noqa: F401

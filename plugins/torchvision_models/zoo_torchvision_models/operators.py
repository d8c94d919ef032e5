"""Import torchvision also where its compiled operators do not fit the torch at hand."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

import torch

#: Operators that torchvision's Python code refers to while it is imported, as its C++ code declares them.
_DECLARED = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
#: Declarations last as long as the library that holds them.
_kept: list[torch.library.Library] = []


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import torchvision, or a module of it.

    PyPI's torchvision is built for CUDA. Beside a CPU build of torch its extension does not load, and the import then
    fails for want of two operators for boxes, which no classifier uses (pytorch/vision #8985, #9085). Where, and only
    where, the extension does not load, they are declared here without code: calling them stays an error.

    Raises:
        ImportError: torchvision is not installed.
    """
    if "torchvision" not in sys.modules and not _extension_loads():
        _declare()
    return importlib.import_module(module)


def _extension_loads() -> bool:
    package = find_spec("torchvision")
    if package is None:
        raise ImportError("torchvision is not installed; install it as `torchvision` with pip")
    extension = PathFinder.find_spec("_C", package.submodule_search_locations)
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except OSError:
        return False
    return True


def _declare() -> None:
    if _kept:
        return
    # A fragment: others may declare more under this name.
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # as above
    for declaration in _DECLARED:
        if not hasattr(torch.ops.torchvision, declaration.partition("(")[0]):
            library.define(declaration)  # type: ignore[no-untyped-call]  # as above
    _kept.append(library)

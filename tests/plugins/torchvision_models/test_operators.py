"""torchvision is imported whatever torch stands beside it, and its operators are declared only where it must be."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from zoo_torchvision_models import operators


def test_torchvision_comes_where_its_extension_does_not_load():
    code = (
        "import torch\n"
        "def refuse(path): raise OSError(path)\n"
        "torch.ops.load_library = refuse\n"
        "from zoo_torchvision_models.operators import import_torchvision\n"
        "models = import_torchvision('torchvision.models')\n"
        "assert import_torchvision('torchvision.models') is models\n"
        "assert 'resnet18' in models.list_models()\n"
        "import torchvision\n"
        "try: torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)\n"
        "except (RuntimeError, NotImplementedError): print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "refused\n"


def test_nothing_is_declared_where_the_extension_loads(monkeypatch):
    declared = []
    monkeypatch.setattr(operators, "_declare", lambda: declared.append("declared"))
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(operators.importlib, "import_module", lambda name: name)
    assert operators.import_torchvision() == "torchvision"
    assert not declared


def test_a_missing_torchvision_is_named(monkeypatch):
    monkeypatch.setattr(operators, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(ImportError, match="torchvision is not installed"):
        operators.import_torchvision()

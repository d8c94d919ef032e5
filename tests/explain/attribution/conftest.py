"""The families of models, and a plugin's method among ours."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

from explain.attribution.jobs import Raw
from explain.attribution.methods import Method


def drawn(job):
    """Gradients, and noise from torch's global state: what a plugin's method may do."""
    import torch

    inputs = job.batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(job.score(inputs, job.samples).sum(), inputs)
    noise = torch.rand(gradient.shape[1:], generator=torch.Generator().manual_seed(job.seed), dtype=torch.float64)
    return Raw(values=gradient * (1 + noise.to(gradient) + 0 * torch.rand(1).to(gradient)))


@pytest.fixture(scope="session")
def families():
    path = Path(__file__).with_name("families.py")
    spec = importlib.util.spec_from_file_location("families", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plugin_method(monkeypatch):
    """A method that a plugin registers."""
    module = types.ModuleType("methods_of_a_plugin")
    module.drawn = drawn
    monkeypatch.setitem(sys.modules, "methods_of_a_plugin", module)
    method = Method(
        name="drawn_gradient",
        summary="Gradients times noise.",
        run="methods_of_a_plugin:drawn",
        source="here",
        reduction="magnitude",
        options=("draws",),
        check="explain.attribution.gradients:check",
    )
    monkeypatch.setattr("zoo.plugins.collect", lambda hook, _: [("p", method)] if hook == "explain_methods" else [])
    return method

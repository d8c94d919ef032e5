"""The families of models, and a plugin's method among ours."""

import dataclasses
import importlib.util
import sys
import types
from pathlib import Path

import pytest

from explain.attribution.job import Raw
from explain.attribution.methods import BUILT_IN, Method, find_method
from explain.attribution.options import NamedOptions, names_for


def drawn(job):
    """Gradients, and noise from torch's global state: what a plugin's method may do."""
    import torch

    inputs = job.batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(job.score(inputs, job.samples).sum(), inputs)
    noise = torch.rand(gradient.shape[1:], generator=torch.Generator().manual_seed(job.seed), dtype=torch.float64)
    return Raw(values=gradient * (1 + noise.to(gradient) + 0 * torch.rand(1).to(gradient)))


def _loaded():
    spec = importlib.util.spec_from_file_location("families", Path(__file__).with_name("families.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAMILIES = _loaded()
NAMES = [*(method.name for method in BUILT_IN), "drawn_gradient"]


def pytest_generate_tests(metafunc):
    """Tests that ask for a cell run on every family with every method that it does not refuse."""
    if "cell" in metafunc.fixturenames:
        cells = [
            (family, name) for family, refused in FAMILIES.REFUSED.items() for name in NAMES if name not in refused
        ]
        metafunc.parametrize(("family", "method"), cells)


@pytest.fixture(scope="session")
def families():
    return FAMILIES


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
        check="explain.attribution.backpropagation:check_gradients",
    )
    monkeypatch.setattr(
        "zoo.registry.plugins.collect", lambda hook, _: [("p", method)] if hook == "explain_methods" else []
    )
    return method


@pytest.fixture
def having():
    """Those arguments of `attribute` that a method has: options of other methods left out."""
    every = {field.name for field in dataclasses.fields(NamedOptions)}

    def own(method, given):
        return {
            name: value
            for name, value in given.items()
            if name not in every or name in names_for(find_method(method), given)
        }

    return own

import subprocess
import sys

import pytest
import torch

import explain
from explain.attribution.job import Raw
from explain.attribution.methods import BUILT_IN, Method, all_methods, find_method
from zoo.errors import PluginError, UnknownNameError


def ones(job):
    """A method as a plugin would bring it."""
    return Raw(values=torch.ones_like(job.batch))


def noise(job):
    """A method that draws from global state, as Captum's sampling methods do."""
    return Raw(values=torch.rand_like(job.batch))


def test_the_table_names_functions_that_exist_and_papers():
    from zoo.registry.plugins import resolve

    for method in BUILT_IN:
        assert callable(resolve(method.run))
        assert "arXiv" in method.source
        assert method.summary.endswith(".")


def test_the_table_imports_no_torch():
    code = "import sys, explain.attribution.methods, explain.maximization; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_methods_come_with_near_names():
    with pytest.raises(UnknownNameError, match="did you mean 'saliency'"):
        find_method("saliancy")


def test_methods_of_plugins_are_added_and_take_no_built_in_name(monkeypatch, nets):
    own = Method(name="ones", summary="Ones.", run=f"{__name__}:ones", source="here", reduction="sum")
    thief = Method(name="saliency", summary="Not it.", run="nowhere:none", source="here", reduction="sum")
    monkeypatch.setattr("zoo.registry.plugins.collect", lambda hook, expected: [("plugin", own), ("plugin", thief)])
    assert all_methods()["saliency"] in BUILT_IN
    assert find_method("ones") is own
    result = explain.attribute(nets.LinearClips(), torch.randn(2, 2, 4, 6, 5), method="ones")
    assert torch.equal(result.map, torch.full((2, 4, 6, 5), 2.0))


def test_a_method_that_draws_repeats_with_its_seed(nets):
    method = Method(name="noise", summary="Noise.", run=f"{__name__}:noise", source="here", reduction="sum")
    model, batch = nets.LinearClips(), torch.randn(1, 2, 4, 6, 5)
    first, again, other = (explain.attribute(model, batch, method=method, seed=seed).raw for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["Smooth", "smooth.grad", "", "2d", "smooth grad"])
def test_method_names_are_in_snake_case(name):
    with pytest.raises(ValueError, match="snake_case"):
        Method(name=name, summary="Smooth.", run="nowhere:none", source="here", reduction="sum")


def refuses(job):
    raise KeyError("not today")


def ends(job):
    raise SystemExit(3)


def a_list(job):
    return [0.0]


def too_small(job):
    return Raw(values=job.batch[..., :-1])


def too_many(job):
    return Raw(values=job.batch.expand(3, -1, -1, -1, -1))


@pytest.mark.parametrize(
    ("function", "reduction", "said"),
    [
        ("refuses", "sum", "KeyError: 'not today'"),
        ("ends", "sum", "SystemExit: 3"),
        ("a_list", "sum", r"expected explain\.attribution\.Raw .* got list"),
        ("too_small", "sum", r"expected values of shape \(1, 2, 4, 6, 5\), got \(1, 2, 4, 6, 4\)"),
        ("too_many", "positive", r"expected values of shape \(1, 2, 4, 6, 5\), got \(3, 2, 4, 6, 5\)"),
    ],
)
def test_a_method_that_does_not_work_is_a_plugin_error(nets, function, reduction, said):
    broken = Method(name="broken", summary="Broken.", run=f"{__name__}:{function}", source="here", reduction=reduction)
    with pytest.raises(PluginError, match=f"broken .*{said}"):
        explain.attribute(nets.LinearClips(), torch.randn(1, 2, 4, 6, 5), method=broken)


@pytest.mark.parametrize(("function", "said"), [("refuses", "KeyError: 'not today'"), ("ends", "SystemExit: 3")])
def test_a_check_that_does_not_work_is_why_a_method_does_not_apply(nets, monkeypatch, function, said):
    check = f"{__name__}:{function}"
    own = Method(name="own", summary="Own.", run=f"{__name__}:ones", check=check, source="here", reduction="sum")
    monkeypatch.setattr("zoo.registry.plugins.collect", lambda hook, expected: [("plugin", own)])
    assert said in explain.applicability(nets.LinearClips(), torch.randn(1, 2, 4, 6, 5))["own"]


def test_a_method_whose_function_is_missing_is_a_plugin_error(nets):
    broken = Method(name="broken", summary="Broken.", run="explain.nowhere:none", source="here", reduction="sum")
    with pytest.raises(PluginError, match=r"explain\.nowhere:none"):
        explain.attribute(nets.LinearClips(), torch.randn(1, 2, 4, 6, 5), method=broken)

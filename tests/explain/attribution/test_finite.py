"""Maps are finite or refused, say which numbers they come from, and why they are empty."""

import copy

import pytest
import torch
from torch import nn

import explain
from explain.attribution import Raw
from explain.attribution.methods import BUILT_IN, Method
from zoo.errors import ModelError, ZooError


class Convolutions(nn.Module):
    """Two 3D convolutions with ReLU, an average and a head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.second = nn.Conv3d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu().mean(dim=(2, 3, 4)))


class Root(nn.Module):
    """An output that is finite everywhere, and whose derivative is not at zero."""

    def forward(self, x):
        return x.clamp(min=0).sqrt().flatten(1).sum(dim=1, keepdim=True)


def broken(job):
    values = torch.ones_like(job.batch)
    values[-1, 0, 0, 0, 0] = torch.nan
    return Raw(values=values)


@pytest.fixture
def case():
    torch.manual_seed(0)
    return Convolutions().eval(), torch.rand(2, 1, 4, 12, 12)


@pytest.mark.parametrize("method", [one.name for one in BUILT_IN])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_no_method_gives_numbers_that_are_not_finite(case, method, dtype):
    model, batch = case
    try:
        found = explain.attribute(model.to(dtype), batch.to(dtype), method=method, n_samples=16)
    except ZooError:
        return
    assert found.map.isfinite().all()
    assert found.time.isfinite().all()
    assert str(dtype).removeprefix("torch.") in found.note or "weights of 16 bits" in found.note


def test_lrp_in_float16_is_that_of_float32(case):
    model, batch = case
    right = explain.attribute(model, batch, method="lrp", target=0)
    before = {name: value.half() for name, value in model.state_dict().items()}
    half = copy.deepcopy(model).half()
    found = explain.attribute(half, batch.half(), method="lrp", target=0)
    assert (found.map - right.map).abs().max() < 0.01 * right.map.abs().max()
    assert found.map.dtype == torch.float32
    assert "float32" in found.note
    assert all(torch.equal(value, before[name]) for name, value in half.state_dict().items())
    assert all(one.dtype == torch.float16 for one in half.parameters())


def test_a_model_that_cannot_be_widened_is_refused(case):
    model, batch = case
    narrow = nn.Sequential(model).half()
    narrow[0].kept = torch.ones(8, 8, dtype=torch.float16)
    narrow[0].forward = lambda x: model.head(model.second(model.first(x)).mean(dim=(2, 3, 4)) @ narrow[0].kept)
    with pytest.raises(ModelError, match="float32"):
        explain.attribute(narrow, batch.half(), method="lrp")
    assert all(one.dtype == torch.float16 for one in narrow.parameters())


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "integrated_gradients", "smooth_grad"])
def test_derivatives_that_are_not_finite_are_refused(having, method):
    options = having(method, {"baseline": 0.0})
    with pytest.raises(ModelError, match=rf"{method} gives .* not finite for sample 0"):
        explain.attribute(Root(), torch.zeros(2, 1, 2, 3, 3), method=method, **options)


def test_a_methods_own_numbers_are_checked_too(case):
    model, batch = case
    own = Method(name="broken", summary="", run=f"{__name__}:broken", source="", reduction="sum")
    with pytest.raises(ModelError, match="broken gives 1 of 576 numbers that are not finite for sample 1"):
        explain.attribute(model, batch, method=own)


def test_autocast_is_said_in_every_result(case):
    model, batch = case
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = explain.attribute(model, batch, method="saliency")
        robust = explain.check_robustness(model, batch, perturbations="blur", levels=1, draws=1)
        trust = explain.check_faithfulness(model, batch, found, steps=2, draws=2, depths=1)
        made = explain.maximize(model, "second", 0, shape=(1, 4, 12, 12), steps=1)
        field = explain.effective_field(model, "second", batch[:1], draws=1)
    assert found.note == "computed in bfloat16 by autocast"
    for result in (robust, trust, made, field):
        assert result.settings["precision"] == "bfloat16 by autocast"
    assert explain.attribute(model, batch, method="saliency").note == ""
    assert "precision" not in explain.check_robustness(model, batch, perturbations="blur", levels=1, draws=1).settings


class OneMap(nn.Module):
    """A layer whose activations have one sign, weighed by the head."""

    def __init__(self, weight):
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 1, bias=False)
        self.conv.weight.data.fill_(1.0)
        self.weight = weight

    def forward(self, x):
        return self.weight * self.conv(x).relu().mean(dim=(2, 3, 4))


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_per_frame", "guided_grad_cam", "layer_gradient_x_activation"])
def test_an_empty_map_tells_no_effect_from_evidence_against(method):
    batch = torch.rand(1, 1, 4, 6, 6)
    against = explain.attribute(OneMap(-1.0), batch, method=method, layer="conv")
    nothing = explain.attribute(OneMap(0.0), batch, method=method, layer="conv")
    there = explain.attribute(OneMap(1.0), batch, method=method, layer="conv")
    assert not against.map.any()
    assert "all of the evidence is against output" in against.note
    assert not nothing.map.any()
    assert "nothing that the method looks at changes output" in nothing.note
    assert there.map.any()
    assert there.note == ""


def test_the_samples_with_empty_maps_are_named():
    batch = torch.rand(3, 1, 4, 6, 6)
    batch[1] = -1.0  # ReLU keeps it silent
    found = explain.attribute(OneMap(1.0), batch, method="grad_cam", layer="conv")
    assert found.note.startswith("the map of sample 1 is zero everywhere: nothing")

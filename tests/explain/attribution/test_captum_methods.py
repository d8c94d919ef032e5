"""Every attribution class of Captum as a method: it agrees with a direct call of Captum, or is refused for a reason."""

import inspect
import json
import warnings

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import explain
from explain.attribution.captum_methods import REFUSED, method_of
from explain.attribution.methods import find_method
from zoo.errors import ModelError, UnknownNameError, UsageError

CLASSES = {
    name: one
    for name, one in vars(captum.attr).items()
    if isinstance(one, type) and issubclass(one, captum.attr.Attribution)
}
MAPS = sorted(CLASSES.keys() - REFUSED)
#: Arguments that a class needs, or without which it takes long.
GIVEN = {
    "Occlusion": {"sliding_window_shapes": (1, 2, 3, 3)},
    "NoiseTunnel": {"attribution_method": captum.attr.Saliency, "nt_samples": 3, "stdevs": 0.2},
}
PARTS = (torch.arange(4) // 2)[:, None, None].expand(4, 6, 6).contiguous()


class Video(nn.Module):
    """Two convolutions over a clip, and two heads."""

    def __init__(self):
        super().__init__()
        self.first, self.relu = nn.Conv3d(1, 3, 3, padding=1), nn.ReLU(inplace=True)
        self.layer, self.act = nn.Conv3d(3, 2, 3, padding=1), nn.ReLU()
        self.digit, self.speed = nn.Linear(2, 3), nn.Linear(2, 1)

    def forward(self, x):
        y = 100 * self.act(self.layer(self.relu(self.first(x)))).mean(dim=(2, 3, 4))
        return {"digit": self.digit(y), "speed": self.speed(y)}


class Image(nn.Module):
    """What Captum's LRP has rules for."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.layer = nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.digit = nn.Linear(27, 3)

    def forward(self, x):
        return {"digit": self.digit(self.layer(self.relu(self.first(x))).flatten(1))}


class Digit(nn.Module):
    """The first head alone, as Captum needs it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)["digit"]


def case(name):
    """A model, a batch, and the arguments of the class."""
    parameters, given = inspect.signature(CLASSES[name].attribute).parameters, dict(GIVEN.get(name, {}))
    if "feature_mask" in parameters:
        given["feature_mask"] = PARTS
    if "n_steps" in parameters:
        given["n_steps"] = 6
    if "neuron_selector" in parameters:
        given["neuron_selector"] = (1, 2, 3, 3)
    image = "LRP" in name
    if "LIME" in name.upper() or name == "KernelShap":
        pytest.importorskip("sklearn")
    model = (Image() if image else Video()).double().eval()
    model.digit.weight.data.abs_()  # so that deconvolution leaves something
    return model, torch.randn(2, *((1, 6, 6) if image else (1, 4, 6, 6))).double(), given


def explained(name, model, batch, given, **options):
    layer = "layer" if "layer" in inspect.signature(CLASSES[name]).parameters else None
    return explain.attribute(model, batch, method=CLASSES[name], target="digit:1", layer=layer, **given, **options)


def directly(name, model, batch, given):
    """What Captum gives for one sample after the other, each after the seed."""
    cls, given = CLASSES[name], dict(given)
    parameters, rows = inspect.signature(cls.attribute).parameters, []
    layers = [model.layer] if "layer" in inspect.signature(cls).parameters else []
    model = Digit(model)
    if name == "NoiseTunnel":
        model = given.pop("attribution_method")(model)
    if "target" in parameters or name == "NoiseTunnel":
        given["target"] = 1
    if "feature_mask" in given:
        given["feature_mask"] = given["feature_mask"][None, None]
    if "baselines" in parameters and parameters["baselines"].default is inspect.Parameter.empty:
        given["baselines"] = torch.linspace(-1, 1, 2 * batch[0].numel()).view(2, *batch.shape[1:]).double()
    for one in batch.split(1):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - Captum draws from it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows.append(cls(model, *layers).attribute(one, **given).detach())
    return torch.cat(rows), {name: given[name] for name in ("baselines",) if name in given}


@pytest.mark.parametrize("name", MAPS)
def test_a_class_agrees_with_a_direct_call_and_leaves_the_model_as_found(nets, name):
    model, batch, given = case(name)
    wanted, more = directly(name, model, batch, given)
    found = nets.fingerprint(model)
    result = explained(name, model, batch, {**given, **more})
    assert nets.fingerprint(model) == found
    raw = result.raw.squeeze(2) if wanted.ndim < result.raw.ndim else result.raw
    assert torch.allclose(raw, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    assert wanted.any()
    assert result.map.shape == (2, 1 if batch.ndim == 4 else 4, 6, 6)
    assert result.time.shape == result.map.shape[:2]
    assert result.layer == ("layer" if "layer" in inspect.signature(CLASSES[name]).parameters else None)
    assert str(result.target) == ("layer/1[2, 3, 3]" if "Neuron" in name and "Cond" not in name else "digit = 1")


@pytest.mark.parametrize("name", MAPS)
def test_neither_batches_nor_other_samples_matter_and_seeds_repeat(name):
    model, batch, given = case(name)
    torch.rand(3)
    together = explained(name, model, batch, given, seed=3)
    single = explained(name, model, batch[1:], given, seed=3)
    assert torch.allclose(single.raw, together.raw[1:], atol=1e-12)
    assert torch.allclose(single.time, together.time[1:], atol=1e-12)
    assert torch.equal(explained(name, model, batch, given, seed=3).raw, together.raw)
    if "GradientShap" not in name:  # which draws in parts that fit
        assert torch.allclose(explained(name, model, batch, given, seed=3, batch_size=1).raw, together.raw, atol=1e-9)


@pytest.mark.parametrize("name", MAPS)
def test_a_failure_leaves_the_model_as_found(nets, name):
    model, batch, given = case(name)
    runs = []

    def failing(output):
        runs.append(1)
        if len(runs) == 4:  # two fix the target
            raise KeyboardInterrupt
        return output["digit"][:, 1]

    found = nets.fingerprint(model)
    with pytest.raises(KeyboardInterrupt):
        explain.attribute(model, batch, method=CLASSES[name], target=failing, layer="layer", batch_size=1, **given)
    assert nets.fingerprint(model) == found


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_other_classes_are_refused_for_a_reason(name):
    with pytest.raises(UsageError, match=f"captum.attr.{name} "):
        explain.attribute(Video(), torch.zeros(1, 1, 4, 6, 6), method=CLASSES[name])


def test_every_class_of_captum_is_one_of_both():
    assert sorted({*MAPS, *REFUSED}) == sorted(CLASSES)
    assert len(MAPS) >= 36


def test_a_class_has_three_names(nets):
    model, batch, _ = case("LayerConductance")
    names = [captum.attr.LayerConductance, "captum.attr:LayerConductance@layer", "captum_layer_conductance@layer"]
    results = [
        explain.attribute(model, batch, method=name, **({"layer": "layer"} if isinstance(name, type) else {}))
        for name in names
    ]
    assert len({result.method for result in results}) == 1
    assert torch.equal(results[0].raw, results[1].raw)
    assert torch.equal(results[0].raw, results[2].raw)
    assert find_method(results[0].method) == method_of(captum.attr.LayerConductance)


def test_arguments_are_the_classs_own():
    model, batch, _ = case("Saliency")
    with pytest.raises(UnknownNameError, match="n_stepz"):
        explain.attribute(model, batch, method=captum.attr.IntegratedGradients, n_stepz=3)
    with pytest.raises(UnknownNameError, match="window"):
        explain.attribute(model, batch, method=captum.attr.Saliency, window=(1, 2, 2))
    with pytest.raises(UsageError, match="sliding_window_shapes"):
        explain.attribute(model, batch, method=captum.attr.Occlusion)
    with pytest.raises(UsageError, match="neuron_selector"):
        explain.attribute(model, batch, method=captum.attr.NeuronGradient, layer="layer")
    with pytest.raises(UnknownNameError, match="LayerConductanze"):
        explain.attribute(model, batch, method="captum.attr:LayerConductanze")
    plain = explain.attribute(model, batch, method=captum.attr.Saliency, abs=False)
    assert (plain.raw < 0).any()
    constructed = explain.attribute(model, batch, method=captum.attr.IntegratedGradients, multiply_by_inputs=False)
    assert constructed.delta is None
    inner = {"attribution_method": captum.attr.IntegratedGradients, "n_steps": 4, "nt_samples": 2}
    assert explain.attribute(model, batch, method=captum.attr.NoiseTunnel, **inner).settings["n_steps"] == 4
    with pytest.raises(UsageError, match="layer"):
        explain.attribute(model, batch, method=captum.attr.NoiseTunnel, attribution_method=captum.attr.LayerGradCam)


def test_targets_by_name_are_those_of_other_methods():
    model, batch, _ = case("Saliency")
    for target in ("digit:2", "speed", "layer/1", "layer/1:max", lambda output: output["speed"][:, 0]):
        found = explain.attribute(model, batch, method=captum.attr.Saliency, target=target)
        assert torch.allclose(found.raw, explain.attribute(model, batch, method="saliency", target=target).raw.abs())


class Reused(nn.Module):
    """One layer that runs twice, and ReLU as a function."""

    def __init__(self):
        super().__init__()
        self.first, self.layer, self.head = nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, 1), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(F.relu(self.layer(F.relu(self.layer(self.first(x))))).mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution", "DeepLift", "NeuronDeepLift", "LayerDeepLift"])
def test_functions_that_hooks_miss_are_refused(nets, name):
    model, batch = Reused().eval(), torch.randn(1, 1, 4, 6, 6)
    found = nets.fingerprint(model)
    given = {"neuron_selector": (0, 0, 0, 0)} if "Neuron" in name else {}
    with pytest.raises(ModelError, match="relu"):
        explain.attribute(model, batch, method=CLASSES[name], layer="first", **given)
    assert nets.fingerprint(model) == found


def test_a_layer_that_runs_twice_is_refused():
    model, batch = Reused().eval(), torch.randn(1, 1, 4, 6, 6)
    with pytest.raises(ModelError, match="'layer' runs several times"):
        explain.attribute(model, batch, method=captum.attr.LayerConductance, layer="layer", n_steps=2)


def test_what_captum_raises_is_said_in_words():
    model, batch, _ = case("Saliency")
    with pytest.raises(ModelError, match=r"captum\.attr\.LRP .*Conv3d"):
        explain.attribute(model, batch, method=captum.attr.LRP)


def test_parameters_that_lrp_rules_change_are_given_back(nets):
    from captum.attr._utils.lrp_rules import GammaRule

    model, batch, _ = case("LRP")
    model.first.rule = GammaRule()
    before, found = model.first.weight.detach().clone(), nets.fingerprint(model)
    explain.attribute(model, batch, method=captum.attr.LRP)

    def failing(output):
        if not torch.equal(model.first.weight, before):
            raise KeyboardInterrupt
        return output["digit"][:, 1]

    with pytest.raises(KeyboardInterrupt):
        explain.attribute(model, batch, method=captum.attr.LRP, target=failing)
    assert torch.equal(model.first.weight, before)
    assert nets.fingerprint(model) == found


@pytest.mark.parametrize("name", ["LayerConductance", "IntegratedGradients", "GradientShap", "NoiseTunnel"])
def test_a_result_is_checked_saved_and_loaded_as_any_other(tmp_path, name):
    model, batch, given = case(name)
    result = explained(name, model, batch, given)
    json.dumps(dict(result.settings))
    result.save(tmp_path / "one.safetensors")
    loaded = explain.Attribution.load(tmp_path / "one.safetensors")
    assert loaded.method == result.method
    assert torch.equal(loaded.map, result.map)
    checked = explain.check_faithfulness(model, batch, loaded, steps=4, draws=2, depths=1)
    assert checked.sensitivity.isfinite().all()


def test_a_report_shows_it(tmp_path):
    out = tmp_path / "report"
    sections = ["prediction", "attributions"]
    methods = [captum.attr.Saliency, "captum.attr:LayerGradientXActivation"]
    explain.report("conv3d", "sample:blinking_mnist/3", out, methods=methods, sections=sections)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Captum" in page
    data = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert "captum_layer_gradient_x_activation" in json.dumps(data)

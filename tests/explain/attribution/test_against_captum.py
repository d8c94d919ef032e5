"""Why some methods are ours although Captum has them: the cases in which Captum's give something else, or cost more.

A test here that fails says that Captum has mended its case: see whether the table "Captum's or ours" of docs/methods.md
can name Captum's then, and ours go.
"""

import warnings

import captum.attr
import captum.metrics
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import explain


class Digit(nn.Module):
    """One number for each sample: the class 1 of a network."""

    def __init__(self, model, head=None):
        super().__init__()
        self.model, self.head = model.requires_grad_(requires_grad=False), head

    def forward(self, batch):
        output = self.model(batch)
        return (output if self.head is None else output[self.head])[:, 1]


class Functional(nn.Module):
    """Two convolutions with ReLU as a function."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 3, 3, padding=1)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x)))).mean(dim=(2, 3, 4))


@pytest.fixture
def video(families):
    return families.model_of("3D CNN").double(), families.batch_of("3D CNN").double()


@pytest.fixture
def frames(families):
    return families.model_of("2D CNN over frames").double(), families.batch_of("2D CNN over frames").double()


def seeded(call, seed=0):
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - Captum draws from it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call().detach()


def error(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(
    ("method", "theirs"),
    [("guided_backprop", captum.attr.GuidedBackprop), ("deconvolution", captum.attr.Deconvolution)],
)
def test_captums_guided_backprop_and_deconvolution_miss_relus_that_are_functions(method, theirs):
    model, batch = Functional().eval(), torch.randn(2, 1, 4, 6, 6)
    plain = explain.attribute(model, batch, method="saliency", target=1).raw
    found = seeded(lambda: theirs(Digit(model)).attribute(batch))
    assert torch.allclose(found, plain, rtol=1e-4, atol=1e-9)
    assert not torch.allclose(explain.attribute(model, batch, method=method, target=1).raw, plain, rtol=1e-2)


def test_captums_deep_lift_refuses_modules_that_run_twice(frames):
    model, batch = frames
    with pytest.raises(RuntimeError, match="ReLU"):
        seeded(lambda: captum.attr.DeepLift(Digit(model)).attribute(batch))
    assert explain.attribute(model, batch, method="deep_lift", target=1).delta.abs().max() < 1e-12


def test_captums_deep_lift_does_not_add_up_over_poolings_that_overlap():
    model = nn.Sequential(nn.Conv3d(1, 3, 3), nn.MaxPool3d(3, 2), nn.Flatten(), nn.Linear(96, 2)).double()
    batch, baseline = 3 * torch.randn(2, 1, 8, 12, 12).double(), torch.randn(2, 1, 8, 12, 12).double()
    found = seeded(lambda: captum.attr.DeepLift(Digit(model)).attribute(batch, baselines=baseline))
    with torch.no_grad():
        difference = Digit(model)(batch) - Digit(model)(baseline)
    assert ((found.flatten(1).sum(dim=1) - difference) / difference).abs().max() > 0.05
    own = explain.attribute(model, batch, method="deep_lift", target=1, baseline=baseline)
    assert own.delta.abs().max() < 1e-12


def test_captums_lrp_has_no_rule_for_three_axes(video):
    model, batch = video
    with pytest.raises(TypeError, match="Conv3d"):
        seeded(lambda: captum.attr.LRP(Digit(model, "digit")).attribute(batch))
    assert explain.attribute(model, batch, method="lrp", target="digit:1").map.any()


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("grad_cam", captum.attr.LayerGradCam),
        ("layer_activation", captum.attr.LayerActivation),
        ("layer_gradient_x_activation", captum.attr.LayerGradientXActivation),
    ],
)
def test_captums_methods_of_layers_lose_frames_in_the_batch_and_layers_that_run_again(families, frames, method, theirs):
    model, batch = frames
    found = seeded(lambda: theirs(Digit(model), model.second).attribute(batch))
    assert len(found) == 8  # two samples of four frames
    assert explain.attribute(model, batch, method=method, layer="second").raw.shape[:3] == (2, 1, 4)
    model, batch = families.model_of("ConvLSTM"), families.batch_of("ConvLSTM")
    found = seeded(lambda: theirs(Digit(model), model.gates).attribute(batch))
    assert found.ndim == 4  # one of four runs
    assert explain.attribute(model, batch, method=method, layer="gates").raw.shape[:3] == (2, 1, 4)


def test_captums_guided_grad_cam_is_empty_where_frames_are_in_the_batch(frames):
    model, batch = frames
    found = seeded(lambda: captum.attr.GuidedGradCam(Digit(model), model.second).attribute(batch))
    assert not found.numel()
    assert explain.attribute(model, batch, method="guided_grad_cam", layer="second").map.any()


def test_captums_gradient_methods_take_a_pass_each(video):
    model, batch = video
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    seeded(lambda: captum.attr.Saliency(Digit(model, "digit")).attribute(batch[:1]))
    seeded(lambda: captum.attr.InputXGradient(Digit(model, "digit")).attribute(batch[:1]))
    assert len(passes) == 2
    passes.clear()
    explain.attribute(model, batch[:1], method=["saliency", "input_x_gradient", "grad_cam"], layer="block")
    assert len(passes) == 1


class Bent(nn.Module):
    """Sums of a power of the input, weighted by place."""

    def __init__(self, power):
        super().__init__()
        self.power = power

    def forward(self, x):
        sums = (x**self.power).flatten(1)
        return torch.stack([sums.sum(dim=1), (sums * torch.arange(1, sums.shape[1] + 1)).sum(dim=1)], dim=1)


def test_captums_gradient_shap_is_further_off_at_as_many_draws():
    model, batch = Bent(2), torch.rand(2, 1, 2, 4, 4).double()
    exact = batch**2 * torch.arange(1, 33).view(1, 1, 2, 4, 4)
    zeros, errors = torch.zeros_like(batch[:1]), []
    for seed in range(6):
        call = captum.attr.GradientShap(Digit(model))
        found = seeded(lambda call=call: call.attribute(batch, baselines=zeros, n_samples=48), seed)
        options = {"target": 1, "baseline": ["zero"], "n_samples": 48, "seed": seed}
        own = explain.attribute(model, batch, method="gradient_shap", **options)
        errors.append([error(found, exact), error(own.raw, exact)])
    theirs, ours = np.mean(errors, axis=0)
    assert theirs > 5 * ours


def test_captums_noise_depends_on_other_samples_and_the_order_of_axes():
    model, batch = Bent(3), torch.rand(2, 1, 2, 4, 4).double()

    def theirs(clips):
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(Digit(model)))
        return seeded(lambda: tunnel.attribute(clips, nt_samples=4, stdevs=0.1))

    assert not torch.allclose(theirs(batch)[1:], theirs(batch[1:]), rtol=1e-3)
    options = {"method": "smooth_grad", "target": 1, "layout": "NCTHW", "n_samples": 4}
    own = explain.attribute(model, batch, **options).raw
    assert torch.allclose(own[1:], explain.attribute(model, batch[1:], **options).raw)

    class Swapped(nn.Module):
        def forward(self, x):
            return model(x.transpose(1, 2))

    batch = torch.rand(1, 3, 2, 4, 4).double()
    swapped = captum.attr.NoiseTunnel(captum.attr.Saliency(Digit(Swapped())))
    other = seeded(lambda: swapped.attribute(batch.transpose(1, 2), nt_samples=4, stdevs=0.1))
    assert not torch.allclose(other.transpose(1, 2), theirs(batch), rtol=1e-3)
    own = explain.attribute(model, batch, **options).raw
    other = explain.attribute(Swapped(), batch.transpose(1, 2), **{**options, "layout": "NTCHW"}).raw
    assert torch.allclose(other.transpose(1, 2), own)


def test_captums_surrogates_are_further_off_and_depend_on_other_samples(video):
    pytest.importorskip("sklearn")
    model, batch = video
    parts = (torch.arange(12) // 2)[:, None].expand(4, 12, 12).contiguous()
    mask = parts[None, None]
    exact = seeded(lambda: captum.attr.ShapleyValues(Digit(model, "digit")).attribute(batch, feature_mask=mask))
    options = {"target": "digit:1", "feature_mask": parts, "n_samples": 62}
    assert error(explain.attribute(model, batch, method="kernel_shap", **options).raw, exact) < 1e-4
    for theirs in (captum.attr.KernelShap, captum.attr.Lime):

        def found(clips, theirs=theirs):
            call = theirs(Digit(model, "digit"))
            return seeded(lambda: call.attribute(clips, feature_mask=mask, n_samples=62))

        if theirs is captum.attr.KernelShap:
            assert error(found(batch), exact) > 0.01
            assert not torch.equal(found(batch)[1:], found(batch[1:]))
        else:  # its default surrogate, a lasso, finds nothing in outputs that change little
            assert not found(batch).any()


def test_captums_shapley_sampling_computes_in_32_bits():
    model, batch = Bent(2), torch.rand(1, 1, 2, 4, 4).double()
    mask = (torch.arange(4) // 2)[:, None].expand(2, 4, 4).contiguous()
    found = seeded(
        lambda: captum.attr.ShapleyValueSampling(Digit(model)).attribute(batch, feature_mask=mask[None, None])
    )
    assert found.dtype == torch.float32
    own = explain.attribute(model, batch, method="shapley_sampling", target=1, feature_mask=mask)
    assert own.raw.dtype == torch.float64


def test_captums_infidelity_runs_the_model_for_every_map(video):
    model, batch = video
    passes = []
    model.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    for _ in range(3):
        with torch.no_grad():
            captum.metrics.infidelity(
                Digit(model, "digit"), lambda inputs: (inputs, 0 * inputs), batch[:1], batch[:1], n_perturb_samples=8
            )
    assert sum(passes) >= 3 * 8

"""What cannot be explained is told in words: which batch, which layer, which parameter."""

from pathlib import Path

import pytest
import torch
from torch import nn

import explain
from explain.attribution.methods import BUILT_IN
from explain.attribution.options import accepted
from explain.model.diagnosis import diagnosed
from explain.model.preservation import prepared
from explain.model.targets import resolve
from zoo.errors import ModelError, UnknownNameError, UsageError

CALLS = {
    "attribute": lambda model, batch: explain.attribute(model, batch, method="saliency"),
    "rise": lambda model, batch: explain.attribute(model, batch, method="rise", n_samples=2),
    "applicability": explain.applicability,
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


@pytest.mark.parametrize(
    ("batch", "error", "said"),
    [
        (Path("clip.mp4"), UsageError, r"not PosixPath \(clip.mp4\); .*preprocess"),
        (None, UsageError, "not NoneType"),
        (torch.zeros(1, 1, 4, 6, 6).byte(), UsageError, "floating point.* not torch.uint8"),
        (
            torch.tensor([0.0, torch.nan]).view(2, 1, 1, 1, 1).expand(2, 1, 4, 6, 6),
            UsageError,
            "sample 1 of the batch is n",
        ),
        (torch.zeros(4, 6, 6), UsageError, "expected N x C x T x H x W"),
        (torch.zeros(1, 1, 1, 4, 6, 6), UsageError, "expected N x C x T x H x W"),
        (torch.zeros(0, 1, 4, 6, 6), UsageError, "N of at least 1"),
        (torch.zeros(1, 3, 4, 6, 6), ModelError, r"\(1, 3, 4, 6, 6\): test expects N x 1 x 4 x 6 x 6 \(NCTHW\)"),
        (torch.zeros(1, 1, 6, 6), ModelError, "expects N x 1 x 4 x 6 x 6"),
        (torch.zeros(1, 1, 4, 6, 6).half(), ModelError, "of torch.float16 and the model's parameters are of torch.f"),
        (torch.zeros(1, 1, 4, 6, 6, device="meta"), ModelError, "on meta and the model's parameters are on cpu; move"),
    ],
)
def test_a_batch_that_does_not_fit_is_told_as_such(nets, call, batch, error, said):
    model = nets.TwoHeads().float()
    model.zoo_entry = nets.entry(outputs=nets.DIGIT_AND_SPEED)
    found = nets.fingerprint(model)
    with pytest.raises(error, match=said):
        call(model, batch)
    assert nets.fingerprint(model) == found


def test_too_small_a_clip_is_told_as_such_without_an_entry():
    model = nn.Sequential(nn.Conv3d(1, 1, 3), nn.MaxPool3d(4), nn.Flatten())
    with pytest.raises(ModelError, match=r"\(1, 1, 4, 6, 6\): expected what its first layers take.* RuntimeError: "):
        explain.attribute(model, torch.zeros(1, 1, 4, 6, 6), method="saliency")


def test_errors_of_a_model_that_takes_the_batch_come_through(nets):
    class Later(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x):
            if torch.is_grad_enabled():
                raise LookupError("not today")
            return self.weight * x.flatten(1)[:, :2]

    with pytest.raises(LookupError, match="not today"):
        explain.attribute(Later(), torch.zeros(1, 1, 4, 6, 6), method="saliency")


def test_faithfulness_and_maximisation_tell_it_too(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method="saliency")
    with pytest.raises(UsageError, match="not str"):
        explain.check_faithfulness(model, "clip.mp4", attribution)
    with pytest.raises(ModelError, match=r"does not take a batch of shape \(1, 3, 4, 6, 6\)"):
        explain.check_faithfulness(model, torch.zeros(1, 3, 4, 6, 6, dtype=torch.float64), attribution)
    with pytest.raises(ModelError, match=r"does not take a batch of shape \(1, 3, 4, 6, 6\)"):
        explain.maximize(model, "stem.0", 0, shape=(3, 4, 6, 6), steps=1)


class Overflowing(nn.Module):
    """Gives what is not finite in the middle, where it is told to."""

    def __init__(self, where):
        super().__init__()
        self.first, self.inner, self.last = (
            nn.Conv3d(1, 2, 3),
            nn.Sequential(nn.Conv3d(2, 2, 1), nn.ReLU()),
            nn.Linear(2, 2),
        )
        self.where = where

    def forward(self, x):
        y = self.first(x)
        y = self.inner(y * (torch.inf if self.where == "between" else 1.0))
        y = self.last(y.mean(dim=(2, 3, 4)))
        return y / (0.0 if self.where == "behind" else 1.0)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("between", r"layer 'inner.0' \(Conv3d\) is the first to give it"),
        ("behind", "the model, behind its layers, is the first"),
        ("weight", "the model's parameter 'inner.0.weight' is not finite"),
        ("target", "the target does"),
    ],
)
@pytest.mark.parametrize("method", ["saliency", "occlusion"])
def test_the_first_that_is_not_finite_is_named(nets, where, said, method):
    model, batch = Overflowing(where), torch.randn(2, 1, 4, 6, 6)
    if where == "weight":
        model.inner[0].weight.data[1] = torch.inf
    target = (lambda output: output[:, 0] / 0.0) if where == "target" else 0
    found = nets.fingerprint(model)
    with pytest.raises(ModelError, match=said):
        explain.attribute(model, batch, method=method, target=target)
    assert nets.fingerprint(model) == found


def constant(output):
    return torch.ones(len(output["digit"]))


def detached(output):
    return output["digit"][:, 0].detach()


def winner(output):
    return output["digit"].argmax(dim=1)


@pytest.mark.parametrize("target", [constant, detached, winner])
def test_a_target_without_a_gradient_is_refused_by_methods_that_need_one_and_by_no_others(nets, target):
    pytest.importorskip("skimage")
    model, batch = nets.Rectified(), torch.randn(1, 1, 4, 6, 6)
    reasons = explain.applicability(model, batch, target)
    parts = (torch.arange(4) // 2)[:, None, None].expand(4, 6, 6)
    fast = {"n_steps": 2, "n_samples": 8, "window": (2, 3, 3), "feature_mask": parts}
    for method in BUILT_IN:
        name, options = method.name, accepted(method, fast)
        if "temporal" not in method.check and "removal" not in method.check and method.check:
            assert "does not depend on the input, or not differentiably" in reasons[name], name
            with pytest.raises(ModelError, match="does not depend on"):  # the input, or the layer
                explain.attribute(model, batch, method=name, target=target, **options)
        else:
            result = explain.attribute(model, batch, method=name, target=target, **options)
            if name == "layer_activation":  # whatever the output
                assert result.map.abs().sum() > 0
            elif target is constant:
                assert float(result.map.abs().max()) == 0
                assert "zero everywhere" in result.note
            elif target is detached:
                assert result.map.abs().sum() > 0
                assert result.note == ""


def test_layers_and_targets_that_do_not_exist_come_with_near_names(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    model.zoo_entry = nets.entry(outputs=nets.DIGIT_AND_SPEED)
    for options, near in (
        ({"layer": "blok.0"}, "block.0"),
        ({"target": "digt"}, "digit"),
        ({"target": "digit:twoo"}, "two"),
        ({"target": "stemm.0/1"}, "stem.0"),
        ({"target": "stem.0/9"}, "units are 0 to 3"),
        ({"method": "occlusion", "baseline": "bluur"}, "blur"),
    ):
        with pytest.raises(UnknownNameError, match=near):
            explain.attribute(model, batch, **{"method": "grad_cam", **options})


def test_a_function_that_calls_others_has_the_last_word(nets):
    model, wrong = nets.TwoHeads(), torch.randn(1, 2, 4, 6, 6)
    with diagnosed(model, torch.randn(1, 1, 4, 6, 6)):
        with pytest.raises(RuntimeError, match="channels") as failure, diagnosed(model, wrong):
            model(wrong)
        assert not isinstance(failure.value, ModelError)
    with pytest.raises(ModelError, match="does not take a batch"), diagnosed(model, wrong):
        model(wrong)


def test_resolving_a_target_alone_says_so_too(nets):
    model = Overflowing("between")
    with prepared(model), pytest.raises(ModelError, match=r"'inner\.0'"):
        resolve(model, torch.randn(1, 1, 4, 6, 6))


def test_what_is_no_module_map_method_or_number_is_told(nets):
    model, batch = nets.PooledLinear(), torch.randn(1, 1, 3, 4, 5)
    for call in (
        lambda: explain.attribute("conv3d", batch, method="saliency"),
        lambda: explain.maximize("conv3d", "body", 0),
        lambda: explain.temporal_parameters("conv3d"),
        lambda: explain.check_robustness("conv3d", batch),
        lambda: explain.effective_field("conv3d", batch, "body"),
    ):
        with pytest.raises(UsageError, match=r"torch.nn.Module, not str; zoo.load\('conv3d'\)"):
            call()
    with pytest.raises(UsageError, match=r"maps are checked as `explain.attribute` gives them, not 'saliency'"):
        explain.check_faithfulness(model, batch, "saliency")
    with pytest.raises(UsageError, match="a method is a name, or several in a list, not NoneType"):
        explain.attribute(model, batch, method=None)
    with pytest.raises(UsageError, match="a layer is given by its name, not Tensor"):
        explain.effective_field(model, batch, "conv")
    with pytest.raises(UsageError, match=r"n_steps of integrated_gradients .* not '4'"):
        explain.attribute(model, batch, method="integrated_gradients", n_steps="4")

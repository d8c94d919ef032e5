import captum.attr
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import explain
from explain.model.preservation import prepared
from explain.model.targets import Target, resolve
from zoo.errors import ModelError, UnknownNameError, UsageError

EVERY = [
    "saliency",
    "input_x_gradient",
    "grad_cam",
    "grad_cam_per_frame",
    "layer_gradient_x_activation",
    "layer_activation",
    "grad_cam@stem.1",
    "layer_activation@stem.2",
    "layer_activation@lstm",
    "grad_cam@relu",
]


class Counted(nn.Module):
    """Counts the samples of each forward pass, and whether gradients were recorded."""

    def __init__(self, model):
        super().__init__()
        self.model, self.passes = model, []

    def forward(self, x):
        output = self.model(x)
        first = next(iter(output.values())) if isinstance(output, dict) else output
        self.passes.append((len(x), first.requires_grad))
        return output


def flops(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_several_methods_in_one_call_equal_captums(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    results = explain.attribute(model, batch, method=EVERY, layer="block", target="digit:1")

    def digit(x):
        return model(x)["digit"]

    inputs = batch.clone().requires_grad_()
    expected = [
        captum.attr.Saliency(digit).attribute(inputs, 1, abs=False),
        captum.attr.InputXGradient(digit).attribute(inputs, 1),
        captum.attr.LayerGradCam(digit, model.block).attribute(batch, 1),
        None,
        captum.attr.LayerGradientXActivation(digit, model.block).attribute(batch, 1).sum(dim=1, keepdim=True),
        captum.attr.LayerActivation(digit, model.block).attribute(batch).abs().mean(dim=1, keepdim=True),
        captum.attr.LayerGradCam(digit, model.stem[1]).attribute(batch, 1),
        captum.attr.LayerActivation(digit, model.stem[2]).attribute(batch).abs().mean(dim=1, keepdim=True),
    ]
    for result, theirs in zip(results, expected, strict=False):
        if theirs is not None:
            assert torch.allclose(result.raw, theirs.detach(), atol=1e-12), (result.method, result.layer)
            assert result.raw.abs().max() > 1e-6
    assert [(result.method, result.layer) for result in results[4:7]] == [
        ("layer_gradient_x_activation", "block"),
        ("layer_activation", "block"),
        ("grad_cam", "stem.1"),
    ]


@pytest.mark.parametrize("target", [None, "digit", "speed", "block/1", "block/1:max", "block.0/2"])
def test_several_methods_in_one_call_equal_the_single_ones(nets, target):
    model, batch = nets.TwoHeads(), torch.randn(3, 1, 4, 6, 6)
    names = [*EVERY[:2], "grad_cam@stem", "layer_activation@stem.0", "occlusion"]
    together = explain.attribute(model, batch, method=names, target=target)
    for name, result in zip(names, together, strict=True):
        alone = explain.attribute(model, batch, method=name, target=target)
        assert torch.allclose(alone.raw, result.raw, atol=1e-12)
        assert alone.target.descriptions == result.target.descriptions
        assert torch.equal(alone.target.value, result.target.value)
        assert (alone.frame is None) == (result.frame is None) == (target != "block/1:max")
        if target == "block/1:max":
            assert torch.equal(alone.frame, result.frame)


def test_they_take_one_forward_and_one_backward_pass_that_fixes_the_target_too(nets):
    counted, batch = Counted(nets.TwoHeads().eval()), torch.randn(1, 1, 4, 6, 6)
    names = [name.replace("@", "@model.") for name in EVERY]
    explain.attribute(counted, batch, method=names, layer="model.block")
    assert counted.passes == [(1, True)]
    explain.attribute(counted, batch.expand(5, -1, -1, -1, -1), method=names, layer="model.block")
    assert counted.passes[1:] == [(1, True), (4, True)]  # the first tells how much memory a sample takes


def test_their_cost_is_that_of_the_gradients_asked_for():
    torch.manual_seed(0)
    layers = [nn.Conv3d(1 if k == 0 else 8, 8, 3, padding=1) for k in range(4)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3))
    batch = torch.randn(1, 1, 4, 8, 8)
    forward = flops(lambda: model(batch))
    own = flops(lambda: layers[3](torch.randn(1, 8, 4, 8, 8)))

    def cost(method):
        return flops(lambda: explain.attribute(model, batch, method=method))

    assert cost("layer_activation@3") == forward
    assert forward <= cost("grad_cam@3") < 1.01 * forward
    assert forward + own <= cost("grad_cam@2") < 1.01 * (forward + own)
    assert cost(["saliency", "grad_cam@2", "layer_activation@0", "input_x_gradient"]) == cost("saliency")
    assert cost("saliency") == 2 * forward


def test_a_target_that_is_known_needs_no_pass_of_its_own(nets, having):
    counted, batch = Counted(nets.TwoHeads()), torch.randn(1, 1, 4, 6, 6)
    target = explain.attribute(counted, batch, method="occlusion", window=(4, 6, 6)).target
    assert counted.passes == [(1, False)] * 2
    for method, passes in (("occlusion", 1), ("saliency", 1), ("integrated_gradients", 3)):
        counted.passes.clear()
        options = having(method, {"window": (4, 6, 6), "n_steps": 2})
        explain.attribute(counted, batch, method=method, target=target, batch_size=1, **options)
        assert len(counted.passes) == passes


def test_a_callable_sees_as_many_samples_as_fit_not_one_by_one(nets):
    counted, batch, sizes = Counted(nets.TwoHeads()), torch.randn(4, 1, 4, 6, 6), []

    def digit(output):
        sizes.append(len(output["digit"]))
        return output["digit"][:, 1]

    explain.attribute(counted, batch, method="saliency", target=digit)
    assert sizes == [4]
    assert counted.passes == [(1, False), (4, True)]


def test_a_target_that_nobody_measured_is_measured_once(nets):
    counted, batch = Counted(nets.TwoHeads()), torch.randn(1, 1, 4, 6, 6)
    known = explain.attribute(counted, batch, method="saliency").target
    bare = Target(descriptions=known.descriptions, value=known.value, head=known.head, classes=known.classes)
    counted.passes.clear()
    result = explain.attribute(counted, batch, method=["saliency", "occlusion"], target=bare, window=(4, 6, 6))[0]
    assert counted.passes == [(1, True), (1, False)]
    assert result.target.made == pytest.approx(known.made, rel=0.1)


def test_frames_folded_into_the_batch_share_a_pass_sample_by_sample(nets):
    batch = torch.randn(4, 5, 2, 6, 6)
    names = ["saliency", "grad_cam@conv", "grad_cam_per_frame@conv", "layer_activation@conv"]
    for network in (nets.FoldedFrames, nets.FoldedTimeFirst, nets.FrameByFrame):
        model = network()
        model.zoo_entry = nets.entry("NTCHW")
        together = explain.attribute(model, batch, method=names, target=1)
        for k in range(len(batch)):
            alone = explain.attribute(model, batch[k : k + 1], method=names, target=1)
            for one, whole in zip(alone, together, strict=True):
                assert torch.allclose(one.raw, whole.raw[k : k + 1], atol=1e-12)


class Skipping(nn.Module):
    """A layer that hands on what it is given, beside a path around it, and an in-place sum behind both."""

    def __init__(self, layer):
        super().__init__()
        self.conv, self.layer = nn.Conv3d(1, 3, 3, padding=1), layer
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        y = self.conv(x)
        z = 2 * self.layer(y).square()
        y += 1
        return self.head((z + y.exp()).mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("layer", [nn.Identity(), nn.Dropout()])
@pytest.mark.parametrize("others", [[], ["saliency"]])
def test_of_a_layer_that_hands_on_its_input_only_its_own_path_counts(nets, layer, others):
    model, batch = Skipping(layer).eval(), torch.randn(2, 1, 3, 4, 4)
    result = explain.attribute(model, batch, method=["layer_gradient_x_activation@layer", *others], target=2)[0]
    maps = model.conv(batch).detach()
    expected = 4 * maps.square() * model.head.weight[2].detach().view(1, 3, 1, 1, 1) / (3 * 4 * 4)
    assert torch.allclose(result.raw, expected.sum(dim=1, keepdim=True), atol=1e-12)


def test_a_module_that_runs_twice_counts_every_run():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv3d(1, 1, 3, padding=1), nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.conv(self.relu(self.conv(x)))).mean(dim=(2, 3, 4)).repeat(1, 2)

    torch.manual_seed(0)
    model, batch = Twice().double(), torch.rand(2, 1, 3, 4, 4, dtype=torch.float64)
    inputs = batch.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(inputs)[:, 0].sum(), inputs)
    result = explain.attribute(model, batch, method=["saliency", "input_x_gradient"], target=0)[0]
    assert torch.allclose(result.raw, expected)
    with pytest.raises(ModelError, match="which of them is meant is not clear"):
        explain.attribute(model, batch, method=["saliency", "grad_cam@conv"], target=0)


def test_the_model_is_left_as_found_also_when_the_pass_fails(nets):
    model, batch = nets.TwoHeads().train(), torch.randn(2, 1, 4, 6, 6)
    model(batch)["digit"].sum().backward()
    found = nets.fingerprint(model)
    explain.attribute(model, batch, method=EVERY, layer="block")
    assert nets.fingerprint(model) == found

    def failing(output):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain.attribute(model, batch, method=EVERY, layer="block", target=failing)
    with pytest.raises(ModelError, match="does not depend on layer 'speed'"):
        explain.attribute(model, batch, method=["saliency", "grad_cam"], layer="speed", target="digit")
    assert nets.fingerprint(model) == found


def test_layers_behind_method_names_are_checked(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    with pytest.raises(UnknownNameError, match="block"):
        explain.attribute(model, batch, method=["saliency", "grad_cam@blok"])
    with pytest.raises(UsageError, match="saliency looks at no layer"):
        explain.attribute(model, batch, method="saliency@block")
    with pytest.raises(UnknownNameError, match="grad_cam"):
        explain.attribute(model, batch, method="gradcam@block")


def test_a_layers_activation_needs_no_output_that_depends_on_it(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    for names in (["layer_activation@speed"], ["saliency", "layer_activation@speed"]):
        result = explain.attribute(model, batch, method=names, target="digit")[-1]
        assert torch.allclose(result.raw.flatten(), model(batch)["speed"].detach().abs().flatten())


def test_a_target_and_its_score_come_from_the_same_pass(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    with prepared(model):
        target = resolve(model, batch, "digit")
    assert target.made > 0
    assert not target.value.requires_grad
    result = explain.attribute(model, batch, method="saliency", target="digit")
    assert torch.equal(result.target.value, target.value)
    assert torch.equal(result.target.classes, target.classes)
    assert not result.target.value.requires_grad


@pytest.mark.parametrize("method", ["saliency", "grad_cam", "occlusion", "integrated_gradients"])
def test_results_keep_the_very_target_that_was_given(nets, method):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    target = explain.attribute(model, batch, method="saliency", target="digit").target
    assert explain.attribute(model, batch, method=method, target=target).target is target

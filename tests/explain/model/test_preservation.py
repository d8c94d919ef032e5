import random
import warnings

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from explain.model.preservation import prepared, preserved


@pytest.mark.parametrize("fails", [False, True])
def test_all_that_was_changed_within_is_undone(nets, fails):
    model = nets.TwoHeads()
    model.block.eval()
    model.digit.weight.grad = torch.ones_like(model.digit.weight)
    model.stem[0].bias.requires_grad_(False)
    model.relu.register_forward_hook(lambda *_: None)
    found = nets.fingerprint(model)
    try:
        with preserved(model):
            model.train()
            model.block.train()
            model.relu.inplace = False
            model.digit.weight.grad += 0
            model.digit.weight.grad = None
            model.speed.bias.grad = torch.zeros_like(model.speed.bias)
            model.stem[0].bias.requires_grad_(True)
            model.stem[1].running_mean.add_(1.0)
            model.block[1].running_var = torch.zeros(4)
            model.lstm.forward = lambda *_: None
            model.extra = nn.Linear(1, 1)
            model.kept = torch.zeros(3)
            model.relu.register_forward_pre_hook(lambda *_: None)
            model.digit.register_full_backward_hook(lambda *_: None)
            model.relu._forward_hooks.popitem()
            torch.backends.cudnn.enabled = False
            torch.backends.cudnn.deterministic = not torch.backends.cudnn.deterministic
            torch.rand(3)
            np.random.rand(3)  # noqa: NPY002
            random.random()
            if fails:
                raise ValueError("on the way")
    except ValueError:
        assert fails
    assert nets.fingerprint(model) == found


def test_handles_of_hooks_still_work_afterwards(nets):
    model, calls = nets.TwoHeads(), []
    handle = model.relu.register_forward_hook(lambda *_: calls.append(1))
    with prepared(model):
        model.relu.register_forward_hook(lambda *_: calls.append(2))
    model(torch.randn(1, 1, 4, 6, 6))
    handle.remove()
    model(torch.randn(1, 1, 4, 6, 6))
    assert calls == [1]


def test_a_prepared_model_is_frozen_in_evaluation_mode_and_out_of_place(nets):
    model = nets.TwoHeads()
    with torch.no_grad(), prepared(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not model.relu.inplace
        assert torch.is_grad_enabled()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.allow_tf32
        x = torch.randn(1, 1, 4, 6, 6, requires_grad=True)
        model(x)["digit"].sum().backward()
        assert x.grad.abs().sum() > 0
    assert all(module.training for module in model.modules())


def test_methods_that_hook_modules_are_right_on_in_place_activations(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6, requires_grad=True)

    class Digit(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x)["digit"]

    def guided(wrapped):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Captum tells that it sets hooks
            return captum.attr.GuidedBackprop(wrapped).attribute(batch, target=0)

    with prepared(model):
        within = guided(Digit())
    model.eval()
    model.relu.inplace = model.stem[2].inplace = False
    assert torch.allclose(within, guided(Digit()))


def test_gradients_work_where_the_caller_is_in_inference_mode(nets):
    model = nets.TwoHeads()
    with torch.inference_mode(), prepared(model):
        x = torch.randn(1, 1, 4, 6, 6, requires_grad=True)
        assert torch.autograd.grad(model(x)["digit"].sum(), x)[0].abs().sum() > 0


def test_the_seed_decides_what_is_drawn_within_and_nothing_outside(nets):
    model = nets.TwoHeads()
    drawn = []
    for _ in range(2):
        with prepared(model, seed=5):
            drawn.append((torch.rand(1).item(), np.random.rand(), random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    outside = torch.rand(1)
    with prepared(model, seed=5):
        pass
    assert not torch.equal(torch.rand(1), outside)

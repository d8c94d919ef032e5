"""How strongly units fire: behind the activation function, however it is called."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explain.maximization.firing import firing


class Called(nn.Module):
    """A convolution whose output goes through `after`."""

    def __init__(self, after):
        super().__init__()
        self.conv, self.norm, self.after = nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), after
        with torch.no_grad():
            self.conv.bias.copy_(torch.tensor([-50.0, 0.0, 1.0]))
        self.norm.running_mean.fill_(0.2)
        self.norm.running_var.fill_(4.0)

    def forward(self, x):
        return self.after(self, self.conv(x)).mean(dim=(2, 3, 4))


MODULE = nn.Sequential(nn.BatchNorm3d(3), nn.Dropout(), nn.ReLU(inplace=True)).eval()
WAYS = {
    "function": (lambda net, x: F.relu(x), F.relu, "relu"),
    "method": (lambda net, x: x.relu(), F.relu, "relu"),
    "in place": (lambda net, x: torch.relu_(x), F.relu, "relu"),
    "modules": (lambda net, x: MODULE(x), MODULE, "relu"),
    "gelu behind a norm": (lambda net, x: F.gelu(net.norm(x)), None, "gelu"),
    "pooled first": (lambda net, x: F.max_pool3d(x, 2).relu(), lambda x: F.max_pool3d(x, 2).relu(), "relu"),
    "in a sum": (lambda net, x: (net.norm(x) + x.new_ones(1)).relu(), None, None),
    "none": (lambda net, x: 2 * x, F.relu, None),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_what_counts_is_what_is_left_behind_the_activation_function(way):
    torch.manual_seed(0)
    after, expected, function = WAYS[way]
    net, batch = Called(after).eval(), torch.randn(2, 1, 4, 8, 8)
    with torch.no_grad():
        maps = net.conv(batch)
        expected = expected or {"gelu": lambda x: F.gelu(net.norm(x)), None: lambda x: net.norm(x).relu()}[function]
        wanted = expected(maps.clone()).mean(dim=(2, 3, 4))
    found = firing(net, "conv", batch)
    assert found.function == function
    assert torch.allclose(found.before, maps.mean(dim=(2, 3, 4)), atol=1e-6)
    assert torch.allclose(found.after, wanted, atol=1e-6)
    assert float(found.after[0, 0]) == 0  # far below zero, the unit is silent
    assert not net.conv._forward_hooks


def test_frames_one_by_one_count_together():
    class ByFrame(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return torch.stack([self.conv(frame).relu() for frame in x.unbind(2)], dim=2).mean(dim=(2, 3, 4))

    net, batch = ByFrame().eval(), torch.randn(1, 1, 5, 6, 6)
    found = firing(net, "conv", batch)
    assert torch.allclose(found.after, net(batch), atol=1e-6)

import importlib.util
import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from zoo_stft import execution, networks
from zoo_stft.blocks import Unit
from zoo_stft.fusion import fuse
from zoo_stft.layer import ShortTimeFourier3d

WINDOWS = [(1, 3, 3), (3, 1, 1), (3, 3, 3), (5, 1, 1), (1, 5, 5)]
STRIDES = [(1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 1)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(("channels", "several"), [(1, 1), (1, 2), (3, 1), (3, 2), (8, 8)])
@pytest.mark.parametrize("way", ["grouped", "apart", "frames", "columns"])
def test_every_way_gives_the_values_and_gradients_of_conv3d(way, channels, several, layout):
    torch.manual_seed(0)
    ways = [window for window in WINDOWS if {"frames": window[0] == 1, "columns": window[1] == 1}.get(way, True)]
    for window, stride in itertools.product(ways, STRIDES):
        weight = torch.randn(several * channels, 1, *window, dtype=torch.float64, requires_grad=True)
        x = torch.randn(2, channels, 5, 6, 7, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
        padding = tuple(extent // 2 for extent in window)
        bias = torch.randn(len(weight), dtype=torch.float64)
        expected = F.conv3d(x, weight, bias, stride=stride, padding=padding, groups=channels)
        upstream = torch.randn_like(expected)
        found = execution.WAYS[way](x, weight, bias, stride, padding)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(
            torch.autograd.grad(found, (x, weight), upstream),
            torch.autograd.grad(expected, (x, weight), upstream),
            rtol=0,
            atol=1e-10,
        )


def test_the_way_depends_on_the_window_and_on_gradients():
    x, fixed = torch.randn(1, 2, 4, 4, 4, requires_grad=True), torch.randn(4, 1, 3, 3, 3)
    plane, column = torch.randn(2, 1, 1, 3, 3), torch.randn(4, 1, 3, 1, 1)
    assert execution.choose(x, plane, (0, 1, 1)) == "frames"
    assert execution.choose(x, column, (1, 0, 0)) == "columns"
    assert execution.choose(x, fixed, (1, 1, 1)) == "apart"
    assert execution.choose(x.detach(), fixed, (1, 1, 1)) == "grouped"
    assert execution.choose(x.to("meta"), plane, (0, 1, 1)) == "grouped"


@pytest.mark.parametrize("window", [(1, 3, 3), (3, 1, 1)])
def test_padding_beyond_the_window_is_kept(window):
    layer = execution.DepthwiseConv3d(2, 4, window, padding=1, groups=2, dtype=torch.float64)
    x = torch.randn(1, 2, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv3d(x, layer.weight, layer.bias, padding=1, groups=2))


@pytest.mark.parametrize("axes", ["t", "hw", "thw"])
def test_who_watches_operations_sees_a_convolution(axes):
    from torch.utils.flop_counter import FlopCounterMode

    layer, x = ShortTimeFourier3d(2, axes), torch.randn(1, 2, 4, 6, 6)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * layer.weight.numel() * x[0, 0].numel()
    program = torch.export.export(layer, (x,))
    convolutions = [node for node in program.graph.nodes if "conv3d" in str(node.target)]
    assert len(convolutions) == 1
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.parametrize("kind", networks.KINDS)
def test_networks_give_the_same_whichever_way(kind, monkeypatch):
    torch.manual_seed(0)
    network = networks.build(kind=kind, classes=3, narrowed=16, in_channels=1).double()
    clip = torch.randn(2, 1, 6, 17, 18, dtype=torch.float64)
    parameters = list(network.parameters())

    def run():
        outputs = network(clip)
        return outputs, *torch.autograd.grad(outputs.square().sum(), parameters)

    found = run()
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    monkeypatch.setattr(execution, "_free", lambda _: False)  # the definition, in the layout given
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.reset_running_stats()
    for one, other in zip(found, run(), strict=True):  # two clips' statistics amplify rounding from layer to layer
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)
    for name, value in network.named_buffers():  # the statistics of BatchNorm
        torch.testing.assert_close(buffers[name], value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", networks.KINDS)
def test_a_fused_network_gives_what_the_network_gives_in_eval_mode(kind):
    torch.manual_seed(0)
    network = networks.build(kind=kind, classes=3, narrowed=16, in_channels=1).double()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            for value in (module.weight.data, module.running_var):
                value.uniform_(0.5, 2)
            for value in (module.bias.data, module.running_mean):
                value.normal_()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clip = torch.randn(2, 1, 6, 17, 18, dtype=torch.float64, requires_grad=True)
    fused = fuse(network)
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in fused.modules())
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    expected, found = network.eval()(clip), fused(clip)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    gradients = (torch.autograd.grad(outputs.square().sum(), clip)[0] for outputs in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


def test_one_unit_can_be_fused_too():
    unit = Unit(ShortTimeFourier3d(2, "t"), 4, "relu").double().eval()
    unit.bn.running_mean.normal_()
    clip = torch.randn(1, 2, 4, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(fuse(unit)(clip), unit(clip), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("axes", ["t", "hw", "thw"])
def test_passes_along_one_axis_after_the_other_give_the_same(axes, size, monkeypatch):
    place = Path(__file__).parents[3] / "benchmarks"  # where they are measured; they were never the fastest
    monkeypatch.syspath_prepend(place)
    spec = importlib.util.spec_from_file_location("stft_benchmark", place / "stft.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    torch.manual_seed(0)
    layer = ShortTimeFourier3d(2, axes, size).double()
    x = torch.randn(2, 2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    found, expected = benchmark.separable(x, axes, size), layer(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    upstream = torch.randn_like(expected)
    gradients = (torch.autograd.grad(outputs, x, upstream)[0] for outputs in (found, expected))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)

import captum.attr
import torch

import explain


def test_layer_activation_is_the_mean_size_of_its_units(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    result = explain.attribute(model, batch, method="layer_activation", layer="block")
    expected = captum.attr.LayerActivation(lambda x: model(x)["digit"], model.block).attribute(batch)
    assert torch.allclose(result.raw, expected.detach().abs().mean(dim=1, keepdim=True))
    assert result.map.shape == (2, 4, 6, 6)


def test_layer_gradient_x_activation_is_captums_summed_over_units(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    result = explain.attribute(model, batch, method="layer_gradient_x_activation", layer="block.1", target="digit:1")
    theirs = captum.attr.LayerGradientXActivation(lambda x: model(x)["digit"], model.block[1])
    expected = theirs.attribute(batch, target=1).detach().sum(dim=1, keepdim=True)
    assert torch.allclose(result.raw, expected, atol=1e-12)
    assert expected.min() < 0 < expected.max()


def test_of_a_pooled_linear_head_it_sums_to_the_output_without_its_bias(nets):
    model, batch = nets.PooledLinear(), torch.randn(2, 1, 3, 4, 5)
    result = explain.attribute(model, batch, method="layer_gradient_x_activation", layer="conv", target=2)
    expected = model(batch)[:, 2] - model.head.bias[2]
    assert torch.allclose(result.raw.sum(dim=(1, 2, 3, 4)), expected.detach())


def test_a_layer_that_runs_once_a_frame_keeps_its_time(nets):
    model, batch = nets.FrameByFrame(), torch.randn(2, 5, 2, 6, 6)
    model.zoo_entry = nets.entry("NTCHW")
    outputs = model.conv(batch.flatten(0, 1)).detach().unflatten(0, (2, 5))
    result = explain.attribute(model, batch, method="layer_activation", layer="conv", target=1)
    assert torch.allclose(result.raw[:, 0], outputs.abs().mean(dim=2))

import captum.attr
import torch

import explain


def test_saliency_of_a_linear_model_is_its_weight(nets):
    model = nets.LinearClips()
    result = explain.attribute(model, torch.randn(3, 2, 4, 6, 5), method="saliency", target=1)
    assert torch.equal(result.raw, model.weight[1].detach().expand(3, -1, -1, -1, -1))
    assert torch.allclose(result.map, model.weight[1].detach().abs().sum(0).expand(3, -1, -1, -1))


def test_input_times_gradient_of_a_linear_model_sums_to_its_output(nets):
    model, batch = nets.LinearClips(), torch.randn(3, 2, 4, 6, 5)
    result = explain.attribute(model, batch, method="input_x_gradient", target=0)
    assert torch.allclose(result.map.sum(dim=(1, 2, 3)), model(batch)[:, 0].detach())


def test_time_is_each_frames_share_of_the_absolute_map(nets):
    result = explain.attribute(nets.LinearClips(), torch.randn(2, 2, 4, 6, 5), method="input_x_gradient")
    assert (result.map < 0).any()
    sizes = result.map.abs().sum(dim=(2, 3))
    assert torch.allclose(result.time, sizes / sizes.sum(dim=1, keepdim=True))


def test_both_equal_captum_on_a_network_with_heads_in_place_relu_and_lstm(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    for name, method in (("saliency", captum.attr.Saliency), ("input_x_gradient", captum.attr.InputXGradient)):
        theirs = method(lambda x: model(x)["digit"])
        inputs = batch.clone().requires_grad_()
        expected = theirs.attribute(inputs, target=2, **({"abs": False} if name == "saliency" else {}))
        result = explain.attribute(model, batch, method=name, target="digit:2")
        assert torch.allclose(result.raw, expected, rtol=1e-9, atol=1e-12)
        assert expected.abs().sum() > 0


def test_time_before_channels_gives_the_same_map_as_channels_before_time(nets):
    folded, batch = nets.FoldedFrames(), torch.randn(2, 5, 2, 6, 6)
    folded.zoo_entry = nets.entry("NTCHW")
    plain = torch.nn.Module()
    plain.forward = lambda x: folded(x.transpose(1, 2))
    ours = explain.attribute(folded, batch, method="input_x_gradient", target=1)
    expected = explain.attribute(plain, batch.transpose(1, 2), method="input_x_gradient", target=1)
    assert ours.map.shape == (2, 5, 6, 6)
    assert torch.allclose(ours.map, expected.map)


def test_images_are_clips_of_one_frame(nets):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    result = explain.attribute(model, torch.randn(2, 3, 7, 8), method="saliency")
    assert result.raw.shape == (2, 3, 7, 8)
    assert result.map.shape == (2, 1, 7, 8)
    assert result.time.shape == (2, 1)

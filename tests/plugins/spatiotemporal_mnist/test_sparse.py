"""Networks computed where clips are not empty are the same networks."""

import copy

import pytest
import torch

from zoo_spatiotemporal_mnist import blinking, evaluation, networks, sparse

#: The designs that stride in time, that do not, and that look at single frames.
DESIGNS = ("ts_conv3d_xl", "conv3d", "conv2d")


def clips_of(count, frames, **choices):
    parameters = blinking.draw(
        count, torch.arange(10), generator=torch.Generator().manual_seed(5), frames=frames, **choices
    )
    images = torch.zeros(10, 28, 28, dtype=torch.uint8)
    images[:, 4:24, 6:22] = torch.randint(256, (10, 20, 16), generator=torch.Generator().manual_seed(6)).byte()
    return blinking.render(images, parameters)


@pytest.fixture(params=DESIGNS)
def network(request):
    torch.manual_seed(0)
    return networks.build(design=request.param).double()


@pytest.mark.parametrize(("frames", "count"), [(1, 3), (6, 3), (4, 8), (9, 5)])
def test_outputs_gradients_and_statistics_are_those_of_whole_clips(network, frames, count):
    clips = clips_of(2, frames)
    whole, part = network.body, copy.deepcopy(network.body)
    expected, found = whole(clips.double() / 255), sparse.body(part, clips, count)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (expected * upstream).sum().backward()
    (found * upstream).sum().backward()
    for (name, one), other in zip(whole.named_parameters(), part.parameters(), strict=True):
        if name.endswith("main.conv.bias") or "reduce.bias" in name or "expand.bias" in name:
            continue  # BatchNorm takes them out again: their gradients are rounding
        assert (one.grad - other.grad).norm() <= 1e-6 * one.grad.norm(), name
    for (name, one), other in zip(whole.named_buffers(), part.buffers(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9, msg=name)


def test_statistics_may_be_plain_means_over_batches(network):
    whole, part = network.body, copy.deepcopy(network.body)
    for body in (whole, part):
        for layer in body.modules():
            if isinstance(layer, torch.nn.BatchNorm3d):
                layer.reset_running_stats()
                layer.momentum = None
    for frames in (4, 6):
        clips = clips_of(2, frames)
        whole(clips.double() / 255)
        sparse.body(part, clips)
    for one, other in zip(whole.buffers(), part.buffers(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("brightness", [0, 1])
def test_a_network_in_eval_mode_uses_and_keeps_its_running_statistics(network, brightness):
    network.body(clips_of(3, 6).double() / 255)
    network.eval()
    before = copy.deepcopy(network.state_dict())
    clips = brightness * clips_of(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            sparse.body(network.body, clips), network.body(clips.double() / 255), rtol=1e-7, atol=1e-9
        )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_digits_at_the_border_meet_the_padding(network):
    clips = torch.zeros(1, 1, 5, 64, 64, dtype=torch.uint8)
    clips[:, :, [0, 4], :3, -3:] = 200
    clips[:, :, 2, -2:, :2] = 100
    torch.testing.assert_close(
        sparse.body(network.body, clips), network.body(clips.double() / 255), rtol=1e-7, atol=1e-9
    )


def test_networks_are_measured_as_they_answer(network):
    network.float().eval()
    images = torch.randint(256, (10, 28, 28), generator=torch.Generator().manual_seed(6)).byte()
    parameters = blinking.draw(6, torch.arange(10), generator=torch.Generator().manual_seed(7), frames=12)
    found = evaluation.score(network, images, parameters, 2)
    with torch.no_grad():
        speed = network(blinking.render(images, parameters) / 255.0)["speed"][:, 0]
    torch.testing.assert_close(found[:, 2], (speed - parameters.speed).abs().double(), rtol=1e-4, atol=1e-5)

import pytest
import torch

from zoo_spatiotemporal_mnist import growth, networks


@pytest.mark.parametrize("design", ["conv2d", "conv3d", "convlstm"])
def test_a_grown_network_says_what_the_small_one_said(design):
    torch.manual_seed(0)
    small, wide = networks.build(design=design), networks.build(design=f"{design}_xl")
    clips = torch.rand(2, 1, 5, 64, 64)
    small.train()(clips)  # running statistics that are not the first ones
    growth.grow(wide, small)
    with torch.no_grad():
        for head, value in small.eval()(clips).items():
            torch.testing.assert_close(wide.eval()(clips)[head], value, rtol=1e-4, atol=1e-5)


def test_new_channels_read_and_learn():
    torch.manual_seed(0)
    small, wide = networks.build(design="convlstm"), networks.build(design="convlstm_xl")
    growth.grow(wide, small)
    sum(value.sum() for value in wide.train()(torch.rand(2, 1, 4, 64, 64)).values()).backward()
    of_new = wide.body.res2_1.main.expand.weight[64:]
    assert of_new.abs().min(dim=0).values.sum() > 0
    unused = wide.body.res2_1.main.expand.weight.grad[:64, 16:]
    assert unused.abs().sum() > 0


def test_the_same_size_is_a_copy():
    small, same = networks.build(design="conv3d_xl"), networks.build(design="ts_conv3d_xl")
    growth.grow(same, small)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in small.state_dict().items())

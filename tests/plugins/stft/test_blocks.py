import pytest
import torch
from torch import nn

from zoo.errors import UsageError
from zoo_stft.blocks import ACTIVATIONS, FactorisedBlock, SBlock, STBlock, TBlock
from zoo_stft.layer import ShortTimeFourier3d

#: Section 3.3: weights of a block of c -> b -> f channels with windows of n; of Fact.+DW two filters over time a map.
FORMULAS = {
    STBlock: lambda c, b, f, n: (c + 26 * f) * b,
    SBlock: lambda c, b, f, n: (c + 8 * n + 8 * f) * b,
    TBlock: lambda c, b, f, n: (c + n**2 + 2 * f) * b,
    FactorisedBlock: lambda c, b, f, n: (c + n**2 + 2 * n + 2 * f) * b,
}
#: Maps between the 1x1x1 convolutions, of one channel: after each step.
MAPS = {STBlock: [26], SBlock: [8, 8], TBlock: [1, 2], FactorisedBlock: [1, 2]}


@pytest.mark.parametrize("block", FORMULAS)
@pytest.mark.parametrize(("c", "b", "f", "n"), [(3, 3, 64, 3), (192, 8, 128, 3), (10, 1, 7, 5)])
def test_weights_are_those_of_section_3_3(block, c, b, f, n):
    found = block(c, b, f, n)
    norms = [part for part in found.modules() if isinstance(part, nn.BatchNorm3d)]
    assert [norm.num_features for norm in norms] == [b, *(b * maps for maps in MAPS[block]), f]
    weights = sum(parameter.numel() for parameter in found.parameters()) - sum(2 * norm.num_features for norm in norms)
    assert weights == FORMULAS[block](c, b, f, n)


@pytest.mark.parametrize("block", FORMULAS)
@pytest.mark.parametrize("n", [3, 5])
def test_a_stride_leaves_positions_out_of_all_axes(block, n):
    torch.manual_seed(0)
    strided, dense = block(2, 3, 4, n, 2).eval(), block(2, 3, 4, n).eval()
    dense.load_state_dict(strided.state_dict())
    x = torch.randn(1, 2, 5, 8, 7)
    with torch.no_grad():
        found, expected = strided(x), dense(x)
    assert found.shape == (1, 4, 3, 4, 4)
    if block is STBlock:  # one step alone looks around itself: striding it leaves out positions and changes none
        torch.testing.assert_close(found, expected[:, :, ::2, ::2, ::2])
    assert found.flatten(2).std(2).min() > 0


def test_a_block_is_its_steps_each_with_norm_and_activation():
    torch.manual_seed(0)
    block = TBlock(2, 3, 4).double().eval()
    for part in block.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)

    def done(y, unit):
        shape = (1, -1, 1, 1, 1)
        y = (y - unit.bn.running_mean.view(shape)) / (unit.bn.running_var + unit.bn.eps).sqrt().view(shape)
        return torch.where(y > 0, y, 0.01 * y)

    y = done(torch.einsum("ncthw,bc->nbthw", x, block.reduce.conv.weight.flatten(1)), block.reduce)
    spatial, fourier = block.inner
    y = done(nn.functional.conv3d(y, spatial.conv.weight, padding=(0, 1, 1), groups=3), spatial)
    before, after = (torch.zeros_like(y), torch.zeros_like(y))
    before[:, :, 1:], after[:, :, :-1] = y[:, :, :-1], y[:, :, 1:]
    pair = torch.stack((y - (before + after) / 2, 0.75**0.5 * (after - before)), dim=2).flatten(1, 2)
    y = done(pair, fourier)
    y = done(torch.einsum("nbthw,fb->nfthw", y, block.expand.conv.weight.flatten(1)), block.expand)
    torch.testing.assert_close(block(x), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("block", "axes"), [(STBlock, ["thw"]), (SBlock, ["hw"]), (TBlock, ["t"]), (FactorisedBlock, [])]
)
def test_fixed_layers_look_along_the_axes_of_their_block(block, axes):
    layers = [part for part in block(2, 3, 4).modules() if isinstance(part, ShortTimeFourier3d)]
    assert [layer.axes for layer in layers] == axes


@pytest.mark.parametrize(
    ("name", "expected"),
    [("leaky_relu", [-0.01, 2]), ("relu", [0.0, 2]), ("selu", [-1.11133, 2.10140]), ("elu", [-0.63212, 2])],
)
def test_activations_are_those_of_table_4(name, expected):
    assert list(ACTIVATIONS) == ["leaky_relu", "relu", "selu", "elu"]
    block = STBlock(1, 1, 1, activation=name)
    assert len({type(part) for part in block.modules() if type(part).__name__.endswith("LU")}) == 1
    torch.testing.assert_close(block.reduce.act(torch.tensor([-1.0, 2])), torch.tensor(expected), rtol=0, atol=1e-5)


def test_nonsense_is_named():
    with pytest.raises(UsageError, match="3 -> 0 -> 4 channels: expected positive whole numbers"):
        TBlock(3, 0, 4)
    with pytest.raises(UsageError, match=r"32\.0 -> 4 -> 4 channels: expected positive whole numbers"):
        TBlock(64 * 0.5, 4, 4)
    for block in (STBlock, FactorisedBlock):
        with pytest.raises(UsageError, match="kernel_size 4: expected an odd whole number of at least 3"):
            block(3, 1, 4, 4)
    with pytest.raises(UsageError, match="'tanh': expected one of leaky_relu, relu, selu, elu"):
        STBlock(3, 1, 4, activation="tanh")

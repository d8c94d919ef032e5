import itertools
import re

import pytest
import torch
from torch import nn

from zoo.errors import ClipError, UsageError
from zoo_stdcf.layer import TRAFFIC, StdcfConv3d, StdcfConvTranspose3d, with_tempo

SIZES = {"spatial_atoms": 4, "temporal_atoms": 2}


def seeded(kind, *sizes, **more):
    torch.manual_seed(0)
    layer = kind(*sizes, **{**SIZES, **more}).double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def clip(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def term_by_term(layer):
    """Equation 1 with loops."""
    out, into, spatial, temporal = layer.alpha.shape
    kernel = torch.zeros(out, into, *layer.kernel_size, dtype=torch.float64)
    for o, c, i, j in itertools.product(*map(range, (out, into, spatial, temporal))):
        for t in range(layer.kernel_size[0]):
            kernel[o, c, t] += layer.alpha[o, c, i, j] * layer.phi[j, t] * layer.psi[i]
    return kernel


def slow_convolution(x, kernel, stride, padding, tempo):
    """The sum over taps, one shifted product each."""
    p = (tempo * padding[0], *padding[1:])
    x = nn.functional.pad(x, (p[2], p[2], p[1], p[1], p[0], p[0]))
    spans = [
        tempo * (kernel.shape[2] - 1) + 1,
        kernel.shape[3],
        kernel.shape[4],
    ]
    sizes = [(x.shape[axis + 2] - spans[axis]) // stride[axis] + 1 for axis in range(3)]
    y = torch.zeros(len(x), len(kernel), *sizes, dtype=torch.float64)
    for t, r, c in itertools.product(*map(range, kernel.shape[2:])):
        starts = (t * tempo, r, c)
        ends = [start + (size - 1) * step + 1 for start, size, step in zip(starts, sizes, stride, strict=True)]
        seen = x[
            :,
            :,
            starts[0] : ends[0] : stride[0],
            starts[1] : ends[1] : stride[1],
            starts[2] : ends[2] : stride[2],
        ]
        y += torch.einsum("oc,ncthw->nothw", kernel[:, :, t, r, c], seen)
    return y


STRIDES = [(1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 1)]


@pytest.mark.parametrize("way", ["dense", "atoms"])
@pytest.mark.parametrize("tempo", [1, 2])
@pytest.mark.parametrize("stride", STRIDES)
def test_both_ways_are_the_convolution_with_the_kernel_of_equation_1(stride, tempo, way):
    layer = seeded(StdcfConv3d, 2, 3, (5, 3, 3), stride=stride, padding=(2, 1, 1), tempo=tempo, bias=True, way=way)
    x = clip(2, 2, 8, 7, 6)
    expected = slow_convolution(x, term_by_term(layer), stride, layer.padding, tempo)
    expected = expected + layer.bias[:, None, None, None]
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [StdcfConv3d, StdcfConvTranspose3d])
@pytest.mark.parametrize("tempo", [1, 3])
@pytest.mark.parametrize("stride", STRIDES)
def test_both_ways_have_equal_gradients(kind, stride, tempo):
    layer = seeded(kind, 2, 3, (5, 3, 3), stride=stride, padding=(2, 1, 1), tempo=tempo, bias=True)
    x = clip(2, 2, 8, 7, 6).requires_grad_()
    found = {}
    for layer.way in ("dense", "atoms"):
        y = layer(x)
        found[layer.way] = [y, *torch.autograd.grad(y.pow(3).sum(), [x, *layer.parameters()])]
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * float(one.detach().abs().max()))


@pytest.mark.parametrize("way", ["dense", "atoms"])
@pytest.mark.parametrize("tempo", [1, 2])
@pytest.mark.parametrize(("stride", "more"), [(1, 0), (2, 1), ((1, 2, 2), (0, 1, 1)), ((2, 1, 1), (1, 0, 0))])
def test_the_transposed_form_is_the_transpose(stride, more, tempo, way):
    down = seeded(StdcfConv3d, 3, 2, (3, 3, 3), stride=stride, padding=1, tempo=tempo)
    up = seeded(StdcfConvTranspose3d, 2, 3, 3, stride=stride, padding=1, output_padding=more, tempo=tempo, way=way)
    with torch.no_grad():
        up.psi.copy_(down.psi)
        up.phi.copy_(down.phi)
        up.alpha.copy_(down.alpha.transpose(0, 1))
    x = clip(1, 3, 4, 6, 4)
    y = clip(*down(x).shape)
    assert up(y).shape == x.shape
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum(), rtol=1e-12, atol=1e-12)
    ordinary = nn.functional.conv_transpose3d(
        y, up.kernel().transpose(0, 1), None, up.stride, (tempo, 1, 1), up.output_padding, 1, (tempo, 1, 1)
    )
    torch.testing.assert_close(up(y), ordinary, rtol=1e-12, atol=1e-12)


def test_parameters_are_as_many_as_the_formula_says():
    layer = StdcfConv3d(3, 7, (5, 3, 3), spatial_atoms=5, temporal_atoms=2, bias=True)
    assert sum(value.numel() for value in layer.parameters()) == 7 * 3 * 5 * 2 + 5 * 9 + 2 * 5 + 7


@pytest.mark.parametrize("kind", [StdcfConv3d, StdcfConvTranspose3d])
def test_atoms_start_orthonormal_and_the_variance_is_kept(kind):
    torch.manual_seed(0)
    layer = kind(40, 40, 3, spatial_atoms=5, temporal_atoms=2, stride=2, padding=1)
    for atoms in (layer.psi, layer.phi):
        flat = atoms.detach().flatten(1)
        torch.testing.assert_close(flat @ flat.T, torch.eye(len(flat)), atol=1e-6, rtol=0)
    inside = layer(torch.randn(2, 40, 16, 16, 16))[:, :, 2:-2, 2:-2, 2:-2]
    assert inside.detach().var().item() == pytest.approx(1, abs=0.15)


def test_the_cheaper_way_is_taken():
    few = seeded(StdcfConv3d, 2, 3, 3, padding=1)
    assert few.cost((1, 2, 4, 5, 6))["dense"] < few.cost((1, 2, 4, 5, 6))["atoms"]
    many = StdcfConv3d(2, 300, 5, spatial_atoms=2, temporal_atoms=1, padding=2)
    assert many.cost((1, 2, 4, 5, 6))["atoms"] < many.cost((1, 2, 4, 5, 6))["dense"]
    ran = []
    for layer in (few, many):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            layer(torch.rand(1, 2, 4, 5, 6, dtype=layer.psi.dtype))
        ran.append(sum(event.count for event in seen.key_averages() if event.key == "aten::conv3d"))
    assert ran == [1, 3]


def test_costs_are_the_multiply_adds_that_a_loop_counts():
    layer = StdcfConv3d(2, 3, (5, 3, 3), stride=(2, 2, 1), padding=(2, 1, 1), **SIZES)
    between, out = 2 * 8 * 4 * 6, 2 * 4 * 4 * 6  # N x T x H' x W', N x T' x H' x W'
    after_psi, after_phi = 2 * 4 * between, 2 * 4 * 2 * out
    assert layer.cost((2, 2, 8, 7, 6)) == {
        "dense": 3 * 2 * 45 * out + 3 * 2 * 8 * 45,
        "atoms": 9 * after_psi + 5 * after_phi + 3 * after_phi + TRAFFIC * (after_psi + after_phi),
    }
    assert layer(torch.rand(2, 2, 8, 7, 6)).shape == (2, 3, 4, 4, 6)


def test_tempo_dilates_a_copy_in_time_alone():
    layer = seeded(StdcfConv3d, 2, 3, (5, 3, 3), padding=(2, 1, 1))
    slow = layer.with_tempo(2)
    assert (layer.tempo, slow.tempo, slow.with_tempo(1).tempo) == (1, 2, 1)
    x = clip(1, 2, 8, 6, 6)
    twice = x.repeat_interleave(2, dim=2)
    assert slow(x).shape == layer(x).shape
    # A clip that shows every frame twice, looked at every other frame, is the clip.
    torch.testing.assert_close(slow(twice)[:, :, ::2], layer(x), rtol=1e-12, atol=1e-12)
    assert slow.psi.data_ptr() != layer.psi.data_ptr()


def test_tempo_of_a_network_reaches_every_layer_and_leaves_the_network():
    network = nn.Sequential(seeded(StdcfConv3d, 1, 2, 3), nn.ReLU(), seeded(StdcfConvTranspose3d, 2, 1, 3))
    slow = with_tempo(network, 3)
    assert [part.tempo for part in (network[0], network[2], slow[0], slow[2])] == [1, 1, 3, 3]
    with pytest.raises(UsageError, match="Linear has no STDCF layer"):
        with_tempo(nn.Linear(1, 1), 2)
    for tempo in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="positive whole number"):
            with_tempo(network, tempo)


@pytest.mark.parametrize("kind", [StdcfConv3d, StdcfConvTranspose3d])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"spatial_atoms": 0}, "0 spatial atoms"),
        ({"temporal_atoms": 0}, "0 temporal atoms"),
        ({"spatial_atoms": 2.5}, "2.5 spatial atoms"),
        ({"kernel_size": 2}, "odd sizes"),
        ({"kernel_size": (4, 3, 3)}, "odd sizes"),
        ({"kernel_size": (3, 3, 5)}, "odd sizes"),
        ({"kernel_size": (3, 3)}, "one whole number, or three"),
        ({"stride": 0}, "positive whole numbers"),
        ({"padding": -1}, "not negative"),
        ({"tempo": 0}, "positive whole numbers"),
        ({"way": "fast"}, "dense"),
    ],
)
def test_sizes_that_cannot_be_are_named(kind, wrong, said):
    with pytest.raises(UsageError, match=said):
        kind(2, 3, **{"kernel_size": 3, **SIZES, **wrong})


def test_a_clip_shorter_than_the_stride_or_the_atoms_is_named():
    with pytest.raises(ClipError, match=r"1 frames is too short.*stride 2 in time.*expected 2 or more"):
        seeded(StdcfConv3d, 2, 3, 3, stride=2, padding=1)(clip(1, 2, 1, 6, 6))
    slow = seeded(StdcfConv3d, 2, 3, (5, 3, 3), padding=(1, 1, 1), tempo=2)
    with pytest.raises(ClipError, match="tempo 2; expected 5 or more"):
        slow(clip(1, 2, 4, 6, 6))
    assert slow(clip(1, 2, 5, 6, 6)).shape[2] == 1
    with pytest.raises(UsageError, match="output_padding"):
        StdcfConvTranspose3d(2, 3, 3, output_padding=1, **SIZES)


@pytest.mark.parametrize("kind", [StdcfConv3d, StdcfConvTranspose3d])
@pytest.mark.parametrize("way", ["dense", "atoms", None])
@pytest.mark.parametrize("shape", [(1, 3, 4, 5, 5), (2, 4, 5, 5)])
def test_inputs_of_other_channels_or_axes_are_named(kind, way, shape):
    with pytest.raises(ClipError, match=re.escape(f"given {shape}; expected N x 2 x T x H x W")):
        kind(2, 3, 3, **SIZES, way=way)(torch.zeros(shape))


def test_a_pair_of_convolutions_amounts_to_coefficients_of_low_rank():
    """Appendix A: alpha of a rank-1 pair is Σ m n over the channels between, and its freedom is that of m and n."""
    into, between, out, spatial, temporal = 2, 3, 4, 5, 3
    layer = seeded(StdcfConv3d, into, out, (5, 3, 3), padding=(2, 1, 1), spatial_atoms=spatial, temporal_atoms=temporal)
    m, n = clip(between, into, spatial).requires_grad_(), clip(out, between, temporal).requires_grad_()

    def coefficients(m, n):
        return torch.einsum("xci,oxj->ocij", m, n)

    in_space = torch.einsum("xci,ihw->xchw", m, layer.psi)[:, :, None]
    in_time = torch.einsum("oxj,jt->oxt", n, layer.phi)[..., None, None]
    x = clip(1, into, 6, 7, 7)
    pair = nn.functional.conv3d(nn.functional.conv3d(x, in_space, padding=(0, 1, 1)), in_time, padding=(2, 0, 0))
    with torch.no_grad():
        layer.alpha.copy_(coefficients(m, n))
    torch.testing.assert_close(layer(x), pair, rtol=1e-12, atol=1e-12)

    # The rank of the map from m and n to alpha is the dimension of what pairs can be: (K_u + K_t) per pair of channels,
    # less what m and n can exchange unseen (an invertible matrix between them).
    jacobian = torch.cat([part.flatten(4) for part in torch.autograd.functional.jacobian(coefficients, (m, n))], dim=-1)
    free = int(torch.linalg.matrix_rank(jacobian.flatten(0, 3)))
    assert free == between * (into * spatial + out * temporal) - between**2 == 57
    assert layer.alpha.numel() == out * into * spatial * temporal == 120
    # Between one pair of channels a sum over the channels between has rank up to min(M, N, C''), not 1.
    assert torch.linalg.matrix_rank(layer.alpha.detach()).unique().tolist() == [3]
    one_between = coefficients(m.detach()[:1], n.detach()[:, :1])
    assert torch.linalg.matrix_rank(one_between).unique().tolist() == [1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("way", ["dense", "atoms"])
@pytest.mark.parametrize("kind", [StdcfConv3d, StdcfConvTranspose3d])
def test_a_gpu_says_the_same(kind, way):
    layer = seeded(kind, 2, 3, (5, 3, 3), stride=2, padding=(2, 1, 1), way=way)
    x = clip(2, 2, 8, 6, 6)
    torch.testing.assert_close(layer(x), layer.cuda()(x.cuda()).cpu(), rtol=1e-10, atol=1e-10)

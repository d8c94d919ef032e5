import copy
import math
import pickle

import pytest
import torch
from torch import nn

from zoo.errors import UsageError
from zoo_tconv3 import resampling
from zoo_tconv3.layer import TConv3d, fold

#: More input channels than 4 k² go another way than fewer do.
SHAPES = [(3, 40, (3, 3, 3)), (4, 2, (3, 3, 3)), (3, 5, (7, 7, 7)), (2, 120, (4, 5, 5)), (3, 3, (5, 2, 2))]


def layer(into=2, out=3, size=3, *, spread=0.2, seed=0, **arguments):
    """A float64 layer away from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = TConv3d(into, out, size, **arguments).double()
        with torch.no_grad():
            for value in made.temporal_parameters().values():
                value += spread * torch.randn_like(value)
    return made


def parts(of):
    return [of.base, *of.temporal_parameters().values()]


@pytest.mark.parametrize(("out", "into", "size"), SHAPES)
def test_the_kernel_is_that_of_slice_by_slice_resampling(definition, out, into, size):
    made = layer(into, out, size)
    expected = definition(*parts(made))
    assert made.kernel().shape == (out, into, *size)
    torch.testing.assert_close(made.kernel(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("out", "into", "size"), SHAPES)
def test_its_gradients_are_those_of_slice_by_slice_resampling(definition, out, into, size):
    made = layer(into, out, size, seed=1)
    upstream = torch.randn(made.kernel().shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.autograd.grad(definition(*parts(made)), parts(made), upstream)
    for own, other in zip(torch.autograd.grad(made.kernel(), parts(made), upstream), expected, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("into", [2, 40])
def test_gradients_at_the_identity_are_those_of_the_definition(definition, into):
    made = TConv3d(into, 2, 3).double()
    upstream = torch.randn(made.kernel().shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = torch.autograd.grad(definition(*parts(made)), parts(made), upstream)
    own = torch.autograd.grad(made.kernel(), parts(made), upstream)
    assert own[1].abs().max() > 0
    for one, other in zip(own, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("into", [2, 17])
def test_gradients_are_the_differences_of_values(into):
    made = layer(into, 2, 2)
    start = [value.detach().requires_grad_() for value in parts(made)]

    def kernel(*values):
        return torch.func.functional_call(_Kernel(made), dict(zip(_names(made), values, strict=True)), ())

    assert torch.autograd.gradcheck(kernel, start, eps=1e-7, atol=1e-6)


class _Kernel(nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self):
        return self.made.kernel()


def _names(made):
    return [f"made.{name}" for name in ("base", *made.temporal_parameters())]


@pytest.mark.parametrize("into", [1, 200])
def test_a_new_layer_repeats_its_base(into):
    made = TConv3d(into, 2, 7)
    torch.testing.assert_close(made.kernel(), made.base[:, :, None].expand(-1, -1, 7, -1, -1), rtol=0, atol=5e-5)
    assert sum(value.numel() for value in made.parameters()) == 2 * into * 49 + 4 * 6 * 2


@pytest.mark.parametrize("size", [(4, 1, 1), (1, 3, 3)])
def test_without_extent_in_space_or_time_nothing_is_resampled(size):
    made = layer(5, 2, size)
    assert torch.equal(made.kernel(), made.base[:, :, None].expand(-1, -1, size[0], -1, -1))


def pattern(made, **values):
    """Slices of a layer whose base is one bright pixel right of the centre, and whose steps are `values`."""
    with torch.no_grad():
        made.base.zero_()
        made.base[0, 0, 3, 5] = 1
        for name, value in values.items():
            getattr(made, name).fill_(value)
        return made.kernel()[0, 0]


def place(image):
    """Row and column of the centre of mass."""
    line = torch.arange(7, dtype=image.dtype)
    return float((image.sum(1) * line).sum() / image.sum()), float((image.sum(0) * line).sum() / image.sum())


def test_signs_are_those_of_the_paper():
    moved = pattern(TConv3d(1, 1, (2, 7, 7)).double(), translate_x=1 / 3, translate_y=1 / 3)
    assert place(moved[1]) == pytest.approx((2, 4))  # one pixel, (W - 1) / 2 of 1/3: to the left and upwards
    turned = pattern(TConv3d(1, 1, (2, 7, 7)).double(), rotation=math.pi / 2)
    assert place(turned[1]) == pytest.approx((1, 3))  # from the right to the top: counter-clockwise
    shrunk = pattern(TConv3d(1, 1, (2, 7, 7)).double(), scale=2)
    assert place(shrunk[1]) == pytest.approx((3, 4))


def test_zeros_come_in_from_outside_and_smoothing_accumulates():
    made = TConv3d(1, 1, 7).double()
    with torch.no_grad():
        made.base.fill_(1)
        made.scale.fill_(1.1)
    mass = made.kernel().detach()[0, 0].sum((1, 2)) / 49
    assert mass[-1] == pytest.approx(0.36, abs=0.01)


def test_the_convolution_is_that_of_its_kernel():
    made = layer(2, 3, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 0))
    clip = torch.randn(2, 2, 6, 11, 12, dtype=torch.float64)
    expected = nn.functional.conv3d(clip, made.kernel(), stride=(1, 2, 2), padding=(1, 2, 0))
    torch.testing.assert_close(made(clip), expected)


def test_a_folded_network_is_made_of_ordinary_convolutions_and_says_the_same():
    network = nn.Sequential(
        layer(2, 3, 3, padding=1), nn.ReLU(), nn.Sequential(layer(3, 2, (2, 3, 3), stride=2))
    ).eval()
    folded = fold(network)
    clip = torch.randn(1, 2, 6, 8, 8, dtype=torch.float64)
    assert [type(part).__name__ for part in folded.modules()] == [
        "Sequential",
        "Conv3d",
        "ReLU",
        "Sequential",
        "Conv3d",
    ]
    torch.testing.assert_close(folded(clip), network(clip))
    assert isinstance(network[0], TConv3d)
    assert isinstance(fold(network[0]), nn.Conv3d)


def built(made, monkeypatch):
    """A list that grows when the layer builds its kernel."""
    calls = []
    own = made.kernel
    monkeypatch.setattr(made, "kernel", lambda: calls.append(1) or own())
    return calls


def test_in_eval_the_kernel_is_built_once_and_anew_when_a_parameter_changes(monkeypatch):
    made = layer().eval()
    calls = built(made, monkeypatch)
    clip = torch.randn(1, 2, 4, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        first = made(clip)
        assert torch.equal(made(clip), first)
        assert len(calls) == 1
        made.rotation.add_(0.1)
        changed = made(clip)
    assert len(calls) == 2
    assert not torch.allclose(changed, first)
    torch.testing.assert_close(changed, fold(made)(clip))
    with torch.inference_mode():
        made(clip)
    made(clip.requires_grad_()).sum().backward()  # with gradients it is built for each call
    assert made.base.grad is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.load_state_dict({name: value + 0.1 for name, value in made.state_dict().items()}),
        lambda made: made.load_state_dict({n: v + 0.1 for n, v in made.state_dict().items()}, assign=True),
        lambda made: setattr(made, "base", nn.Parameter(made.base.detach() + 0.1)),
        lambda made: setattr(made.base, "data", made.base.detach() + 0.1),
        lambda made: (made.train().base.data.mul_(2), made.eval()),
        lambda made: made.float().double(),
        lambda made: torch.optim.SGD(made.parameters(), lr=1.0).step(),
    ],
    ids=["loaded", "assigned", "replaced", "data", "trained by data", "dtype", "optimised"],
)
def test_no_change_of_parameters_goes_unseen(change):
    made = layer().eval()
    clip = torch.randn(1, 2, 4, 5, 5, dtype=torch.float64)
    for value in made.parameters():
        value.grad = torch.ones_like(value)
    with torch.no_grad():
        made(clip)
        change(made)
        torch.testing.assert_close(made(clip), fold(made)(clip), rtol=1e-12, atol=1e-12)


def test_parameters_that_come_to_lie_where_others_lay_are_seen():
    made = layer().eval()
    clip = torch.randn(1, 2, 4, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(50):
            made(clip)
            made.base.data = 1.1 * made.base.data
            made.base.data = 1.1 * made.base.data  # often takes the address that the first one has left
            torch.testing.assert_close(made(clip), fold(made)(clip), rtol=1e-12, atol=1e-12)


def test_gradients_of_the_input_do_not_need_a_new_kernel_where_parameters_are_frozen(monkeypatch):
    made = layer().eval().requires_grad_(requires_grad=False)
    calls = built(made, monkeypatch)
    clip = torch.randn(1, 2, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        made(clip)
    made(clip).sum().backward()
    assert clip.grad is not None
    assert len(calls) == 1


def test_copies_keep_no_kernel_of_the_original():
    made = layer().eval()
    with torch.no_grad():
        made(torch.zeros(1, 2, 4, 5, 5, dtype=torch.float64))
    assert made._kept is not None
    assert copy.deepcopy(made)._kept is None
    assert pickle.loads(pickle.dumps(made))._kept is None


def test_bfloat16_shifts_are_not_lost_while_the_kernel_is_built():
    made = layer(spread=0.02).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made.kernel(), made.kernel().float())
        assert made(torch.randn(1, 2, 4, 5, 5)).dtype == torch.bfloat16
    assert made.bfloat16().kernel().dtype == torch.bfloat16


def test_a_2d_weight_becomes_the_first_slice_undivided():
    made = TConv3d(2, 3, 3)
    weight = torch.randn(3, 2, 3, 3)
    made.inflate(weight)
    assert torch.equal(made.kernel()[:, :, 0], weight)


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (3, 3), (3, 2, 5, 5)])
def test_a_2d_weight_of_another_shape_is_refused(shape):
    made = TConv3d(2, 3, 3)
    before = made.base.detach().clone()
    with pytest.raises(UsageError, match=r"expected \[3, 2, 3, 3\]"):
        made.inflate(torch.zeros(shape))
    assert torch.equal(made.base, before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((1, 1, (3, 3, 5)), "square"),
        ((1, 1, (3, 3)), "three"),
        ((1, 1, 3.0), "whole number"),
        ((1, 1, 3, 1, "same"), "whole number"),
        ((0, 1, 3), "positive"),
        ((1, 1, 0), "positive"),
        ((1, 1, 3, 1, -1), "not negative"),
    ],
)
def test_sizes_that_make_no_layer_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        TConv3d(*arguments)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("out", "into", "size"), SHAPES)
def test_kernel_and_gradients_on_a_gpu(definition, out, into, size):
    made = layer(into, out, size).cuda()
    upstream = torch.ones_like(made.kernel())
    expected = definition(*parts(made))
    torch.testing.assert_close(made.kernel(), expected, rtol=0, atol=1e-9)
    gradients = torch.autograd.grad(expected, parts(made), upstream)
    for own, other in zip(torch.autograd.grad(made.kernel(), parts(made), upstream), gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-9)


def test_an_exported_program_builds_its_own_kernel():
    torch.manual_seed(0)
    made = TConv3d(1, 2, 3).eval()
    batch = torch.randn(1, 1, 3, 4, 4)
    with torch.no_grad():
        made(batch)  # the kernel is kept
        program = torch.export.export(made, (batch,), strict=False).module()
        torch.testing.assert_close(program(2 * batch), made(2 * batch))
        assert type(made(batch)) is torch.Tensor


def test_tracing_leaves_nothing_behind():
    torch.manual_seed(0)
    made, batch = TConv3d(40, 2, 3).eval(), torch.randn(1, 40, 3, 4, 4)
    expected = made(batch)
    resampling._kept_points.cache_clear()
    torch.export.export(made, (batch,), strict=False)
    torch.testing.assert_close(copy.deepcopy(made)(batch), expected)

"""Weights of 2D networks inflate into 3D ones exactly, everything else stays, and nothing is guessed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import PluginError, UsageError, WeightsError
from zoo.models.inflation import inflate


class Stacked(nn.Module):
    """A layer of its own kind: one slice, said D times, and a gain for each step."""

    def __init__(self, in_channels, out_channels, kernel_size):
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.base = nn.Parameter(torch.randn(out_channels, in_channels, *kernel_size[1:]))
        self.gain = nn.Parameter(torch.ones(kernel_size[0]))

    def inflate(self, weight):
        with torch.no_grad():
            self.base.copy_(weight)

    def forward(self, x):
        return nn.functional.conv3d(x, self.base[:, :, None] * self.gain[:, None, None])


class Net(nn.Module):
    def __init__(self, convolution, normalisation, *shapes):
        super().__init__()
        self.stem = convolution(3, 4, shapes[0], bias=True)
        self.block = nn.Sequential(normalisation(4), convolution(4, 6, shapes[1], groups=2, bias=False))
        self.fc = nn.Linear(6, 5)


@pytest.fixture
def flat():
    torch.manual_seed(1)
    return Net(nn.Conv2d, nn.BatchNorm2d, 7, 3)


@pytest.fixture
def solid():
    torch.manual_seed(2)
    return Net(nn.Conv3d, nn.BatchNorm3d, (5, 7, 7), (3, 3, 3))


def taken(model, tensors):
    return inflate(model, tensors, name="NAME", source="FILE")


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding": (0, 1, 1)}])
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_an_inflated_convolution_says_of_a_still_clip_what_the_2d_one_says_of_its_frame(options, steps):
    torch.manual_seed(steps)
    flat_options = {key: value[1:] if isinstance(value, tuple) else value for key, value in options.items()}
    flat = nn.Conv2d(4, 6, 3, bias=False, dtype=torch.float64, **flat_options)
    solid = nn.Conv3d(4, 6, (steps, 3, 3), bias=False, dtype=torch.float64, **options)
    frame = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    taken(solid, flat.state_dict())
    response = solid(frame[:, :, None].expand(-1, -1, 9, -1, -1))
    expected = flat(frame)[:, :, None]
    assert response.shape[2] >= 2
    torch.testing.assert_close(response, expected.expand_as(response), rtol=0, atol=1e-13)


def test_a_layer_that_takes_the_weight_its_own_way_is_given_it_undivided():
    torch.manual_seed(0)
    flat = nn.Conv2d(3, 4, 3, bias=False, dtype=torch.float64)
    layer = Stacked(3, 4, (5, 3, 3)).double()
    done = taken(nn.ModuleDict({"conv": layer}), {"conv.weight": flat.weight})
    assert torch.equal(layer.base, flat.weight)
    frame = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    response = layer(frame[:, :, None].expand(-1, -1, 7, -1, -1))
    torch.testing.assert_close(response, (5 * flat(frame))[:, :, None].expand_as(response), rtol=0, atol=1e-12)
    assert (done.taken, done.left, done.untouched) == (("conv.weight",), (), ("conv.gain",))


def test_only_convolution_weights_are_taken_and_everything_else_is_named(flat, solid):
    before = {key: tensor.clone() for key, tensor in solid.state_dict().items()}
    file = {**flat.state_dict(), "aux1.conv.weight": torch.ones(2, 6, 1, 1), "stem.mask": torch.ones(4, 3, 7, 7)}
    done = taken(solid, file)
    after = solid.state_dict()
    assert done.taken == ("stem.weight", "block.1.weight")
    for key, steps in (("stem.weight", 5), ("block.1.weight", 3)):
        assert all(torch.equal(slice_, file[key] / steps) for slice_ in after[key].unbind(2))
    assert done.untouched == tuple(key for key in before if key not in done.taken)
    assert all(torch.equal(after[key], before[key]) for key in done.untouched)
    assert set(done.left) == set(file) - set(done.taken)
    assert "aux1.conv.weight" in done.left
    assert "stem.bias" in done.left
    assert all(parameter.requires_grad and parameter.grad_fn is None for parameter in solid.parameters())


def test_names_left_are_in_natural_order(solid, flat):
    more = {f"more.{index}.weight": torch.ones(1, 1, 1, 1) for index in (10, 9)}
    left = taken(solid, {**more, **flat.state_dict()}).left
    assert left.index("more.9.weight") < left.index("more.10.weight")


def test_a_type_is_converted_before_dividing_and_counted(flat, solid):
    half = {key: tensor.to(torch.bfloat16) for key, tensor in flat.state_dict().items()}
    assert taken(solid, half).converted == 2
    assert torch.equal(solid.stem.weight[:, :, 3], half["stem.weight"].float() / 5)


def test_a_layer_with_two_names_is_taken_under_either(flat, solid):
    solid.again = solid.stem
    file = flat.state_dict()
    assert "again.weight" not in taken(solid, file).untouched
    file["again.weight"] = file.pop("stem.weight")
    done = taken(solid, file)
    assert done.taken == ("block.1.weight", "again.weight")
    assert not {"stem.weight", "again.weight"} & {*done.untouched, *done.left}


def change(**tensors):
    """A change of a file: tensors added or, where None, left out."""

    def changed(file):
        file = {**file, **tensors}
        return {key: tensor for key, tensor in file.items() if tensor is not None}

    return changed


def renamed(old, new):
    return lambda file: {(new + key.removeprefix(old)): tensor for key, tensor in file.items()}


GREY = {"stem.weight": torch.ones(4, 1, 7, 7)}
SMALL = {"block.1.weight": torch.ones(12, 2, 5, 5)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            change(**GREY),
            r"^FILE does not fit NAME: 1 of 2 convolutions differ: first difference: stem\.weight is \[4, 1, 7, 7\], "
            r"expected \[4, 3, 7, 7\] \(1 input channels instead of 3\); nothing was loaded$",
        ),
        (
            change(**SMALL),
            r"12 filters instead of 6, 5 rows instead of 3, 5 columns instead of 3",
        ),
        (
            change(**GREY, **SMALL),
            r"^no convolution of FILE fits NAME: first difference: stem\.weight is \[4, 1, 7, 7\]",
        ),
        (
            change(**{"stem.weight": torch.ones(4, 3, 7, 7, dtype=torch.int8)}),
            r"stem\.weight is torch\.int8, expected floating-point",
        ),
        (lambda file: {"fc.weight": file["fc.weight"]}, "no convolution of FILE fits NAME: the file holds no weights"),
        (
            renamed("", "module."),
            r"begins with module\.block\.1\.weight \[6, 2, 3, 3\], the model with stem\.weight, which takes "
            r"\[4, 3, 7, 7\]; without the prefix 'module\.' 2 of 2 names would fit: rename",
        ),
        (lambda file: {"other.weight": file["stem.weight"]}, r"which takes \[4, 3, 7, 7\]; nothing was loaded$"),
    ],
)
def test_what_does_not_fit_is_told_and_changes_nothing(flat, solid, changed, said):
    before = {key: tensor.clone() for key, tensor in solid.state_dict().items()}
    with pytest.raises(WeightsError, match=said):
        taken(solid, changed(flat.state_dict()))
    assert all(torch.equal(tensor, before[key]) for key, tensor in solid.state_dict().items())


def test_a_prefix_that_the_model_has_is_told_too(flat, solid):
    with pytest.raises(WeightsError, match=r"with the prefix 'backbone\.' 2 of 2 names would fit"):
        taken(nn.ModuleDict({"backbone": solid}), flat.state_dict())


def test_a_model_without_3d_convolutions_takes_nothing(flat):
    with pytest.raises(WeightsError, match="NAME has no 3D convolution"):
        taken(nn.Sequential(nn.Linear(2, 2)), flat.state_dict())


def test_weights_that_need_no_inflating_are_refused(solid):
    with pytest.raises(UsageError, match="FILE fits NAME as it is: leave adapt out"):
        taken(solid, solid.state_dict())
    other = {**solid.state_dict(), "more": torch.ones(1)}
    with pytest.raises(UsageError, match=r"FILE holds 3D weights \(block\.1\.weight \[6, 2, 3, 3, 3\]\)"):
        taken(solid, other)


@pytest.mark.parametrize(
    ("inflate_", "said"),
    [
        (lambda layer, weight: layer.missing, "inflating conv of NAME failed: AttributeError: .*missing"),
        (lambda layer, weight: None, "inflating conv of NAME changed none of its tensors"),
    ],
)
def test_a_layer_that_does_not_keep_its_word_is_named(monkeypatch, inflate_, said):
    monkeypatch.setattr(Stacked, "inflate", inflate_)
    with pytest.raises(PluginError, match=said):
        taken(nn.ModuleDict({"conv": Stacked(3, 4, (5, 3, 3))}), {"conv.weight": torch.ones(4, 3, 3, 3)})


def test_what_a_layer_writes_past_autograd_is_seen(monkeypatch):
    monkeypatch.setattr(Stacked, "inflate", lambda layer, weight: layer.base.data.copy_(weight))
    model = nn.ModuleDict({"conv": Stacked(3, 4, (5, 3, 3))})
    assert taken(model, {"conv.weight": torch.ones(4, 3, 3, 3)}).untouched == ("conv.gain",)


def test_a_weight_that_is_computed_cannot_be_set():
    layer = nn.utils.parametrizations.weight_norm(nn.Conv3d(3, 4, 3))
    with pytest.raises(PluginError, match="changed none"):
        taken(nn.ModuleDict({"conv": layer}), {"conv.weight": torch.ones(4, 3, 3, 3)})

"""Which axis of a batch is time."""

import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.entries import InputSpec, ModelEntry
from zoo.errors import UnknownNameError, UsageError
from zoo.models.layouts import fixed, layout_of


class Anything(nn.Module):
    """A module that takes whatever it is given, and says nothing of it."""

    def forward(self, x):
        return x.flatten(1)[:, :2]


class Volume(nn.Module):
    """A 3D convolution, on the batch as it comes or with axes 1 and 2 exchanged."""

    def __init__(self, channels, *, swapped=False):
        super().__init__()
        self.conv = nn.Conv3d(channels, 2, 1)
        self.swapped = swapped

    def forward(self, x):
        return self.conv(x.transpose(1, 2) if self.swapped else x).mean(dim=(2, 3, 4))


class Frames(nn.Module):
    """A 2D convolution called as a function, frames folded into the batch or stacked as channels."""

    def __init__(self, channels, axis):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(2, channels, 1, 1))
        self.axis = axis

    def forward(self, x):
        folded = x.flatten(0, 1) if self.axis == 1 else x.transpose(1, 2).flatten(0, 1)
        return F.conv2d(x[:, :, 0] if self.axis is None else folded, self.weight).mean(dim=(1, 2, 3))[:1]


def with_config(module, **config):
    module.config = types.SimpleNamespace(**config)
    return module


def batch(*axes):
    return torch.rand(1, *axes, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_caller_comes_first_and_only_what_fits_is_taken():
    assert layout_of(Anything(), batch(3, 8), "NTCHW") == "NTCHW"
    with pytest.raises(UnknownNameError, match=r"'NTCWH'.*NTCHW"):
        layout_of(Anything(), batch(3, 8), "NTCWH")
    with pytest.raises(UsageError, match="'NCHW' has 4 axes"):
        layout_of(Anything(), batch(3, 8), "NCHW")
    with pytest.raises(UsageError, match=r"\(1, 4, 4\)"):
        layout_of(Anything(), torch.rand(1, 4, 4))


def test_an_entry_is_not_contradicted():
    model = Anything()
    spec = InputSpec(layout="NTCHW", frames=8, size=(4, 4))
    model.zoo_entry = ModelEntry(name="own", builder="a:b", summary="", parameters=0, input=spec, outputs=())
    assert layout_of(model, batch(3, 8)) == layout_of(model, batch(3, 8), "NTCHW") == "NTCHW"
    assert layout_of(model, batch(3)) == "NCHW"
    with pytest.raises(UsageError, match="own takes N x T x C x H x W"):
        layout_of(model, batch(3, 8), "NCTHW")


@pytest.mark.parametrize(
    "config",
    [
        {"num_frames": 8, "num_channels": 3},
        {"frames_per_clip": 64, "in_chans": 3},
        {"num_frames": 8},
        {"num_channels": 3},
        {"vision_config": {"num_frames": 8, "num_channels": 3}},
    ],
)
def test_a_config_says_which_axis_holds_the_frames(config):
    model = with_config(Anything(), **config)
    assert layout_of(model, batch(8, 3)) == "NTCHW"
    assert layout_of(model, batch(3, 8)) == "NCTHW"
    assert layout_of(nn.Sequential(model), batch(8, 3)) == "NTCHW"
    assert layout_of(nn.DataParallel(model), batch(8, 3)) == "NTCHW"


def test_transformers_convention_breaks_a_tie_of_a_models_own_config_alone():
    model = with_config(Anything(), num_frames=3, num_channels=3)
    model.main_input_name = "pixel_values"
    assert layout_of(model, batch(3, 3)) == "NTCHW"
    assert layout_of(nn.Sequential(model), batch(3, 3)) == "NCTHW"
    model.config.num_frames = 16  # neither fits
    assert layout_of(model, batch(3, 3)) == "NTCHW"


@pytest.mark.parametrize(
    ("model", "axes", "expected"),
    [
        (Volume(3, swapped=True), (8, 3), "NTCHW"),
        (Volume(8), (8, 3), "NCTHW"),
        (Volume(8), (8, 1), "NCTHW"),
        (Volume(2, swapped=True), (16, 2), "NTCHW"),
        (Volume(2), (2, 16), "NCTHW"),
        (Volume(5), (5, 2), "NCTHW"),
        (Volume(3, swapped=True), (3, 3), "NTCHW"),
        (Volume(3), (3, 3), "NCTHW"),
        (Frames(3, 1), (8, 3), "NTCHW"),
        (Frames(1, 1), (8, 1), "NTCHW"),
        (Frames(8, 2), (8, 3), "NCTHW"),
        (Frames(3, 1), (3, 3), "NTCHW"),
        (Frames(3, 2), (3, 3), "NCTHW"),
    ],
)
def test_the_first_convolution_says_what_it_reads(model, axes, expected):
    model.train()
    state = torch.get_rng_state()
    assert layout_of(model, batch(*axes)) == expected
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("axes", [(3, 8), (1, 8), (3, 3), (3, 1), (1, 3), (2, 16), (4, 4)])
def test_channels_in_axis_1_are_plain(axes):
    assert layout_of(Anything(), batch(*axes)) == "NCTHW"


@pytest.mark.parametrize(
    ("model", "axes"),
    [
        (Anything(), (8, 3)),
        (Anything(), (2, 1)),
        (Anything(), (16, 2)),
        (Frames(8, None), (8, 1)),  # eight channels, or eight grey frames as channels
        (with_config(Anything(), num_frames=4, num_channels=5), (8, 3)),
    ],
)
def test_what_nothing_decides_is_refused_with_both_remedies(model, axes):
    with pytest.raises(UsageError, match="layout='NTCHW' or layout='NCTHW'") as refused:
        layout_of(model, batch(*axes))
    assert f"{axes[0]} frames of {axes[1]} channels" in str(refused.value)


def test_what_is_fixed_holds_for_this_model_and_ends():
    model, other = Anything(), Anything()
    with fixed(model, batch(8, 3), "NTCHW"):
        assert layout_of(model, batch(8, 3)) == "NTCHW"
        assert layout_of(model, batch(3, 8)) == "NTCHW"
        assert layout_of(model, batch(3)) == "NCHW"
        assert layout_of(other, batch(3, 8)) == "NCTHW"
        with fixed(model, batch(8, 3), "NCTHW"):
            assert layout_of(model, batch(8, 3)) == "NCTHW"
        assert layout_of(model, batch(8, 3)) == "NTCHW"
    assert layout_of(model, batch(3, 8)) == "NCTHW"

"""Effective fields against closed forms, and the boxes of theoretical ones against gradients."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from explain.fields.effective import EffectiveField, effective_field, effective_fields, shortest_run
from explain.fields.theoretical import trace
from explain.model.preservation import generator
from zoo.errors import ModelError, UnknownNameError, UsageError


def stack(depth, size=3, channels=1):
    """Convolutions with weights all one, without bias."""
    layers = [nn.Conv3d(channels, channels, size, padding=size // 2, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers).double()


def trinomial(depth):
    """(1 + x + x^2)^depth."""
    row = torch.ones(1, dtype=torch.float64)
    for _ in range(depth):
        row = F.conv1d(row.view(1, 1, -1), torch.ones(1, 1, 3, dtype=torch.float64), padding=2).flatten()
    return row


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_weights_give_the_product_of_the_windows(channels):
    """A stack of windows of three: the coefficients of (1 + x + x^2)^n along each axis (arXiv 1701.04128, 2.1)."""
    depth = 3
    batch = torch.rand(2, channels, 9, 11, 13, dtype=torch.float64)
    found = effective_field(stack(depth, channels=channels), f"{depth - 1}", batch, draws=3)
    row = trinomial(depth) / 3**depth
    expected = torch.zeros(9, 11, 13, dtype=torch.float64)
    expected[1:8, 2:9, 3:10] = row.view(-1, 1, 1) * row.view(1, -1, 1) * row
    assert torch.allclose(found.heat, expected, atol=1e-12)
    assert found.theoretical == (7, 7, 7)
    assert found.theoretical_box == ((1, 7), (2, 8), (3, 9))
    assert found.position == (4, 5, 6)
    assert found.positions == (9, 11, 13)


def test_the_width_grows_with_the_square_root_of_the_depth():
    """Variance n (k^2 - 1) / 12 of n windows of k: 2 n / 3; and 95 % of a Gaussian lie within 1.96 deviations."""
    for depth in (4, 16):
        found = effective_field(
            stack(depth), f"{depth - 1}", torch.zeros(1, 1, 41, 41, 41, dtype=torch.float64), draws=1
        )
        along = found.heat.sum(dim=(0, 1))
        places = torch.arange(41, dtype=torch.float64) - 20
        assert float((along * places.square()).sum()) == pytest.approx(2 * depth / 3)
        assert found.extent == (found.extent[0],) * 3
        assert found.extent[0] == pytest.approx(2 * 1.96 * math.sqrt(2 * depth / 3), abs=1.5)
        assert found.theoretical == (2 * depth + 1,) * 3


def test_signs_are_drawn_for_each_channel():
    """Two channels that look at different pixels: with any signs both count; over one alone a single pixel would."""
    layer = nn.Conv3d(1, 2, (1, 1, 3), padding=(0, 0, 1), bias=False).double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 0, 0], layer.weight[1, 0, 0, 0, 2] = 3.0, 1.0
    found = effective_field(nn.Sequential(layer), "0", torch.rand(1, 1, 1, 1, 5, dtype=torch.float64))
    assert found.heat.flatten().tolist() == pytest.approx([0, 0.75, 0, 0.25, 0])
    same = nn.Conv3d(1, 2, 1, bias=False).double()
    nn.init.ones_(same.weight)
    averaged = effective_field(nn.Sequential(same), "0", torch.rand(1, 1, 1, 1, 5, dtype=torch.float64), draws=16)
    assert averaged.heat.sum() == pytest.approx(1)  # where signs cancel, that draw counts for nothing


def slowly(model, layer, batch, place, draws, seed):
    """One pixel after the other, by differences."""
    model.eval()
    values = {}
    handle = dict(model.named_modules())[layer].register_forward_hook(lambda *given: values.update(y=given[2]))
    heat = torch.zeros(batch.shape[2:], dtype=torch.float64)
    for sample in range(len(batch)):
        draw = generator(seed, sample)
        for _ in range(draws):
            signs, gradient = None, torch.zeros(batch.shape[1:], dtype=torch.float64)
            for at in torch.cartesian_prod(*(torch.arange(size) for size in batch.shape[1:])).tolist():
                ends = []
                for step in (1e-6, -1e-6):
                    x = batch[sample : sample + 1].clone()
                    x[(0, *at)] += step
                    with torch.no_grad():
                        model(x)
                    unit = values["y"][(0, slice(None), *place)]
                    if signs is None:
                        signs = torch.randint(0, 2, unit.shape, generator=draw).to(unit) * 2 - 1
                    ends.append(float((unit * signs).sum()))
                gradient[tuple(at)] = (ends[0] - ends[1]) / 2e-6
            one = gradient.abs().sum(dim=0)
            heat += one / one.sum() / (draws * len(batch))
    handle.remove()
    return heat


def test_heat_is_the_mean_of_normalised_gradients(nets):
    model = nets.TwoHeads()
    batch = torch.rand(2, 1, 3, 4, 4)
    found = effective_field(model, "block", batch, draws=2, seed=3, position=(1, 0, 2))
    assert torch.allclose(found.heat, slowly(model, "block", batch, (1, 0, 2), 2, 3), atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "share", "run"),
    [
        ([0, 1, 2, 1, 0], 0.5, (2, 2)),
        ([0, 1, 2, 1, 0], 0.75, (1, 2)),
        ([0, 1, 2, 1, 0], 1.0, (1, 3)),
        ([3, 0, 0, 0, 1], 0.9, (0, 4)),
        ([1, 1, 1, 1], 0.5, (0, 1)),
    ],
)
def test_an_extent_is_the_shortest_run_that_holds_the_share(weights, share, run):
    assert shortest_run(torch.tensor(weights, dtype=torch.float64), share) == run


class Residual(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.main = nn.Sequential(nn.Conv3d(2, 2, 3, stride, 1), nn.Conv3d(2, 2, 3, 1, 1))
        self.shortcut = nn.Conv3d(2, 2, 1, stride)

    def forward(self, x):
        return self.main(x) + self.shortcut(x)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv3d(1, 2, 1, 2)
        self.five = nn.Sequential(nn.Conv3d(1, 2, 3, 1, 1), nn.Conv3d(2, 2, (1, 3, 5), 2, (0, 1, 2)))
        self.pool = nn.Sequential(nn.AvgPool3d((5, 1, 1), 2, (2, 0, 0)), nn.Conv3d(1, 2, 1))
        self.last = nn.Conv3d(6, 1, 3, padding=(1, 2, 3), dilation=(1, 2, 3))

    def forward(self, x):
        return self.last(torch.cat([self.one(x), self.five(x), self.pool(x)], dim=1))


class Folded(nn.Module):
    def __init__(self):
        super().__init__()
        self.space = nn.Conv2d(1, 2, 3, 2, 1)
        self.time = nn.Conv3d(2, 1, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1))

    def forward(self, x):
        frames = self.space(x.transpose(1, 2).flatten(0, 1))
        return self.time(frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2))


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (nn.Sequential(nn.Conv3d(1, 2, (3, 7, 7), (1, 2, 2), (1, 3, 3)), Residual(1), Residual(2)), "2.main.1"),
        (nn.Sequential(nn.Conv3d(1, 1, 3, dilation=(1, 2, 4)), nn.AvgPool3d(3, 2), nn.Conv3d(1, 1, (2, 3, 1))), "2"),
        (nn.Sequential(nn.Conv3d(1, 1, 3, padding=2), nn.AvgPool3d(3, 2, 1), nn.Conv3d(1, 1, 3, 1, 1)), "2"),
        (Branches(), "last"),
        (Folded(), "time"),
    ],
)
def test_the_box_of_every_position_is_what_it_depends_on(model, layer):
    """Weights all one, so that nothing cancels: the gradient fills the theoretical box, also at the border."""
    model = model.double().eval()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    batch = torch.rand(1, 1, 14, 22, 26, dtype=torch.float64)
    traced = trace(model, tuple(batch.shape))
    (row,) = [row for row in traced.rows if row.layer == layer]
    size = row.output
    for at in [(0, 0, 0), tuple(one // 2 for one in size), tuple(one - 1 for one in size), (0, size[1] - 1, 1)]:
        found = effective_field(model, layer, batch, position=at, draws=8, share=1.0)
        assert found.box == traced.box(row, at) == found.theoretical_box


def test_several_layers_equal_the_single_ones_and_the_model_is_left_as_found(nets):
    model = nets.TwoHeads().train()
    batch = torch.rand(2, 1, 4, 6, 6)
    before = nets.fingerprint(model)
    both = effective_fields(model, ["stem.0", "block"], batch, draws=2)
    assert nets.fingerprint(model) == before
    for found in both:
        alone = effective_field(model, found.layer, batch, draws=2)
        assert torch.equal(alone.heat, found.heat)
        assert alone.record() == found.record()
    other = effective_field(model, "block", batch, draws=2, seed=1)
    assert not torch.equal(other.heat, both[1].heat)
    with pytest.raises(KeyboardInterrupt):
        effective_field(model, "block", batch, progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert nets.fingerprint(model) == before


def test_behind_upsampling_the_theoretical_box_is_widened_to_hold_all_gradients():
    up = nn.Upsample(scale_factor=2, mode="trilinear")
    model = nn.Sequential(nn.Conv3d(1, 2, 3, stride=2), up, nn.Conv3d(2, 2, 3)).double()
    batch = torch.rand(1, 1, 12, 16, 16, dtype=torch.float64)
    traced = trace(model, tuple(batch.shape))
    (found,) = effective_fields(model, ["2"], batch, position=(4, 6, 6), draws=1, traced=traced)
    held = [slice(first, last + 1) for first, last in found.theoretical_box]
    assert float(found.heat[tuple(held)].sum()) == pytest.approx(1.0)
    assert (
        found.heat.nonzero().amin(dim=0).tolist()[1:]
        < [first for first, _ in traced.box(traced.rows[-1], (4, 6, 6))][1:]
    )


def test_a_recurrence_looks_back_and_no_field_is_claimed_where_none_is_known(nets):
    model = nets.TwoHeads()
    batch = torch.rand(1, 1, 6, 5, 5)
    found = effective_field(model, "lstm", batch, position=(2, 0, 0))
    assert not found.heat[5:].any()  # the convolutions before it look two frames ahead
    assert found.theoretical_box[0] == (0, 4)
    unknown = effective_field(model, "relu", batch)
    assert unknown.theoretical is None
    assert unknown.theoretical_box is None
    assert unknown.box is not None


def test_frames_may_come_before_channels_or_be_one(nets):
    model = nets.FoldedFrames()
    model.zoo_entry = nets.entry("NTCHW", channels="RGB")
    found = effective_field(model, "conv", torch.rand(2, 4, 2, 6, 6))
    assert found.heat.shape == (4, 6, 6)
    assert found.extent == (1, 3, 3)
    assert found.box[0] == (2, 2)
    image = nn.Sequential(nn.Conv2d(3, 2, 3).double())
    assert effective_field(image, "0", torch.rand(1, 3, 7, 7).double()).extent == (1, 3, 3)


def test_a_unit_that_depends_on_nothing_has_no_field():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(x * 0)

    found = effective_field(Constant(), "conv", torch.rand(1, 1, 3, 4, 4))
    assert found.box is None
    assert found.extent == (0, 0, 0)
    assert not found.heat.any()


def test_noise_stands_in_for_clips_where_an_entry_says_of_which_shape(nets, tmp_path):
    model = nets.PooledLinear()
    with pytest.raises(UsageError, match="give a batch"):
        effective_field(model, "conv")
    model.zoo_entry = nets.entry()
    found = effective_field(model, "conv")
    assert found.heat.shape == (4, 6, 6)
    read = EffectiveField.load(found.save(tmp_path / "field"))
    assert torch.equal(read.heat, found.heat)
    assert read.record() == found.record()


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"layer": "conw"}, UnknownNameError, "'conv'"),
        ({"share": 0}, UsageError, "share must be"),
        ({"draws": 0}, UsageError, "draws must be"),
        ({"position": (0, 6, 0)}, UsageError, r"\(4, 6, 6\) positions"),
        ({"position": (0, 0)}, UsageError, "none at"),
    ],
)
def test_a_mistake_is_named(nets, given, error, said):
    with pytest.raises(error, match=said):
        effective_field(nets.PooledLinear(), **{"layer": "conv", "batch": torch.rand(1, 1, 4, 6, 6), **given})


def test_a_layer_that_does_not_run_or_gives_what_is_not_finite_is_named(nets):
    model = nets.PooledLinear()
    model.spare = nn.Conv3d(1, 1, 1)
    with pytest.raises(ModelError, match="'spare' did not run"):
        effective_field(model, "spare", torch.rand(1, 1, 4, 6, 6))
    missing = {}
    found = effective_fields(model, ["spare", "conv", "head"], torch.rand(1, 1, 4, 6, 6), draws=1, missing=missing)
    assert [one.layer for one in found] == ["conv", "head"]
    assert list(missing) == ["spare"]
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0, 0] = math.inf
    with pytest.raises(ModelError, match=r"gradients are not finite; the model's parameter 'conv.weight'"):
        effective_field(model, "conv", torch.rand(1, 1, 4, 6, 6))


def test_a_batch_that_the_model_does_not_take_is_told_in_words(nets):
    with pytest.raises(ModelError, match="does not take a batch of shape"):
        effective_field(nets.PooledLinear(), "conv", torch.rand(1, 2, 4, 6, 6))
    with pytest.raises(UsageError, match="a batch is a tensor, not str"):
        effective_field(nets.PooledLinear(), "conv", "clip.mp4")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_what_the_cpu_finds(nets):
    model, batch = nets.TwoHeads(), torch.rand(1, 1, 4, 6, 6)
    on_cpu = effective_field(model, "block", batch)
    on_gpu = effective_field(model.cuda(), "block", batch.cuda())
    assert torch.allclose(on_cpu.heat, on_gpu.heat, atol=1e-9)

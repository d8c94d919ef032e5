import pytest
import torch
from torch import nn

import explain
from explain.maximization.objectives import channel, contrast, flicker, total_variation
from zoo.errors import MemoryLimitError, ModelError, UnknownNameError, UsageError

SHAPE = (1, 4, 8, 8)


class Wide(nn.Module):
    """Two layers that count their runs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Sequential(nn.Conv3d(1, 5, 3, padding=1), nn.ReLU())
        self.second = nn.Conv3d(5, 3, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x)).mean(dim=(2, 3, 4))


def test_all_units_and_longer_runs_take_smaller_steps(nets):
    result = explain.maximize(Wide(), "second", "all", shape=SHAPE, steps=2)
    assert result.units == (0, 1, 2)
    assert result.settings["learning_rate"] == 0.05
    long = explain.maximize(Wide(), "second", 0, shape=SHAPE, steps=240)
    assert long.settings["learning_rate"] == 0.025


def test_every_unit_rises_well_over_its_first_clip(nets):
    result = explain.maximize(Wide(), "first.0", [0, 2, 4], shape=SHAPE, steps=60)
    assert result.clips.shape == (3, *SHAPE)
    assert result.history.shape == (60, 3)
    spread = Wide().first[0](torch.rand(64, *SHAPE)).mean(dim=(2, 3, 4)).std(dim=0)
    assert (result.activation > result.initial + 5 * spread[[0, 2, 4]]).all()
    assert (result.history[-1] > result.history[0]).all()
    assert result.clips.min() >= 0
    assert result.clips.max() <= 1


def test_activation_is_what_the_unit_gives_for_the_clip_in_the_models_own_units(nets):
    model = Wide()
    model.zoo_entry = nets.entry("NCTHW", frames=4, size=(8, 8), range=(-1.0, 1.0), mean=(0.2,), std=(0.5,))
    result = explain.maximize(model, "second", 1, steps=3)
    inputs = (-1.0 + 2.0 * result.clips - 0.2) / 0.5
    assert result.clips.shape == (1, *SHAPE)
    assert torch.allclose(result.activation, model.second(model.first(inputs))[:, 1].mean(dim=(1, 2, 3)))


def test_clips_are_rgb_also_where_the_model_takes_bgr(nets):
    model = nn.Sequential(nn.Conv3d(3, 1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1, 1))  # blue
    model.zoo_entry = nets.entry("NCTHW", channels="BGR", frames=2, size=(4, 4), mean=(0.0,), std=(1.0,))
    red, green, blue = explain.maximize(model, "0", 0, steps=30, decorrelate=False).clips.mean(dim=(0, 2, 3, 4))
    assert blue > 0.55
    assert red < 0.45
    assert green < 0.45
    red, green, blue = explain.maximize(model, "0", 0, steps=30).clips.mean(dim=(0, 2, 3, 4))  # darker, too
    assert blue - 0.02 > max(red, green)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_clip(nets):
    model = Wide().float()
    first, again, other = (
        explain.maximize(model, "second", [0, 1], shape=SHAPE, steps=5, seed=seed) for seed in (7, 7, 8)
    )
    assert torch.equal(first.clips, again.clips)
    assert torch.equal(first.history, again.history)
    assert not torch.allclose(first.clips, other.clips)


@pytest.mark.parametrize("parametrization", ["fourier3d", "fourier2d", "pixel"])
@pytest.mark.parametrize("transforms", ["default", "none", "jitter", "scale", "rotation"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_unit_alone_and_among_others_comes_out_the_same(nets, parametrization, transforms, channels):
    model = Wide()
    model.first[0] = nn.Conv3d(channels, 5, 3, padding=1)
    options = {
        "shape": (channels, 4, 16, 16),
        "steps": 6,
        "parametrization": parametrization,
        "transforms": transforms,
        "objective": -0.1 * total_variation() - 0.2 * flicker() - 0.3 * contrast(),
        "learning_rate": 0.3,
    }
    together = explain.maximize(model, "second", [2, 0], **options)
    for place, unit in enumerate((2, 0)):
        alone = explain.maximize(model, "second", unit, **options)
        assert torch.allclose(alone.clips[0], together.clips[place], atol=1e-10)
        assert torch.allclose(alone.history[:, 0], together.history[:, place], atol=1e-10)
    assert (together.clips[0] - together.clips[1]).abs().max() > 0.1


def test_copies_and_objectives_of_other_layers_beside_it_change_no_clip(nets):
    model = Wide()
    single = explain.maximize(model, "first.0", 3, shape=SHAPE, steps=8)
    beside = explain.maximize(
        model, objective=[channel("second", 1), channel("first.0", 3)], copies=2, shape=SHAPE, steps=8
    )
    assert beside.names == ("second/1", "second/1", "first.0/3", "first.0/3")
    assert torch.allclose(beside.clips[2], single.clips[0], atol=1e-10)
    assert not torch.allclose(beside.clips[3], single.clips[0], atol=1e-3)


def test_nothing_behind_the_layer_runs_but_in_the_first_pass(nets):
    model, runs = Wide(), []
    model.second.register_forward_pre_hook(lambda *_: runs.append(1))
    explain.maximize(model, "first", 0, shape=SHAPE, steps=10)
    assert len(runs) == 1


def test_a_unit_that_relu_silences_is_woken(nets):
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.Conv3d(2, 1, 1), nn.ReLU(), nn.Conv3d(1, 1, 1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(-0.6)  # silent on even grey
        model[2].weight.fill_(1.0)
        model[2].bias.fill_(-0.1)
    result = explain.maximize(model, "3", 0, shape=SHAPE, steps=100)
    assert result.initial.item() == 0
    assert result.activation.item() > 0.05


@pytest.mark.parametrize("network", ["FoldedFrames", "FoldedTimeFirst", "FrameByFrame"])
def test_frames_folded_or_one_by_one_all_take_part(nets, network):
    model = getattr(nets, network)()
    model.zoo_entry = nets.entry("NTCHW", channels="RGB", frames=3, size=(6, 6), mean=(0.0,), std=(1.0,))
    model.conv = nn.Conv2d(3, 3, 3, padding=1)
    result = explain.maximize(model, "conv", [0, 1], steps=30)
    assert result.clips.shape == (2, 3, 3, 6, 6)
    alone = explain.maximize(model, "conv", 1, steps=30)
    assert torch.allclose(alone.clips[0], result.clips[1], atol=1e-10)
    start = explain.maximize(model, "conv", [0, 1], steps=1)
    moved = (result.clips - start.clips).abs().amax(dim=(1, 3, 4))
    assert (moved > 0.05).all()


def test_units_of_a_recurrent_layer_and_of_an_image_model_can_be_maximised(nets):
    result = explain.maximize(nets.TwoHeads(), "lstm", [0, 4], shape=(1, 4, 6, 6), steps=20)
    assert (result.activation > result.initial).all()
    image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    result = explain.maximize(image, "0", 3, shape=(3, 9, 7), steps=20)
    assert result.clips.shape == (1, 3, 1, 9, 7)
    assert (result.activation > result.initial).all()


@pytest.mark.parametrize("parametrization", ["fourier3d", "fourier2d", "pixel"])
@pytest.mark.parametrize("transforms", ["default", "none", lambda clips, generator: clips.flip(-1)])
def test_every_parametrisation_climbs_under_every_transform(nets, parametrization, transforms):
    result = explain.maximize(
        Wide(), "second", 0, shape=SHAPE, steps=20, parametrization=parametrization, transforms=transforms
    )
    assert result.activation > result.initial
    assert result.settings["parametrization"] == parametrization


def uneven(clips, generator):
    """A transform that treats every frame differently."""
    return clips * torch.rand(clips.shape[2], generator=generator).to(clips).view(-1, 1, 1)


@pytest.mark.parametrize("transforms", ["default", "none", uneven])
def test_a_still_has_equal_frames_whatever_the_transform_and_climbs(nets, transforms):
    result = explain.maximize(
        Wide(), "second", [0, 2], shape=SHAPE, steps=20, parametrization="fourier2d", transforms=transforms
    )
    assert result.clips.shape == (2, *SHAPE)
    assert torch.equal(result.clips, result.clips[:, :, :1].expand(-1, -1, 4, -1, -1))
    assert not torch.equal(result.clips[0], result.clips[1])
    assert (result.activation > result.initial).all()
    assert torch.allclose(
        result.activation, Wide().second(Wide().first(result.clips))[[0, 1], [0, 2]].mean(dim=(1, 2, 3))
    )


def test_a_still_finds_the_closed_form_optimum_of_a_filter_that_sums_over_time(nets):
    """Two of three time slices want the left half white and the right half black: 6 is the most there can be."""
    model = nn.Sequential(nn.Conv3d(1, 1, (3, 1, 8), bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1) * torch.tensor([1.0] * 4 + [-1.0] * 4))
    result = explain.maximize(model, "0", 0, shape=SHAPE, steps=150, parametrization="fourier2d", transforms="none")
    assert result.clips[..., :4].mean() > 0.8
    assert result.clips[..., 4:].mean() < 0.2
    assert result.activation.item() == pytest.approx(
        6.0 * (result.clips[..., :4].mean() - result.clips[..., 4:].mean()).item()
    )


def test_a_still_does_for_frames_before_channels_for_images_and_where_the_first_operation_is_in_place(nets):
    folded = nets.FoldedFrames()
    folded.zoo_entry = nets.entry("NTCHW", channels="RGB", frames=3, size=(6, 6))
    folded.conv = nn.Conv2d(3, 3, 3, padding=1)
    result = explain.maximize(folded, "conv", [0, 1], steps=3, parametrization="fourier2d")
    assert torch.equal(result.clips, result.clips[:, :, :1].expand(-1, -1, 3, -1, -1))
    image = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3))
    still, moving = (
        explain.maximize(image, "1", 3, shape=(3, 9, 7), steps=3, parametrization=name)
        for name in ("fourier2d", "fourier3d")
    )
    assert torch.equal(still.clips, moving.clips)

    class Centred(Wide):
        def forward(self, x):
            x -= x.mean()
            return super().forward(x)

    assert explain.maximize(Centred(), "first", 1, shape=SHAPE, steps=3, parametrization="fourier2d").history.shape == (
        3,
        1,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("parametrization", ["fourier3d", "pixel"])
def test_a_model_of_16_bits_is_climbed_in_32(dtype, parametrization):
    model, options = Wide().float(), {"shape": SHAPE, "steps": 12, "parametrization": parametrization}
    wanted = explain.maximize(model, "second", [0, 2], **options)
    found = explain.maximize(model.to(dtype), "second", [0, 2], **options)
    assert (found.clips.dtype, found.activation.dtype) == (torch.float32, torch.float32)
    rose = wanted.activation - wanted.initial
    assert torch.allclose(found.activation - found.initial, rose, rtol=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_stills_on_a_gpu_are_those_of_the_cpu(nets):
    model = Wide().float()
    here = explain.maximize(model, "second", [0, 2], shape=SHAPE, steps=5, parametrization="fourier2d")
    there = explain.maximize(model.cuda(), "second", [0, 2], shape=SHAPE, steps=5, parametrization="fourier2d")
    assert there.clips.device.type == "cuda"
    assert torch.equal(there.clips, there.clips[:, :, :1].expand(-1, -1, 4, -1, -1))
    assert torch.allclose(here.clips, there.clips.cpu(), atol=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("parametrization", ["fourier3d", "pixel"])
def test_a_gpu_draws_as_the_cpu_does_and_repeats_itself_to_the_byte(nets, parametrization):
    model = Wide()
    model.first[0] = nn.Conv3d(3, 5, 3, padding=1)
    options = {
        "objective": [channel("first.0", 1) - 0.1 * total_variation(), 2 * channel("second", 0)],
        "shape": (3, 4, 16, 16),
        "steps": 8,
        "parametrization": parametrization,
    }
    here = explain.maximize(model, **options)
    there, again = (explain.maximize(model.cuda(), **options) for _ in range(2))
    assert torch.allclose(here.clips, there.clips.cpu(), atol=1e-6)
    assert torch.equal(there.clips, again.clips)
    assert torch.equal(there.history, again.history)


def test_the_model_and_the_process_are_left_as_found_also_on_failure(nets):
    model = nets.TwoHeads()
    model.stem[0].bias.requires_grad_(False)
    model.digit.weight.grad = torch.ones_like(model.digit.weight)
    found = nets.fingerprint(model)
    explain.maximize(model, "block", [0, 1], shape=(1, 4, 6, 6), steps=2)
    assert nets.fingerprint(model) == found

    def failing(clips, generator):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain.maximize(model, "block", 0, shape=(1, 4, 6, 6), steps=2, transforms=failing)
    assert nets.fingerprint(model) == found


def test_fewer_units_at_once_are_tried_when_memory_runs_out(nets):
    class Hungry(Wide):
        def forward(self, x):
            if len(x) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    model = Hungry()
    model.most = 4
    plain = explain.maximize(model, "second", [0, 1, 2], shape=SHAPE, steps=4)
    model.most = 1
    steps = []
    cut = explain.maximize(
        model, "second", [0, 1, 2], shape=SHAPE, steps=4, progress=lambda done, total: steps.append((done, total))
    )
    assert torch.allclose(plain.clips, cut.clips, atol=1e-12)
    assert torch.allclose(plain.history, cut.history, atol=1e-12)
    assert steps == [(k, 12) for k in range(1, 13)]
    model.most = 0
    with pytest.raises(MemoryLimitError):
        explain.maximize(model, "second", 0, shape=SHAPE, steps=4)


def test_what_does_not_exist_or_cannot_be_is_refused(nets):
    model = Wide()
    with pytest.raises(UnknownNameError, match="did you mean 'second'"):
        explain.maximize(model, "secnd", 0, shape=SHAPE)
    with pytest.raises(UnknownNameError, match="units are 0 to 2"):
        explain.maximize(model, "second", [0, 3], shape=SHAPE)
    with pytest.raises(UnknownNameError, match="'fourier3d'"):
        explain.maximize(model, "second", 0, shape=SHAPE, parametrization="fourier")
    with pytest.raises(UnknownNameError, match="'default'"):
        explain.maximize(model, "second", 0, shape=SHAPE, transforms="defaults")
    with pytest.raises(UsageError, match="shape="):
        explain.maximize(model, "second", 0)
    with pytest.raises(UsageError, match="neither"):
        explain.maximize(model, "second", 0, shape=(4, 8))
    with pytest.raises(UsageError, match="at least one unit"):
        explain.maximize(model, "second", [], shape=SHAPE)
    model.zoo_entry = nets.entry("NCHW", frames=1)
    with pytest.raises(UsageError, match="takes images"):
        explain.maximize(model, "second", 0, shape=SHAPE)

    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            return self.layer(torch.zeros_like(x))

    with pytest.raises(ModelError, match="does not depend on the input"):
        explain.maximize(Deaf(), "layer", 0, shape=SHAPE)

import pytest
import torch
from torch import nn

import explain
from explain.attribution.maps import causing_frame
from explain.attribution.methods import BUILT_IN
from zoo.errors import ModelError


def conv(taps, stride=1, **options):
    """A 3-D convolution of one frame's pixels with itself, weighted over time by `taps`."""
    size = len(taps)
    layer = nn.Conv3d(1, 1, (size, 1, 1), (stride, 1, 1), (size // 2, 0, 0), bias=False, **options)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(taps).view_as(layer.weight))
    return nn.Sequential(layer)


def lit(frame, value=1.0, frames=9):
    """A dark clip with one pixel lit in one frame."""
    clip = torch.zeros(1, 1, frames, 4, 5)
    clip[0, 0, frame, 2, 3] = value
    return clip


def peak(model, batch, unit="0/0"):
    return explain.attribute(model, batch, method="saliency", target=f"{unit}:max")


@pytest.mark.parametrize(("frame", "tap"), [(3, tap) for tap in range(5)] + [(0, 0), (0, 2), (8, 2), (8, 4)])
def test_through_a_delay_the_frame_is_the_one_that_is_lit_and_not_the_unit_s_own(nets, tap, frame):
    result = peak(conv([float(k == tap) for k in range(5)]), lit(frame))
    assert result.target.positions.tolist() == [[frame - tap + 2, 2, 3]]
    assert result.frame.tolist() == [frame]
    assert torch.equal(result.raw, lit(frame))  # slope 1 there, 0 elsewhere
    assert torch.equal(result.still, lit(frame)[:, 0, frame])


def test_through_a_mean_the_lit_frame_is_told_from_empty_ones_with_the_same_gradient(nets):
    result = peak(conv([0.2] * 5), lit(4))
    assert result.time[0, 2:5].tolist() == [0.2] * 3
    assert result.frame.tolist() == [4]


def test_a_layer_that_strides_over_time_points_to_a_frame_of_the_clip(nets):
    clip = lit(5) + lit(6, 0.4)
    result = peak(conv([0.3, 1.0, 0.2], stride=4), clip)  # steps stand at frames 0, 4, 8
    assert result.target.positions[0, 0] == 1
    assert result.target.value.item() == pytest.approx(0.2)
    assert result.frame.tolist() == [5]


def test_a_unit_that_sees_all_frames_gets_the_one_that_adds_most(nets):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(9 * 20, 2)

        def forward(self, x):
            return self.linear(x.flatten(1))

    model, batch = Whole(), torch.randn(4, 1, 9, 4, 5)
    added = (model.linear.weight[1].view(1, 9, 4, 5) * batch[:, 0]).sum(dim=(2, 3))
    result = peak(model, batch, "linear/1")
    assert torch.equal(result.frame, added.argmax(dim=1))
    assert len(set(result.frame.tolist())) > 1


def test_without_it_a_linear_unit_falls_most(nets):
    """Against the definition, slowly: every frame blanked in turn."""
    model, batch = nn.Sequential(nn.Conv3d(2, 3, (5, 3, 3), padding=(2, 1, 1))), torch.rand(6, 2, 8, 6, 6)
    for unit in range(3):
        result = peak(model, batch, f"0/{unit}")
        fall = []
        for frame in range(8):
            blanked = batch.clone()
            blanked[:, :, frame] = 0
            left = model(blanked)[torch.arange(6), unit, *result.target.positions.T]
            fall.append(result.target.value - left)
        assert torch.equal(result.frame, torch.stack(fall, dim=1).argmax(dim=1))


def test_frames_that_the_unit_does_not_see_are_left_out_even_where_all_others_take_away(nets):
    clip = -1 - torch.rand(1, 1, 9, 4, 5)
    result = peak(conv([0.5, 1.0, 0.5]), clip)
    step = int(result.target.positions[0, 0])
    assert result.target.value < 0
    assert abs(int(result.frame[0]) - step) <= 1
    assert result.time[0, result.frame[0]] > 0


def test_equal_sums_are_decided_by_the_gradient_and_then_by_order():
    gradient = torch.tensor([0.0, 1.0, -3.0, 3.0, 0.0]).view(1, 1, 5, 1, 1)
    assert causing_frame(gradient, torch.zeros_like(gradient), "NCTHW").tolist() == [2]
    assert causing_frame(gradient.abs(), torch.ones_like(gradient), "NCTHW").tolist() == [2]
    with pytest.raises(ModelError, match="does not react"):
        causing_frame(torch.zeros_like(gradient), torch.ones_like(gradient), "NCTHW")


def test_in_a_network_that_is_linear_piece_by_piece_what_the_frames_add_makes_up_the_activation(nets):
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 2, 3, padding=1, bias=False)
    )
    batch = torch.randn(3, 1, 8, 8, 8)
    result = explain.attribute(model, batch, method="input_x_gradient", target="3/1:max")
    added = result.map.sum(dim=(2, 3))
    assert torch.allclose(added.sum(dim=1), result.target.value)
    assert torch.equal(result.frame, added.argmax(dim=1))


@pytest.mark.parametrize("layer", ["stem", "relu", "lstm", "digit", "speed"])
def test_any_layer_of_a_network_with_heads_has_a_frame_for_each_sample_alone_and_among_others(nets, layer):
    model, batch = nets.TwoHeads(), torch.randn(3, 1, 6, 8, 8)
    together = peak(model, batch, f"{layer}/0")
    assert together.still.shape == (3, 8, 8)
    assert (together.still.sum(dim=(1, 2)) > 0).all()
    for k in range(3):
        alone = peak(model, batch[k : k + 1], f"{layer}/0")
        assert alone.frame.tolist() == together.frame[k : k + 1].tolist()
        assert torch.allclose(alone.still[0], together.map[k, together.frame[k]], atol=1e-12)


@pytest.mark.parametrize("network", ["FoldedFrames", "FoldedTimeFirst", "FrameByFrame"])
def test_time_before_channels_and_a_layer_over_single_frames_gives_that_frame(nets, network):
    model, batch = getattr(nets, network)(), torch.randn(2, 5, 2, 6, 6)
    model.zoo_entry = nets.entry("NTCHW", frames=5)
    result = peak(model, batch, "conv/1")
    assert torch.equal(result.frame, result.target.positions[:, 0])
    assert (result.time > 0).sum(dim=1).tolist() == [1, 1]


def test_an_image_is_its_own_frame(nets):
    result = peak(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), torch.randn(2, 3, 7, 8), "1/1")
    assert result.frame.tolist() == [0, 0]
    assert result.still.shape == (2, 7, 8)


def test_every_method_tells_the_same_frame_and_one_gradient_serves_them_all(nets, having):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    pytest.importorskip("skimage")
    methods = [method.name for method in BUILT_IN]
    options = {"target": "block/1:max", "n_steps": 3, "layer": "stem", "window": (2, 3, 3), "stride": (2, 3, 3)}
    options |= {"n_samples": 6, "feature_mask": torch.arange(4).clamp(max=2)[:, None, None].expand(4, 6, 6)}
    results = explain.attribute(model, batch, method=methods, **options)
    for name, result in zip(methods, results, strict=True):
        alone = explain.attribute(model, batch, method=name, **having(name, options))
        assert torch.equal(alone.raw, result.raw)
        assert torch.equal(alone.frame, results[0].frame)
        assert torch.equal(result.still, torch.stack([result.map[k, frame] for k, frame in enumerate(result.frame)]))
    runs = []
    model.stem.register_forward_hook(lambda *_: runs.append(1))
    explain.attribute(model, batch, method="saliency", target="block/1:max")
    assert len(runs) == 2  # to find the place, and for the gradient
    assert explain.attribute(model, batch, method="saliency", target="block/1").frame is None
    assert explain.attribute(model, batch, method="saliency").still is None


def test_the_target_of_one_clip_can_be_kept_for_the_next(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    first = peak(model, batch, "block/1")
    again = explain.attribute(model, -batch, method="saliency", target=first.target)
    assert torch.equal(again.target.positions, first.target.positions)
    assert not torch.equal(again.raw, first.raw)


def test_the_model_and_the_process_are_left_as_found_also_on_failure(nets):
    model, batch = nets.TwoHeads().train(), torch.randn(2, 1, 4, 6, 6)
    found = nets.fingerprint(model)
    peak(model, batch, "block/1")
    assert nets.fingerprint(model) == found
    silent = nn.Sequential(nn.Hardtanh(), nn.Conv3d(1, 1, 1, bias=False))
    batch = 2 + torch.rand(1, 1, 4, 6, 6)
    batch[..., 0, 0] = -3
    found = nets.fingerprint(silent)
    with pytest.raises(ModelError, match="does not react"):
        peak(silent, batch, "1/0")
    assert nets.fingerprint(silent) == found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_place_and_frame_are_those_of_the_cpu(nets):
    model, batch = nets.TwoHeads().float(), torch.randn(3, 1, 6, 8, 8).float()
    here = peak(model, batch, "block/1")
    there = peak(model.cuda(), batch.cuda(), "block/1")
    assert there.frame.device.type == there.target.positions.device.type == "cuda"
    assert here.frame.tolist() == there.frame.tolist()
    assert here.target.positions.tolist() == there.target.positions.tolist()

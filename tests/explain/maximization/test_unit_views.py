import pytest
import torch
from torch import nn

import explain
from zoo.errors import ModelError, UnknownNameError, UsageError


def test_a_unit_is_shown_by_its_frame_its_gradient_there_and_its_image(nets):
    model, batch = nets.TwoHeads(), torch.rand(1, 1, 6, 8, 8) * 3 - 1
    found = nets.fingerprint(model)
    steps = []
    views = explain.view_units(
        model, batch, "block", [2, 0], steps=4, seed=5, progress=lambda done, total: steps.append((done, total))
    )
    assert nets.fingerprint(model) == found
    assert steps == [(k, 4) for k in range(1, 5)]
    made = explain.maximize(model, "block", [2, 0], shape=(1, 6, 8, 8), steps=4, parametrization="fourier2d", seed=5)
    for index, (view, unit) in enumerate(zip(views, [2, 0], strict=True)):
        attribution = explain.attribute(model, batch, method="saliency", target=f"block/{unit}:max")
        assert (view.layer, view.unit) == ("block", unit)
        assert view.activation == attribution.target.value.item()
        assert list(view.position) == attribution.target.positions[0].tolist()
        assert view.frame == attribution.frame.item()
        assert torch.equal(view.gradient, attribution.still[0])
        assert torch.equal(view.time, attribution.time[0])
        frame = batch[0, :, view.frame]
        assert torch.allclose(view.picture, (frame - batch.min()) / (batch.max() - batch.min()))
        assert torch.equal(view.image.unsqueeze(1).expand(-1, 6, -1, -1), made.clips[index])
        assert (view.initial, view.maximized) == (made.initial[index].item(), made.activation[index].item())


def test_one_unit_of_a_model_that_takes_time_before_channels_and_of_one_of_images(nets):
    folded, batch = nets.FoldedFrames(), torch.rand(1, 3, 3, 6, 6)
    folded.conv = nn.Conv2d(3, 3, 3, padding=1)
    folded.zoo_entry = nets.entry("NTCHW", channels="RGB", frames=3, mean=(0.5,), std=(0.25,))
    (view,) = explain.view_units(folded, batch, "conv", 1, steps=2)
    assert view.position[0] == view.frame
    assert torch.allclose(view.picture, (batch[0, view.frame] * 0.25 + 0.5).clamp(0, 1))
    assert view.image.shape == (3, 6, 6)
    image = nn.Sequential(nn.Conv2d(3, 4, 3))
    (view,) = explain.view_units(image, torch.rand(1, 3, 9, 7), "0", 3, steps=2)
    assert (view.frame, view.gradient.shape, view.image.shape) == (0, (9, 7), (3, 9, 7))


def test_what_does_not_exist_or_cannot_be_is_refused(nets):
    model, batch = nets.TwoHeads(), torch.rand(1, 1, 4, 6, 6)
    with pytest.raises(UnknownNameError, match="did you mean 'block'"):
        explain.view_units(model, batch, "blok", 0)
    with pytest.raises(UnknownNameError, match="units are 0 to 3"):
        explain.view_units(model, batch, "block", [0, 4])
    with pytest.raises(UsageError, match="this batch holds 2"):
        explain.view_units(model, batch.expand(2, -1, -1, -1, -1), "block", 0)
    with pytest.raises(UsageError, match="at least one unit"):
        explain.view_units(model, batch, "block", [])
    silent = nn.Sequential(nn.Conv3d(1, 1, 1), nn.ReLU())
    with torch.no_grad():
        silent[0].bias.fill_(-9.0)
    with pytest.raises(ModelError, match="no highest activation"):
        explain.view_units(silent, batch, "1", 0)

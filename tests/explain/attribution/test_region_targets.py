"""Every method explains a region of an output clip, and looks no farther than that region does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import explain
from explain.attribution.methods import BUILT_IN, find_method
from explain.faithfulness import check_faithfulness
from explain.maximization.objectives import logit
from explain.model import targets

#: Maps of these are not bounded by what the region depends on: a weight for the whole clip, regions of like colour,
#: random masks, linear fits, a layer's own activity, other orders of all frames.
UNBOUNDED = {"grad_cam", "guided_grad_cam", "supervoxel_occlusion", "rise", "kernel_shap", "lime", "layer_activation"}
UNBOUNDED |= {"frame_order"}
#: Frames of the clip that frame 5 of the output depends on.
SEEN = (4, 5, 6)


class Smoothing(nn.Module):
    """N x 1 x T x H x W to the same: one 3 x 3 x 3 convolution and a ReLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.relu = nn.ReLU()
        with torch.no_grad():
            self.conv.weight.abs_()

    def forward(self, x):
        return self.relu(self.conv(x))


@pytest.fixture
def smoothing(nets):
    return Smoothing().eval(), torch.rand(2, 1, 8, 6, 6)


@pytest.mark.parametrize("method", [method.name for method in BUILT_IN])
def test_every_method_explains_a_frame_of_the_output(smoothing, having, method):
    model, batch = smoothing
    needs_layer = find_method(method).needs_layer
    frames = torch.arange(8).repeat_interleave(36).view(8, 6, 6)
    found = explain.attribute(
        model,
        batch,
        method=method,
        target=explain.Region("output", t=5),
        layer="conv" if needs_layer else None,
        **having(
            method,
            {
                "n_steps": 2,
                "window": (1, 3, 3),
                "stride": (1, 3, 3),
                "n_samples": 40 if method in {"kernel_shap", "lime"} else 2,
                "feature_mask": frames,
            },
        ),
    )
    assert str(found.target) == "output[t=5]"
    assert found.map.abs().sum() > 0
    elsewhere = [frame for frame in range(8) if frame not in SEEN]
    if method not in UNBOUNDED:
        assert found.map[:, elsewhere].abs().max() < 1e-9
    again = targets.resolve(model, batch, str(found.target))
    assert torch.allclose(again.value, model(batch)[:, :, 5].mean(dim=(1, 2, 3)))


def test_integrated_gradients_of_a_region_add_up_to_it(smoothing):
    model, batch = smoothing
    found = explain.attribute(model, batch, method="integrated_gradients", target="output[2:4, 1:3, 2]", n_steps=64)
    difference = (model(batch) - model(torch.zeros_like(batch)))[:, :, 2:4, 1:3, 2].flatten(1).mean(dim=1)
    assert torch.allclose(found.raw.flatten(1).sum(dim=1), difference.detach(), atol=1e-3)


def test_a_map_of_a_region_is_tested_and_kept(smoothing, tmp_path):
    model, batch = smoothing
    found = explain.attribute(model, batch, method="input_x_gradient", target="output[t=5]")
    tested = check_faithfulness(model, batch, found, steps=4, draws=2)
    assert tested.target == "output[t=5]"
    assert torch.allclose(tested.value, model(batch)[:, :, 5].mean(dim=(1, 2, 3)).double())
    kept = explain.Attribution.load(found.save(tmp_path / "map"))
    assert kept.target.region == ((5, 6), (0, 6), (0, 6))


def test_a_region_is_raised_and_what_it_does_not_depend_on_is_left(smoothing):
    model, _ = smoothing
    made = {}
    for target in ("output[5]", explain.Region("output", 5)):
        made[target] = explain.maximize(
            model,
            objective=logit(target),
            shape=(1, 8, 6, 6),
            steps=8,
            parametrization="pixel",
            transforms="none",
        )
    first, second = made.values()
    assert first.activation > 1.05 * first.history[0]
    assert first.units == ("output[5]",)
    assert second.units == ("output[t=5]",)
    outside, inside = first.clips[:, :, [1, 2]].mean(), first.clips[:, :, SEEN].mean()
    assert inside > 0.55
    assert outside == pytest.approx(0.5, abs=0.01)


def test_a_model_of_two_outputs_is_asked_for_the_clip_by_name(nets):
    model = nets.TwoHeads().eval()
    model.register_forward_hook(lambda module, given, output: {**output, "film": module.stem(*given)})
    batch = torch.randn(2, 1, 4, 6, 6)
    found = explain.attribute(model, batch, method="saliency", target="film[0]")
    assert found.map[:, 2:].abs().max() == 0 < found.map[:, :2].max()

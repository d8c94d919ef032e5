import itertools

import pytest
import torch
from torch import nn

import explain
from explain.attribution.options import FILLS
from zoo.errors import ModelError, UnknownNameError


class InOrder(nn.Module):
    """What each frame's mean weighs by its place in time."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        return x.mean(dim=(1, 3, 4)) @ self.weights[:, None]


def clip(*values):
    """One grey value a frame."""
    return torch.tensor(values).view(1, 1, -1, 1, 1).expand(1, 1, len(values), 4, 3).clone()


def losses(model, batch, changed):
    with torch.no_grad():
        return float(model(batch) - model(clip(*changed)))


@pytest.mark.parametrize(
    ("fill", "at_the_start", "behind"),
    [
        ("freeze", [3.0, 3.0, 3.0, 4.0, 5.0], [1.0, 2.0, 2.0, 2.0, 5.0]),
        ("drop", [3.0, 4.0, 5.0, 5.0, 5.0], [1.0, 2.0, 5.0, 5.0, 5.0]),
        ("repeat", [3.0, 4.0, 3.0, 4.0, 5.0], [1.0, 2.0, 1.0, 2.0, 5.0]),
        ("cover", [9.0, 9.0, 3.0, 4.0, 5.0], [1.0, 2.0, 9.0, 9.0, 5.0]),
    ],
)
def test_a_window_of_frames_is_filled_as_said(nets, fill, at_the_start, behind):
    model, batch = InOrder([0.1, -0.7, 2.0, 0.4, 1.3]), clip(1.0, 2.0, 3.0, 4.0, 5.0)
    result = explain.attribute(
        model, batch, method="temporal_occlusion", fill=fill, window=(2, 1, 1), stride=(2, 1, 1), baseline=9.0
    )
    last = {
        "freeze": [1.0, 2.0, 3.0, 3.0, 3.0],
        "drop": [1.0, 2.0, 3.0, 3.0, 3.0],
        "repeat": [1.0, 2.0, 3.0, 2.0, 3.0],
        "cover": [1.0, 2.0, 3.0, 9.0, 9.0],
    }[fill]
    start, middle, end = (losses(model, batch, changed) for changed in (at_the_start, behind, last))
    assert result.map[0, :, 0, 0].tolist() == pytest.approx([start, start, middle, (middle + end) / 2, end])
    assert torch.equal(result.map, result.map[..., :1, :1].expand_as(result.map))
    assert result.settings["fill"] == fill


def test_a_window_played_backwards_costs_what_its_order_is_worth(nets):
    model, batch = InOrder([0.1, -0.7, 2.0, 0.4]), clip(1.0, 2.0, 3.0, 4.0)
    result = explain.attribute(model, batch, method="frame_order", window=(2, 1, 1), stride=(2, 1, 1))
    first, second = (losses(model, batch, order) for order in ([2.0, 1.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0]))
    assert result.map[0, :, 0, 0].tolist() == pytest.approx([first, first, second, second])
    whole = explain.attribute(model, batch, method="frame_order", window=(4, 1, 1), stride=(1, 1, 1))
    assert whole.map[0, :, 0, 0].tolist() == pytest.approx([losses(model, batch, [4.0, 3.0, 2.0, 1.0])] * 4)


def test_shuffling_nears_the_mean_over_all_other_orders(nets):
    model, batch = InOrder([0.1, -0.7, 2.0]), clip(1.0, 2.0, 3.0)
    orders = [order for order in itertools.permutations((1.0, 2.0, 3.0)) if order != (1.0, 2.0, 3.0)]
    expected = sum(losses(model, batch, order) for order in orders) / len(orders)
    result = explain.attribute(model, batch, method="frame_order", order="shuffle", window=(3, 1, 1), n_samples=400)
    assert float(result.map[0, 0, 0, 0]) == pytest.approx(expected, abs=0.25)
    assert expected > 1


def test_two_frames_have_but_one_other_order(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    options = {"method": "frame_order", "window": (2, 1, 1), "n_samples": 6}
    shuffled, turned = (explain.attribute(model, batch, order=order, **options) for order in ("shuffle", "reverse"))
    assert torch.allclose(shuffled.map, turned.map)


@pytest.mark.parametrize("order", ["reverse", "shuffle"])
def test_a_model_blind_to_order_owes_nothing_to_it(nets, order):
    model = nets.PooledLinear()
    model.conv = nn.Conv3d(1, 3, (1, 3, 3), padding=(0, 1, 1))
    result = explain.attribute(model, torch.randn(2, 1, 6, 5, 5), method="frame_order", order=order)
    assert result.map.abs().max() < 1e-12


def test_in_a_still_clip_no_frame_counts(nets):
    batch = torch.randn(1, 1, 1, 6, 6).expand(1, 1, 4, 6, 6)
    for fill in ("freeze", "drop", "repeat"):
        assert explain.attribute(nets.TwoHeads(), batch, method="temporal_occlusion", fill=fill).map.abs().max() < 1e-12


def test_what_has_no_time_or_no_such_name_is_refused(nets):
    image = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    for method in ("temporal_occlusion", "frame_order"):
        with pytest.raises(ModelError, match="single frame"):
            explain.attribute(image, torch.randn(1, 1, 6, 6), method=method)
    batch = torch.randn(1, 1, 4, 6, 6)
    with pytest.raises(UnknownNameError, match=FILLS[0]):
        explain.attribute(nets.TwoHeads(), batch, method="temporal_occlusion", fill="freez")
    with pytest.raises(UnknownNameError, match="reverse"):
        explain.attribute(nets.TwoHeads(), batch, method="frame_order", order="revers")

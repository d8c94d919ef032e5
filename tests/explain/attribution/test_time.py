"""`Attribution.time`: one number for each frame, with its sign and in a unit that is said."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import explain
from explain import Attribution, Method
from explain.attribution.methods import BUILT_IN

SUMS = ("integrated_gradients", "deep_lift", "deep_lift_shap", "gradient_shap", "shapley_sampling", "kernel_shap")


class Weighted(nn.Module):
    """The sum over frames of a weight times the frame's mean, and something that is not linear."""

    def __init__(self, weights=(0.5, -2.0, 0.0, 3.0, -0.25)):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        means = x.mean(dim=(1, 3, 4)) * self.weights
        return torch.stack([means.sum(dim=1), means.relu().sum(dim=1)], dim=1)


@pytest.fixture
def case(nets):
    return Weighted().eval(), torch.rand(2, 1, 5, 16, 16)


def by_hand(model, batch, changed):
    with torch.no_grad():
        return (model(batch) - model(changed))[:, 0]


def test_freezing_frames_tells_the_change_of_the_output_with_its_sign(case):
    model, batch = case
    found = explain.attribute(
        model, batch, method="temporal_occlusion", target=0, window=(2, 16, 16), stride=(1, 16, 16)
    )
    losses = []
    for start in range(4):
        changed = batch.clone()
        changed[:, :, start : start + 2] = batch[:, :, [start - 1 if start else 2]]
        losses.append(by_hand(model, batch, changed))
    expected = torch.stack([torch.stack(losses[max(0, t - 1) : t + 1]).mean(dim=0) for t in range(5)], dim=1)
    assert found.time_unit == "change"
    assert torch.allclose(found.time, expected)
    assert (found.time < 0).any()
    assert (found.time > 0).any()


def test_playing_frames_backwards_tells_the_change_of_the_output(case):
    model, batch = case
    found = explain.attribute(model, batch, method="frame_order", target=0, window=(5, 16, 16))
    assert found.time_unit == "change"
    assert torch.allclose(found.time, by_hand(model, batch, batch.flip(2))[:, None].expand(2, 5))


@pytest.mark.parametrize("size", [4, 16])
@pytest.mark.parametrize("method", SUMS)
def test_frames_add_up_to_the_difference_whatever_their_size(having, method, size):
    model, batch = Weighted().eval(), torch.rand(2, 1, 5, size, size)
    window = (2, size // 2, size // 2)  # parts that lie in two frames
    options = having(method, {"feature_mask": "grid", "window": window, "baseline": 0.0, "n_samples": 64})
    found = explain.attribute(model, batch, method=method, target=1, **options)
    assert found.time_unit == "sum"
    with torch.no_grad():
        difference = (model(batch) - model(torch.zeros_like(batch)))[:, 1]
    assert torch.allclose(found.time.sum(dim=1), difference, atol=1e-9)
    if method in {"integrated_gradients", "deep_lift"}:
        assert torch.allclose(found.time, batch.mean(dim=(1, 3, 4)) * model.weights.clamp(min=0))


def test_a_part_gives_its_value_to_its_frames_in_equal_shares(case):
    model, batch = case
    found = explain.attribute(
        model,
        batch,
        method="shapley_sampling",
        target=0,
        baseline=0.0,
        feature_mask="grid",
        window=(2, 16, 16),
        n_samples=2,
    )
    frames = batch.mean(dim=(1, 3, 4)) * model.weights
    parts = torch.stack([frames[:, 0:2].sum(1), frames[:, 2:4].sum(1), frames[:, 4]], dim=1)
    expected = torch.stack([parts[:, 0] / 2, parts[:, 0] / 2, parts[:, 1] / 2, parts[:, 1] / 2, parts[:, 2]], dim=1)
    assert torch.allclose(found.time, expected)


@pytest.mark.parametrize("method", ["occlusion", "feature_ablation", "rise"])
def test_removal_is_the_mean_over_the_frame(case, having, method):
    model, batch = case
    found = explain.attribute(model, batch, method=method, target=0, **having(method, {"n_samples": 32}))
    assert found.time_unit == "mean"
    assert torch.allclose(found.time, found.map.mean(dim=(2, 3)))
    assert found.time.abs().max() <= found.map.abs().max()
    assert (found.time < 0).any()


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "smooth_grad"])
def test_all_others_are_shares_of_the_map(case, having, method):
    model, batch = case
    found = explain.attribute(model, batch, method=method, target=0, **having(method, {"n_samples": 4}))
    assert found.time_unit == "share"
    assert torch.allclose(found.time.sum(dim=1), torch.ones(2, dtype=found.time.dtype))
    sizes = found.map.abs().sum(dim=(2, 3))
    assert torch.allclose(found.time, sizes / sizes.sum(dim=1, keepdim=True))


def test_an_empty_map_has_no_shares(case):
    _, batch = case
    found = explain.attribute(Weighted((0.0,) * 5), batch, method="saliency", target=0)
    assert found.time.tolist() == torch.zeros(2, 5).tolist()


def test_the_strongest_frame_may_be_against_the_output(case):
    model, batch = case
    model.weights.data = torch.tensor([0.1, -5.0, 0.1, 0.1, 0.1])
    found = explain.attribute(model, batch, method="integrated_gradients", target=0)
    assert found.peak.tolist() == [1, 1]
    assert (found.time[:, 1] < 0).all()


def test_every_method_has_a_unit_and_those_of_plugins_shares():
    assert {one.time for one in BUILT_IN} == {"change", "sum", "mean", "share"}
    own = Method(name="own", summary="", run="a:b", source="", reduction="sum")
    assert own.time == "share"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("saliency", {}),
        ("occlusion", {}),
        ("temporal_occlusion", {}),
        ("integrated_gradients", {}),
        ("shapley_sampling", {"feature_mask": "grid", "window": (2, 8, 8)}),
        ("kernel_shap", {"feature_mask": torch.arange(5).view(5, 1, 1).expand(5, 16, 16) // 2}),
    ],
)
def test_results_of_version_0_1_are_loaded_with_time_in_units(case, having, tmp_path, method, options):
    model, batch = case
    found = explain.attribute(model, batch, method=method, target=1, **having(method, {"n_samples": 40, **options}))
    file = found.save(tmp_path / "new")
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()["explain"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    for name in ("time_unit", "layout"):
        del header["result"][name]
    for name in ("times", "peaks"):
        del header["result"]["target"][name]
    tensors["time"] = found.map.abs().sum(dim=(2, 3))
    save_file(tensors, tmp_path / "old.safetensors", metadata={"explain": json.dumps(header)})
    old = Attribution.load(tmp_path / "old")
    assert old.time_unit == found.time_unit
    assert torch.allclose(old.time, found.time)
    assert torch.equal(Attribution.load(file).time, found.time)

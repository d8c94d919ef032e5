import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from zoo.errors import UsageError
from zoo_sequence_convlstm import data, evaluation


class Linear(nn.Module):
    """The last frame and its change again, as one of the controls."""

    def forward(self, x):
        return evaluation.extrapolated(x)


class Fading(nn.Module):
    """Half of the last frame."""

    def forward(self, x):
        return x[:, :, -1:] / 2


@pytest.fixture(scope="module", autouse=True)
def few():
    """The tables of controls take most of the time: made once."""
    yield
    evaluation._chosen.cache_clear()


def test_measures_are_those_of_their_definitions():
    numbers = torch.Generator().manual_seed(0)
    predicted, targets = (torch.rand(3, 1, 1, 36, 36, generator=numbers) for _ in range(2))
    found = evaluation.measure(predicted, targets)
    for at in range(3):
        one, other = predicted[at, 0, 0].double().numpy(), targets[at, 0, 0].double().numpy()
        error = sum((one[row, column] - other[row, column]) ** 2 for row in range(36) for column in range(36)) / 36**2
        assert float(found["squared error"][at]) == pytest.approx(error, rel=1e-12)
        assert float(found["PSNR"][at]) == pytest.approx(peak_signal_noise_ratio(other, one, data_range=1), rel=1e-12)
        alike = structural_similarity(
            one, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
        )
        assert float(found["SSIM"][at]) == pytest.approx(alike, rel=1e-12)
    same = evaluation.measure(targets, targets)
    assert same["SSIM"].tolist() == pytest.approx([1, 1, 1])
    assert same["PSNR"].isfinite().all()


def test_a_roll_out_is_fed_what_was_predicted():
    start = torch.rand(2, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    found = evaluation.roll_out(Fading(), start, 3)
    assert found.shape == (2, 1, 3, 4, 4)
    for step in range(3):
        torch.testing.assert_close(found[:, :, step], start[:, :, 1] / 2 ** (step + 1))


@pytest.mark.parametrize(("frames", "steps"), [(1, 2), (3, 2), (2, 0)])
def test_a_roll_out_of_another_length_is_refused(frames, steps):
    with pytest.raises(UsageError, match=f"{steps} steps from 1 x 1 x {frames} x 4 x 4; expected one or more from"):
        evaluation.roll_out(Fading(), torch.rand(1, 1, frames, 4, 4), steps)


def test_a_network_is_measured_beside_its_controls(mnist):
    found = evaluation.evaluate(Linear(), torch.device("cpu"), 60)
    metrics = {one["name"]: one["value"] for one in found["metrics"]}
    assert list(metrics) == [f"{name} {one}" for name in ("N6", "N3") for one in evaluation.MEASURES]
    assert found["clips_measured"] == 60
    controls = {row["control"]: row for row in found["breakdown"]["controls"]}
    alike = controls["the frame before and its last change"]
    assert {name: alike[name] for name in metrics} == metrics
    # full precision by hand, of the windows of N3
    chosen = evaluation._chosen(60, str(data.mnist.data_folder()))
    own = chosen.of_set["N3"]
    again = (2 * chosen.inputs[own, :, 1:] - chosen.inputs[own, :, :1]).clamp(0, 1).double()
    error = (again - chosen.targets[own].double()).square().mean(dim=(1, 2, 3, 4))
    assert metrics["N3 squared error"] == pytest.approx(float(error.mean()), rel=1e-3)
    assert metrics["N3 PSNR"] == pytest.approx(float((-10 * error.log10()).mean()), rel=1e-3)
    before, clean = controls["the frame before"], controls["the true frame without noise"]
    constant = {row["constant answer"]: row for row in found["breakdown"]["constant answers"]}
    for name in ("N6", "N3"):
        key = f"{name} squared error"
        assert clean[key] < before[key] < constant["the mean frame"][key] < constant["an empty image"][key]
        noise = 0.03 / (data.scale().high - data.scale().low)
        assert clean[key] == pytest.approx(noise**2, rel=0.1)
    frames = {row["frame"]: row for row in found["breakdown"]["frame"]}
    assert set(frames) == {"the 4th, interpolated", "the 16th, extrapolated"}
    horizons = found["breakdown"]["horizon"]
    assert [row["horizon"] for row in horizons] == list(range(1, 15))
    assert horizons[13]["N6 squared error"] > 4 * horizons[0]["N6 squared error"]
    assert all(math.isfinite(value) for row in horizons for value in row.values())


def test_the_first_windows_are_a_share_of_both_sets_and_no_more_than_there_are(mnist):
    chosen = evaluation._chosen(60, str(data.mnist.data_folder()))
    assert 10 < int(chosen.of_set["N6"].sum()) < 35
    assert bool((chosen.of_set["N6"] ^ chosen.of_set["N3"]).all())
    for count in (0, 2_201):
        with pytest.raises(UsageError, match="1 to 2,200 can be measured"):
            evaluation.evaluate(Linear(), torch.device("cpu"), count)

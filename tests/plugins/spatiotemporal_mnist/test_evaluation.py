import pytest
import torch
from torch import nn

from zoo_spatiotemporal_mnist import blinking, evaluation, sampling

CPU = torch.device("cpu")


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


class Constant(nn.Module):
    """Says digit 3, order 2 and speed 4 of every clip."""

    def forward(self, x):
        assert x.dtype == torch.float32
        assert x.max() <= 1
        count = len(x)
        digit, order = torch.zeros(count, 10), torch.zeros(count, 6)
        digit[:, 3] = order[:, 2] = 1
        return {"digit": digit, "order": order, "speed": torch.full((count, 1), 4.0)}


def test_metrics_and_breakdown_are_those_of_the_clips(mnist):
    _, parameters = blinking.fixed_clips("test", 120)
    found = evaluation.evaluate(Constant(), CPU, count=120)
    values = {metric["name"]: metric["value"] for metric in found["metrics"]}
    assert values == {
        "digit accuracy": round((parameters.digit == 3).double().mean().item(), 4),
        "order accuracy": round((parameters.order == 2).double().mean().item(), 4),
        "speed mean absolute error": round((parameters.speed - 4).abs().double().mean().item(), 4),
    }
    assert all((metric["dataset"], metric["split"]) == ("blinking_mnist", "test") for metric in found["metrics"])
    breakdown = found["breakdown"]
    for rows in breakdown.values():
        assert sum(row["clips"] for row in rows) == 120
    assert [row["digit accuracy"] for row in breakdown["digit"]] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert breakdown["order"][2]["order"] == "1-4-2-3"
    assert breakdown["order"][2]["order accuracy"] == 1
    assert all(row["speed mean absolute error"] == abs(row["speed"] - 4) for row in breakdown["speed and period"])


def test_the_bundled_samples_are_written_anew_byte_for_byte(mnist, tmp_path):
    labels = sampling.write(tmp_path / "again.safetensors")
    bundled = evaluation.files("zoo_spatiotemporal_mnist").joinpath("samples/blinking_mnist.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == bundled.read_bytes()
    assert labels[0] == "digit 4, order 1-2-3-4, 2 pixels per frame, visible every frame"
    assert labels[1] == "digit 3, order 1-3-2-4, 2 pixels per frame, visible every 2 frames"


def test_the_example_is_the_first_sample_as_a_batch():
    batch = evaluation.example()
    assert batch.shape == (1, 1, 48, 64, 64)
    assert batch.dtype == torch.float32
    assert 0.9 < batch.max() <= 1
    assert (batch[0, 0].amax((1, 2)) > 0).all()

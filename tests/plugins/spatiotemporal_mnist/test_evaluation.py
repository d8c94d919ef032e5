from importlib.resources import files

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import UsageError
from zoo_spatiotemporal_mnist import blinking, evaluation, sampling

CPU = torch.device("cpu")


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


class Stub(nn.Module):
    """Says digit 3, order 2 and speed 4.4 of every clip; notes the clips it is shown."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, x):
        assert x.dtype == torch.float32
        assert x.max() <= 1
        assert not self.training
        self.seen.append(x)
        digit, order = torch.zeros(len(x), 10), torch.zeros(len(x), 6)
        digit[:, 3] = order[:, 2] = 1
        return {"digit": digit, "order": order, "speed": torch.full((len(x), 1), 4.4)}


def slowly(parameters):
    """The metrics of `Stub`, clip by clip."""
    count = len(parameters)
    return {
        "digit accuracy": sum(digit == 3 for digit in parameters.digit.tolist()) / count,
        "order accuracy": sum(order == 2 for order in parameters.order.tolist()) / count,
        "speed mean absolute error": sum(abs(speed - 4.4) for speed in parameters.speed.tolist()) / count,
        "rounded speed accuracy": sum(speed == 4 for speed in parameters.speed.tolist()) / count,
    }


def test_metrics_and_every_table_are_those_of_the_clips(mnist):
    images, parameters = blinking.fixed_set("test", 80)
    clips = blinking.render(images, parameters)
    stub = Stub()
    found = evaluation.evaluate(stub, CPU, 80)
    assert torch.equal(torch.cat(stub.seen), clips.float() / 255)
    assert found["clips_measured"] == 80
    assert {metric["name"]: metric["value"] for metric in found["metrics"]} == pytest.approx(
        slowly(parameters), abs=6e-5
    )
    assert all((metric["dataset"], metric["split"]) == ("blinking_mnist", "test") for metric in found["metrics"])
    assert list(found["breakdown"]) == ["speed", "period", "digit", "order", "speed and period"]
    for name, rows in found["breakdown"].items():
        by = name.split(" and ")
        keys = []
        for row in rows:
            key = [blinking.ORDER_LABELS.index(row[one]) if one == "order" else row[one] for one in by]
            keys.append(key)
            chosen = torch.ones(80, dtype=torch.bool)
            for one, value in zip(by, key, strict=True):
                chosen &= getattr(parameters, one) == value
            assert row["clips"] == chosen.sum() > 0
            assert set(row) == {*by, "clips", *evaluation.METRICS}
            assert {metric: row[metric] for metric in evaluation.METRICS} == pytest.approx(
                slowly(parameters[chosen]), abs=6e-5
            )
        assert keys == sorted(keys)
        assert sum(row["clips"] for row in rows) == 80


def test_a_network_is_left_in_eval_mode_and_as_it_was_found(mnist):
    network = zoo.load("conv2d", weights=None)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluation.evaluate(network.train(), CPU, 2)
    assert not any(part.training for part in network.modules())
    assert all(value.requires_grad and value.grad is None for value in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_first_clips_are_the_same_whatever_the_count_and_the_batch(mnist):
    few, more = Stub(), Stub()
    evaluation.evaluate(few, CPU, 3, batch_size=2)
    evaluation.evaluate(more, CPU, 5, batch_size=4)
    assert [len(batch) for batch in few.seen + more.seen] == [2, 1, 4, 1]
    assert torch.equal(torch.cat(few.seen), torch.cat(more.seen)[:3])


@pytest.mark.parametrize(("split", "count"), [("test", 0), ("test", -1), ("test", 10_001), ("validation", 5_001)])
def test_no_more_clips_are_measured_than_there_are(mnist, split, count):
    with pytest.raises(UsageError, match=rf"blinking_mnist {split}: 1 to (10,000|5,000) can be measured"):
        evaluation.evaluate(Stub(), CPU, count, split=split)


def test_progress_shows_on_a_terminal_alone(mnist, capsys):
    evaluation.evaluate(Stub(), CPU, 2)
    assert capsys.readouterr() == ("", "")


def test_the_bundled_samples_are_written_anew_byte_for_byte(mnist, tmp_path):
    labels = sampling.write(tmp_path / "again.safetensors")
    bundled = files("zoo_spatiotemporal_mnist").joinpath("samples/blinking_mnist.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == bundled.read_bytes()
    assert labels[0] == "digit 4, order 1-2-3-4, 2 pixels per frame, visible every frame"
    assert labels[1] == "digit 3, order 1-3-2-4, 2 pixels per frame, visible every 2 frames"

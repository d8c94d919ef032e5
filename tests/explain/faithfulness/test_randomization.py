"""Random parameters: which, how, and back again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from explain.faithfulness.randomization import chosen_depths, randomized, rank_correlation, weight_layers
from explain.model.preservation import prepared
from explain.model.targets import Score, resolve
from zoo.errors import ModelError


def layers(model, batch, target=None):
    with prepared(model):
        score = Score(model, resolve(model, batch, target))
        return weight_layers(model, score, batch[:1], torch.tensor([0]))


def test_layers_come_in_the_order_they_run_the_last_first(nets):
    found = layers(nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6), "digit")
    assert list(found) == ["digit", "lstm", "block.1", "block.0", "stem.1", "stem.0"]
    assert found["digit"] == ("digit.weight", "digit.bias")
    assert len(found["lstm"]) == 4


def test_layers_that_the_number_does_not_depend_on_are_left_out(nets):
    batch = torch.randn(1, 1, 4, 6, 6)
    assert "digit" not in layers(nets.TwoHeads(), batch, "speed")
    assert list(layers(nets.TwoHeads(), batch, "block.0/1")) == ["block.0", "stem.1", "stem.0"]


def test_parameters_of_modules_that_do_not_run_count_for_what_reads_them():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(48, 3)
            self.outer = nn.Linear(3, 2)

        def forward(self, x):
            return self.outer(nn.functional.linear(x.flatten(1), self.inner.weight))

    assert layers(Reader(), torch.randn(1, 1, 3, 4, 4)) == {
        "outer": ("outer.weight", "outer.bias"),
        "": ("inner.weight",),
    }


def test_without_parameters_nothing_can_be_randomised():
    with pytest.raises(ModelError, match="no parameter"):
        layers(nn.Flatten(), torch.randn(1, 1, 3, 4, 4))


def test_noise_has_the_size_of_what_it_stands_for(nets):
    model = nn.Linear(200, 100)
    nn.init.constant_(model.bias, 0.0)
    before = copy.deepcopy(model.state_dict())
    with randomized(model, ["weight", "bias"], seed=0):
        weight = model.weight.detach()
        assert float(weight.square().mean() / before["weight"].square().mean()) == pytest.approx(1, rel=0.05)
        assert abs(float(torch.corrcoef(torch.stack([weight.flatten(), before["weight"].flatten()]))[0, 1])) < 0.03
        assert float(model.bias.detach().abs().max()) == 0.0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_the_parameters_held_is_never_written_to(nets):
    model = nets.TwoHeads()
    numbers = {name: (one, one.data_ptr(), one._version) for name, one in model.named_parameters()}
    with pytest.raises(KeyboardInterrupt), randomized(model, list(numbers), seed=0):  # noqa: PT012 - the first line is what fails
        assert model.digit.weight.data_ptr() != numbers["digit.weight"][1]
        raise KeyboardInterrupt
    assert {name: (one, one.data_ptr(), one._version) for name, one in model.named_parameters()} == numbers


def test_noise_depends_on_seed_and_place_alone(nets):
    model = nets.TwoHeads()
    with randomized(model, ["digit.weight"], seed=0):
        alone = model.digit.weight.detach().clone()
    with randomized(model, ["speed.weight", "digit.weight", "lstm.bias_hh_l0"], seed=0):
        assert torch.equal(model.digit.weight, alone)
    with randomized(model, ["digit.weight"], seed=1):
        assert not torch.equal(model.digit.weight, alone)


def test_depths_are_the_last_layer_all_and_evenly_between():
    assert chosen_depths(5, None) == [1, 2, 3, 4, 5]
    assert chosen_depths(3, 4) == [1, 2, 3]
    assert chosen_depths(21, 4) == [1, 7, 14, 21]
    assert chosen_depths(9, 1) == [1]


def test_rank_correlation_is_spearmans():
    first = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 2.0, 3.0, 9.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    second = torch.tensor([[10.0, 8.0, 9.0, 7.0, 1.0], [0.0, 5.0, 6.0, 6.0, 7.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    ranks = torch.tensor([[1.0, 2.5, 2.5, 4.0, 5.0], [1.0, 2.0, 3.5, 3.5, 5.0]])
    found = rank_correlation(first, second)
    assert float(found[0]) == pytest.approx(1 - 6 * (4**2 + 1 + 1 + 2**2 + 4**2) / (5 * 24))
    assert float(found[1]) == pytest.approx(float(torch.corrcoef(ranks)[0, 1]))
    assert torch.isnan(found[2])
    assert float(rank_correlation(second[2:], first[2:])) == 0.0
    assert torch.isnan(rank_correlation(first[:1], first[:1] / 0))


def test_what_no_map_can_point_at_makes_none_agree():
    first, second = torch.zeros(2, 1, 100)
    first[0, :3], second[0, :3] = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0])
    assert float(rank_correlation(first, second)) > 0.9
    assert float(rank_correlation(first, second, seen=True)) == pytest.approx(-1)
    assert torch.isnan(rank_correlation(0 * first, 0 * second, seen=True))

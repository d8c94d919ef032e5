import captum.attr
import pytest
import torch

import explain
from explain.attribution.options import RULES
from zoo.errors import UnknownNameError, UsageError


def test_of_a_quadratic_is_a_times_the_difference_of_squares(nets):
    model, batch, baseline = nets.QuadraticClips(), torch.randn(2, 1, 3, 4, 4), torch.randn(1, 1, 3, 4, 4)
    result = explain.attribute(model, batch, method="integrated_gradients", baseline=baseline, n_steps=2)
    assert torch.allclose(result.raw, model.a.detach() * (batch.square() - baseline.square()), atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_exact_on_a_linear_model(nets, rule):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    result = explain.attribute(model, batch, method="integrated_gradients", target=0, n_steps=5, integration=rule)
    assert torch.allclose(result.raw, model.weight[0].detach() * batch, atol=1e-6)
    assert result.delta.abs().max() < 1e-5


def test_is_complete_from_a_baseline_other_than_zero_on_a_network_with_random_statistics(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    options = {"method": "integrated_gradients", "target": "digit:1", "baseline": 0.7}
    result = explain.attribute(model, batch, n_steps=64, **options)
    model.eval()
    with torch.no_grad():
        difference = (model(batch)["digit"] - model(torch.full_like(batch, 0.7))["digit"])[:, 1]
    total = result.raw.sum(dim=(1, 2, 3, 4))
    assert difference.abs().min() > 1e-3
    assert torch.allclose(total, difference, rtol=0.02)
    assert torch.allclose(result.delta, total - difference, atol=1e-9)
    coarse = explain.attribute(model, batch, n_steps=1, **options)
    assert coarse.delta.abs().max() > 10 * result.delta.abs().max()


def test_equals_captum(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    expected, delta = captum.attr.IntegratedGradients(lambda x: model(x)["speed"]).attribute(
        batch, baselines=0.3, n_steps=7, return_convergence_delta=True
    )
    result = explain.attribute(
        model, batch, method="integrated_gradients", target="speed", baseline=0.3, n_steps=7, batch_size=4
    )
    assert torch.allclose(result.raw, expected, rtol=1e-6, atol=1e-9)
    assert torch.allclose(result.delta, delta, atol=1e-6)


def test_batches_change_nothing(nets):
    model, batch = nets.TwoHeads(), torch.randn(3, 1, 4, 6, 6)
    results = [
        explain.attribute(model, batch, method="integrated_gradients", n_steps=5, batch_size=size).raw
        for size in (1, 2, 4, 15)
    ]
    for result in results[1:]:
        assert torch.allclose(result, results[0], atol=1e-12)


def test_unknown_rules_and_too_few_steps_are_refused(nets):
    model, batch = nets.QuadraticClips(), torch.randn(1, 1, 3, 4, 4)
    with pytest.raises(UnknownNameError, match="gausslegendre"):
        explain.attribute(model, batch, method="integrated_gradients", integration="gauss_legendre")
    with pytest.raises(UsageError, match="at least 2"):
        explain.attribute(model, batch, method="integrated_gradients", n_steps=1, integration="riemann_left")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_the_delta_is_what_both_ends_say_under_every_rule(nets, rule, size):
    model, batch, steps = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6), []
    result = explain.attribute(
        model,
        batch,
        method="integrated_gradients",
        target="digit:1",
        baseline="mean_frame",
        n_steps=4,
        integration=rule,
        batch_size=size,
        progress=lambda done, total: steps.append((done, total)),
    )
    model.eval()
    with torch.no_grad():
        still = batch.mean(dim=2, keepdim=True).expand_as(batch)
        difference = (model(batch)["digit"] - model(still)["digit"])[:, 1]
    assert torch.allclose(result.delta, result.raw.sum(dim=(1, 2, 3, 4)) - difference, atol=1e-9)
    from_baseline = rule in {"riemann_left", "riemann_trapezoid"}
    assert steps[-1] == (2 * (4 + (not from_baseline)),) * 2

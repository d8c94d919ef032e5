import pytest
import torch

import explain
from explain.attribution.options import SMOOTHED
from explain.attribution.path_gradients import NOISE
from zoo.errors import UnknownNameError


def test_gradient_shap_of_a_linear_model_is_weight_times_the_mean_difference(nets):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    result = explain.attribute(model, batch, method="gradient_shap", target=1, baseline=[0.2, 0.6], n_samples=4)
    assert torch.allclose(result.raw, model.weight[1].detach() * (batch - 0.4))
    assert result.delta.abs().max() < 1e-12


def test_gradient_shap_nears_integrated_gradients_with_its_draws(nets):
    model, batch = nets.QuadraticClips(), torch.randn(2, 1, 3, 4, 4)
    exact = model.a.detach() * (batch.square() - 0.25)
    errors = [
        (explain.attribute(model, batch, method="gradient_shap", baseline=0.5, n_samples=draws).raw - exact).abs().max()
        for draws in (2, 64)
    ]
    assert errors[1] < 0.1 * errors[0]
    assert errors[1] < 0.05


def test_gradient_shap_draws_by_its_seed(nets):
    model, batch = nets.QuadraticClips(), torch.randn(1, 1, 3, 4, 4)
    first, again, other = (
        explain.attribute(model, batch, method="gradient_shap", baseline=0.5, n_samples=2, seed=seed).raw
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_mean_frame_of_an_image_is_no_baseline(nets):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    batch = torch.randn(1, 1, 6, 6)
    usual = explain.attribute(model, batch, method="gradient_shap", n_samples=4).raw
    named = explain.attribute(model, batch, method="gradient_shap", n_samples=4, baseline=["zero", "blur"]).raw
    assert torch.equal(usual, named)


def test_smooth_grad_of_a_quadratic_is_its_gradient_with_the_mean_of_the_noise(nets):
    model, batch = nets.QuadraticClips(), torch.randn(2, 1, 3, 4, 4)
    result = explain.attribute(model, batch, method="smooth_grad", n_samples=400)
    spread = (batch.flatten(1).amax(dim=1) - batch.flatten(1).amin(dim=1)).view(2, 1, 1, 1, 1)
    mean = result.raw / (2 * model.a.detach()) - batch  # the mean of 400 draws of the noise
    assert mean.std() == pytest.approx(float(NOISE * spread.mean()) / 20, rel=0.3)
    assert (result.map >= 0).all()


@pytest.mark.parametrize("method", SMOOTHED)
def test_smooth_grad_of_a_linear_model_is_the_method_itself_but_for_the_input(nets, having, method):
    model, batch = nets.Rectified(), torch.randn(1, 1, 4, 6, 6)
    options = having(method, {"target": "digit:1", "n_steps": 2})
    smoothed = explain.attribute(model, batch, method="smooth_grad", smooth=method, n_samples=2, **options)
    plain = explain.attribute(model, batch, method=method, **options)
    assert smoothed.settings["smooth"] == method
    assert (smoothed.map.min() < 0) == (plain.map.min() < 0)  # its reduction
    assert torch.cosine_similarity(smoothed.raw.flatten(), plain.raw.flatten(), dim=0) > 0.5
    assert not torch.allclose(smoothed.raw, plain.raw)


def test_batches_change_nothing(nets):
    model, batch = nets.TwoHeads(), torch.randn(3, 1, 4, 6, 6)
    for method in ("smooth_grad", "gradient_shap"):
        results = [
            explain.attribute(model, batch, method=method, n_samples=6, batch_size=size).raw for size in (1, 4, 18)
        ]
        for result in results[1:]:
            assert torch.allclose(result, results[0], atol=1e-12)


def test_what_is_no_gradient_cannot_be_smoothed(nets):
    with pytest.raises(UnknownNameError, match="saliency"):
        explain.attribute(nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6), method="smooth_grad", smooth="occlusion")

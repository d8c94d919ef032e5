"""What is said of networks that mix positions by attention."""

from __future__ import annotations

import pytest
import torch

import explain
import zoo
from zoo.errors import ModelError


@pytest.fixture(scope="module")
def swin():
    return zoo.load("swin_t", weights=None)


@pytest.fixture(scope="module")
def photo():
    return torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def test_grad_cam_chooses_no_layer_of_a_swin_transformer(swin, photo):
    with pytest.raises(ModelError, match=r"features\.0\.0 cuts the clip into patches .* name a layer"):
        explain.attribute(swin, photo, method="grad_cam")


def test_grad_cam_reads_the_last_map_of_a_swin_transformer(swin, photo):
    kept = []
    handle = swin.features[7].register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    score = swin(photo)[0, 5]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    expected = (gradient.mean(dim=(1, 2), keepdim=True) * kept[0]).sum(dim=-1).detach()
    result = explain.attribute(swin, photo, method="grad_cam", layer="features.7", target=5)
    assert expected.shape == (1, 3, 2)
    assert torch.allclose(result.raw[:, 0, 0], expected, atol=1e-6)
    assert result.map.shape == (1, 1, 96, 64)

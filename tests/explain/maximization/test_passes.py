import torch
from torch import nn

from explain.maximization.passes import redirected


def gradient(model, x, weights):
    x = x.clone().requires_grad_()
    return torch.autograd.grad((model(x) * weights).sum(), x)[0]


def test_only_samples_that_let_nothing_through_get_what_would_raise_them():
    model = nn.Sequential(nn.ReLU())
    x = torch.tensor([[-1.0, 2.0, -3.0], [-1.0, -2.0, -3.0]])
    weights = torch.tensor([5.0, 7.0, -2.0])
    with redirected(model):
        within = gradient(model, x, weights)
        assert torch.equal(model(x), x.clamp(min=0))
    assert torch.equal(within, torch.tensor([[0.0, 7.0, 0.0], [5.0, 7.0, 0.0]]))
    assert torch.equal(gradient(model, x, weights)[1], torch.zeros(3))
    assert "forward" not in vars(model[0])

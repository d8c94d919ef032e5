"""What the layers say of themselves, and what a fit finds in their kernels alone."""

import torch

import explain
import zoo
from explain import temporal
from zoo_tconv3.layer import IDENTITY, TConv3d, fold


def test_a_layer_speaks_for_itself():
    network = torch.nn.Sequential(TConv3d(2, 3, (4, 5, 5)))
    with torch.no_grad():
        network[0].rotation.fill_(0.5)
        network[0].translate_x.fill_(0.25)
    (found,) = explain.temporal_parameters(network).layers.values()
    assert found.kind == "3tconv"
    assert found.kernel_size == (4, 5, 5)
    for name in IDENTITY:
        assert torch.equal(getattr(found, name), getattr(network[0], name).detach().double())
    assert (found.pattern().rotation < 0).all()  # counter-clockwise
    assert (found.pattern().x_pixels == -0.5).all()  # to the left


def test_the_fit_finds_the_parameters_of_a_trained_network_in_its_kernels_alone():
    network = zoo.load("3t_resnet18_w16.motion_mnist")
    told = explain.temporal_parameters(network).layers
    fitted = explain.temporal_parameters(fold(network)).layers
    assert told.keys() == fitted.keys()
    for name, own in told.items():
        fit = fitted[name]
        assert (own.kind, fit.kind) == ("3tconv", "fit")
        assert fit.identified.double().mean() > 0.95
        for parameter in IDENTITY:
            error = (getattr(own, parameter) - getattr(fit, parameter)).abs()[fit.identified]
            assert error.max() < 2e-7


def test_kernels_are_read_as_the_layer_builds_them():
    layer = TConv3d(2, 3, 3)
    assert torch.equal(temporal.kernel_of(layer), layer.kernel().detach())

import pytest
import torch

import zoo
from zoo.errors import UsageError
from zoo_tconv3.layer import TConv3d, fold
from zoo_tconv3.networks import build

#: Published (spec: all eight exact; GoogLeNet's with its auxiliary heads).
COUNTS = {
    ("resnet18", "3t"): {27: 11_222_619, 101: 11_260_581},
    ("resnet18", "3d"): {27: 33_217_755, 101: 33_255_717},
    ("googlenet", "3t"): {27: 7_419_121, 101: 7_646_671},
    ("googlenet", "3d"): {27: 14_078_833, 101: 14_306_383},
}


@pytest.mark.parametrize(("design", "kernel"), COUNTS)
@pytest.mark.parametrize("classes", [27, 101])
def test_parameters_are_as_many_as_published(design, kernel, classes):
    with torch.device("meta"):
        network = build(design=design, kernel=kernel, classes=classes)
    assert sum(value.numel() for value in network.parameters()) == COUNTS[design, kernel][classes]


@pytest.mark.parametrize("size", [(150, 224), (168, 224)])
@pytest.mark.parametrize("design", ["resnet18", "googlenet"])
def test_both_published_clips_pass(design, size):
    with torch.device("meta"):
        network = build(design=design, kernel="3d", classes=27)
        clip = torch.empty(1, 3, 30, *size)
    assert network(clip).shape == (1, 27)
    if design == "googlenet":
        assert [guess.shape for guess in network.forward_auxiliary(clip)] == [(1, 27)] * 3


def lengths(network, clip, layers):
    """Frames after each layer."""
    found = {}
    handles = [
        dict(network.named_modules())[name].register_forward_hook(
            lambda _module, _args, out, name=name: found.__setitem__(name, out.shape[2])
        )
        for name in layers
    ]
    network(clip)
    for handle in handles:
        handle.remove()
    return [found[name] for name in layers]


def test_time_shrinks_as_published():
    with torch.device("meta"):
        clip = torch.empty(1, 3, 30, 150, 224)
        resnet = build(design="resnet18", kernel="3d", classes=27)
        googlenet = build(design="googlenet", kernel="3d", classes=27)
    layers = ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    assert lengths(resnet, clip, layers) == [15, 8, 8, 4, 2, 1]
    assert lengths(googlenet, clip, ["conv1", "maxpool2", "maxpool3", "maxpool4"]) == [15, 15, 7, 3]


def sizes(pool):
    """Extent, stride and padding, each along T, H and W."""
    found = (pool.kernel_size, pool.stride, pool.padding)
    return tuple(size if isinstance(size, tuple) else (size,) * 3 for size in found)


def test_pools_and_dropout_are_the_published_ones():
    with torch.device("meta"):
        resnet, googlenet = (build(design=design, kernel="3d", classes=27) for design in ("resnet18", "googlenet"))
    whole, flat, none, one = (3, 3, 3), (1, 3, 3), (0, 0, 0), (1, 1, 1)
    pools = {name: part for name, part in googlenet.named_modules() if isinstance(part, torch.nn.MaxPool3d)}
    assert {name: sizes(pool) for name, pool in pools.items() if "." not in name} == {
        "maxpool1": (flat, (1, 2, 2), none),
        "maxpool2": (flat, (1, 2, 2), none),
        "maxpool3": (whole, (2, 2, 2), none),
        "maxpool4": (whole, (2, 2, 2), none),
    }
    assert [sizes(pool) for name, pool in pools.items() if "." in name] == [(whole, one, one)] * 9
    assert {sizes(head.pool) for head in (googlenet.auxiliary1, googlenet.auxiliary2)} == {((5,) * 3, whole, none)}
    assert sizes(resnet.maxpool) == (whole, (2, 2, 2), one)
    dropped = {name: part.p for name, part in googlenet.named_modules() if isinstance(part, torch.nn.Dropout)}
    assert dropped == {"auxiliary1.dropout": 0.7, "auxiliary2.dropout": 0.7, "dropout": 0.4}


@pytest.mark.parametrize(("design", "count"), [("resnet18", 17), ("googlenet", 20)])
def test_convolutions_that_extend_in_time_are_3tconvs_and_the_shortcuts_are_not(design, count):
    network = build(design=design, kernel="3t", classes=9, narrowed=4)
    assert sum(isinstance(part, TConv3d) for part in network.modules()) == count
    assert all(part.kernel_size == (1, 1, 1) for part in network.modules() if isinstance(part, torch.nn.Conv3d))


@pytest.mark.parametrize("name", ["3t_resnet18_w16", "3t_googlenet_w16"])
def test_a_folded_network_says_the_same(name):
    network = zoo.load(name, weights=None).double()
    clip = torch.rand(1, 1, 16, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fold(network)(clip), network(clip))


def test_auxiliary_heads_are_for_training_alone():
    network = build(design="googlenet", kernel="3t", classes=9, narrowed=4, in_channels=1).eval()
    clip = torch.rand(1, 1, 16, 64, 64)
    with torch.no_grad():
        logits, *auxiliary = network.forward_auxiliary(clip)
        assert torch.equal(logits, network(clip))
    assert [guess.shape for guess in auxiliary] == [(1, 9), (1, 9)]


def test_the_network_of_images_is_a_resnet():
    network = build(design="resnet18", kernel="2d", classes=10, narrowed=4, in_channels=1)
    assert network(torch.rand(2, 1, 64, 64)).shape == (2, 10)
    with pytest.raises(UsageError, match="only resnet18"):
        build(design="googlenet", kernel="2d", classes=10)

import pytest
import torch
from torch import nn

import explain
import zoo
from zoo.errors import ClipError
from zoo_stdcf import networks
from zoo_stdcf.layer import Stdcf, with_tempo


def count(network):
    return sum(value.numel() for value in network.parameters())


#: Of the tables, without and with biases of convolutions.
AUTOENCODERS = {"stdcf": (1_590, 1_611), "rank1": (1_248, 1_293), "3d": (2_376, 2_397)}
ACTIONS = {"stdcf": (28_961, 29_073), "rank1": (42_262, 42_486), "3d": (79_446, 79_558)}


@pytest.mark.parametrize("kernel", AUTOENCODERS)
def test_the_networks_of_tables_a_and_b_have_the_parameters_of_the_tables(kernel):
    built = [networks.autoencoder(kernel=kernel, bias=bias) for bias in (False, True)]
    assert tuple(map(count, built)) == AUTOENCODERS[kernel]
    built = [networks.action(kernel=kernel, classes=6, bias=bias) for bias in (False, True)]
    assert tuple(map(count, built)) == ACTIONS[kernel]


@pytest.mark.parametrize(
    ("atoms", "kinetics", "something"),
    [
        ((5, 3), 31_910_960, 31_447_886),
        ((6, 3), 35_683_520, 35_220_446),
        ((5, 2), 25_623_552, 25_160_478),
        ((3, 3), 24_365_840, 23_902_766),
    ],
)
def test_stdcf_r50_has_the_parameters_of_its_atoms(atoms, kinetics, something):
    with torch.device("meta"):
        built = [
            networks.resnet50(classes=classes, spatial_atoms=atoms[0], temporal_atoms=atoms[1])
            for classes in (400, 174)
        ]
    assert list(map(count, built)) == [kinetics, something]


def test_stdcf_r50_keeps_frames_and_shrinks_the_picture_as_table_c_says():
    with torch.device("meta"):
        network = networks.resnet50(classes=400, spatial_atoms=5, temporal_atoms=3)
        x = network.maxpool(network.conv1(torch.empty(1, 3, 8, 224, 224)))
        assert x.shape == (1, 64, 8, 56, 56)
        for stage, (width, side) in zip(
            (network.res2, network.res3, network.res4, network.res5),
            ((256, 56), (512, 28), (1024, 14), (2048, 7)),
            strict=True,
        ):
            x = stage(x)
            assert x.shape == (1, width, 8, side, side)
    strides = [part.stride for part in network.modules() if isinstance(part, Stdcf)]
    assert [index for index, stride in enumerate(strides) if stride != (1, 1, 1)] == [3, 7, 13]
    assert len(strides) == 16


@pytest.mark.parametrize("kernel", AUTOENCODERS)
def test_the_autoencoder_halves_and_doubles_as_table_a_says(kernel):
    network = networks.autoencoder(kernel=kernel)
    x = torch.rand(2, 1, 8, 28, 28)
    shapes = []
    for layer in (network.conv1, network.conv2, network.deconv1, network.deconv2, network.conv3):
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 4, 14, 14), (8, 2, 7, 7), (4, 4, 14, 14), (4, 8, 28, 28), (1, 8, 28, 28)]


@pytest.mark.parametrize("kernel", ACTIONS)
def test_features_are_the_64_numbers_behind_conv3(kernel):
    torch.manual_seed(0)
    network = networks.action(kernel=kernel, classes=6).eval()
    with torch.no_grad():
        clip = torch.rand(2, 1, 8, 16, 16)
        by_hand = clip
        for number in (1, 2, 3):  # as the table has it: convolution, ReLU, max-pooling
            by_hand = getattr(network, f"pool{number}")(getattr(network, f"conv{number}")(by_hand).relu())
        assert network.features(clip).shape == (2, 64)
        torch.testing.assert_close(network.features(clip), by_hand.mean((2, 3, 4)), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(network(clip), network.fc(by_hand.mean((2, 3, 4))), rtol=1e-5, atol=1e-6)


def test_nothing_stands_between_a_rank_1_pair():
    network = networks.action(kernel="rank1", classes=6)
    assert len(network.conv2) == 2
    assert [part.kernel_size for part in network.conv2] == [(1, 3, 3), (5, 1, 1)]


@pytest.mark.parametrize("kernel", ACTIONS)
def test_what_layers_see_is_read_off_every_kernel(kernel):
    network = networks.action(kernel=kernel, classes=6).eval()
    last = {one.layer: one for one in explain.receptive_fields(network, (1, 1, 16, 32, 32))}["pool3"]
    assert (last.field, last.stride) == ((16, 22, 22), (4, 8, 8))
    if kernel == "stdcf":
        slow = {one.layer: one for one in explain.receptive_fields(with_tempo(network, 2), (1, 1, 32, 32, 32))}
        assert slow["conv1"].field == (9, 3, 3)
        assert slow["conv2"].field == (17, 8, 8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_what_is_convolved_in_time_as_images_is_what_torch_convolves(layout):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 5, 4, dtype=torch.float64).to(memory_format=layout)
    for pair, plain in (
        (networks.convolution("rank1", 3, 7, 5, networks.Atoms(5, 3), stride=2, bias=True), nn.Conv3d.forward),
        (networks.transposed("rank1", 3, 7, networks.Atoms(5, 3), bias=True), nn.ConvTranspose3d.forward),
    ):
        in_space, in_time = pair.double()
        nn.init.normal_(in_time.bias)
        assert in_time.training
        between = in_space(x)
        torch.testing.assert_close(in_time(between), plain(in_time, between), rtol=1e-12, atol=1e-12)


def test_all_kernels_start_with_equal_variance():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 12, 20, 20)
    for kernel in ("stdcf", "rank1", "3d"):
        inside = networks.convolution(kernel, 32, 64, 3, networks.Atoms(5, 2))(x)[:, :, 1:-1, 1:-1, 1:-1]
        assert inside.detach().var().item() == pytest.approx(1, abs=0.25), kernel
        up = networks.transposed(kernel, 32, 64, networks.Atoms(5, 3))(x)[:, :, 2:-2, 2:-2, 2:-2]
        assert up.detach().var().item() == pytest.approx(1, abs=0.25), kernel


def test_another_tempo_keeps_shapes_and_changes_what_is_seen():
    network = zoo.load("stdcf_kth", weights=None)
    slow = with_tempo(network, 2)
    clip = torch.rand(1, 1, 16, 32, 32)
    with torch.no_grad():
        assert slow(clip).shape == network(clip).shape
        assert not torch.allclose(slow.features(clip), network.features(clip))
    images = zoo.load("stdcf_autoencoder", weights=None)
    with torch.no_grad():
        assert with_tempo(images, 2)(torch.rand(1, 1, 8, 28, 28)).shape == (1, 1, 8, 28, 28)


@pytest.mark.parametrize("kernel", ACTIONS)
def test_clips_that_would_vanish_or_come_out_in_another_size_are_named(kernel):
    action = networks.action(kernel=kernel, classes=6)
    assert action(torch.rand(1, 1, 4, 8, 8)).shape == (1, 6)
    for size in ((3, 8, 8), (4, 7, 8), (4, 8, 7)):
        with pytest.raises(ClipError, match="expected 4 x 8 x 8 or more"):
            action(torch.rand(1, 1, *size))
    autoencoder = networks.autoencoder(kernel=kernel)
    for size in ((7, 28, 28), (8, 27, 28), (1, 28, 28)):
        with pytest.raises(ClipError, match="expected multiples of 4"):
            autoencoder(torch.rand(1, 1, *size))

import pytest
import torch
from torch import nn

from zoo.errors import ClipError, UsageError
from zoo_stft import networks
from zoo_stft.blocks import Block
from zoo_stft.layer import ShortTimeFourier3d

#: With 174 classes, and how much more was published; I3D's published figure is the one with 600 classes.
COUNTS = {
    "st_stft": (2_793_013, 5.84),
    "s_stft": (2_983_031, 6.03),
    "t_stft": (3_217_866, 6.27),
    "fact_dw": (3_227_100, 6.28),
    "relpv": (1_732_841, 4.78),
    "i3d": (12_465_614, None),
    "s3d_inception": (8_088_398, None),
}


def light(**arguments):
    with torch.device("meta"):
        return networks.build(**arguments)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("kind", COUNTS)
def test_parameters_are_those_of_the_reading(kind):
    expected, published = COUNTS[kind]
    assert count(light(kind=kind, classes=174)) == expected
    if published:  # the same constant is missing from all five
        assert published - expected / 1e6 == pytest.approx(3.05, abs=0.01)


def test_i3d_has_its_published_count_with_600_classes():
    assert round(count(light(kind="i3d", classes=600)) / 1e6, 2) == 12.90


def test_counts_are_the_formulas_and_batch_norms_by_hand():
    # t_stft: a stem, nine modules and a classifier, written out with the formula of section 3.3
    def block(c, b, f):
        return (c + 9 + 2 * f) * b + 2 * (b + b + 2 * b + f)

    def point(c, f):
        return c * f + 2 * f

    total, into = block(3, 3, 64) + point(64, 64) + block(64, 64, 192), 192
    for one, reduce2, two, reduce3, three, four in networks.INCEPTIONS.values():
        total += point(into, one) + block(into, reduce2, two) + block(into, reduce3, three) + point(into, four)
        into = one + two + three + four
    assert total + (into + 1) * 174 == COUNTS["t_stft"][0]


@pytest.mark.parametrize("kind", networks.KINDS)
def test_clips_become_logits_with_time_strided_by_8_and_frames_by_32(kind):
    network = networks.build(kind=kind, classes=4, narrowed=16, in_channels=1).eval()
    sizes = {}
    network.inception3.register_forward_hook(lambda *call: sizes.update(three=tuple(call[2].shape[2:])))
    network.inception5.register_forward_hook(lambda *call: sizes.update(five=tuple(call[2].shape[2:])))
    with torch.no_grad():
        assert network(torch.rand(2, 1, 16, 64, 96)).shape == (2, 4)
    assert sizes == {"three": (8, 8, 12), "five": (2, 2, 3)}


@pytest.mark.parametrize("kind", ["st_stft", "s_stft", "t_stft", "fact_dw", "relpv"])
def test_windows_of_5_grow_what_is_trainable_alone(kind):
    small = networks.build(kind=kind, classes=2, narrowed=16)
    large = networks.build(kind=kind, classes=2, narrowed=16, kernel_size=5)
    trained = {"s_stft", "t_stft", "fact_dw"}
    assert (count(large) > count(small)) == (kind in trained)
    with torch.no_grad():
        assert large.eval()(torch.rand(1, 3, 5, 17, 17)).isfinite().all()
    for part in large.modules():
        if isinstance(part, ShortTimeFourier3d):
            assert max(part.window) == 5


def test_bottlenecks_follow_the_rule_of_each_kind():
    found = {
        kind: [part.reduce.bn.num_features for part in light(kind=kind, classes=2).modules() if isinstance(part, Block)]
        for kind in networks.DESIGNS
    }
    assert found["t_stft"] == found["fact_dw"]
    assert found["t_stft"][:4] == [3, 64, 96, 16]
    assert found["st_stft"][:4] == [3, 64, 8, 2]
    assert found["s_stft"][:4] == [3, 64, 32, 5]
    assert set(found["relpv"]) == {1}
    assert all(len(blocks) == 20 for blocks in found.values())


def test_weights_are_orthogonal():
    network = networks.build(kind="t_stft", classes=2, narrowed=16)
    for part in network.modules():
        if isinstance(part, nn.Conv3d | nn.Linear):
            rows = part.weight.detach().flatten(1)
            product = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
            torch.testing.assert_close(product, torch.eye(len(product)), rtol=0, atol=1e-5)


def test_activations_are_an_option():
    def kinds(network):
        return {type(part) for part in network.modules() if isinstance(part, nn.LeakyReLU | nn.ReLU | nn.ELU | nn.SELU)}

    arguments = {"classes": 2, "narrowed": 16}
    assert kinds(networks.build(kind="st_stft", **arguments)) == {nn.LeakyReLU}
    assert kinds(networks.build(kind="st_stft", activation="selu", **arguments)) == {nn.SELU}
    assert kinds(networks.build(kind="i3d", **arguments)) == {nn.ReLU}


@pytest.mark.parametrize("shape", [(4, 17, 17), (5, 16, 17), (5, 17, 16)])
def test_a_clip_that_is_too_short_or_small_is_named(shape):
    network = networks.build(kind="t_stft", classes=2, narrowed=16).eval()
    said = r"do not outlast the strides of this network; expected at least 5 frames of 17 x 17"
    with pytest.raises(ClipError, match=said):
        network(torch.zeros(1, 3, *shape))


def test_nonsense_is_named():
    with pytest.raises(UsageError, match="kind 'r3d': expected one of st_stft, "):
        networks.build(kind="r3d", classes=2)
    for narrowed in (0, 3, 32):
        with pytest.raises(UsageError, match="expected a divisor of 16"):
            networks.build(kind="t_stft", classes=2, narrowed=narrowed)
    with pytest.raises(UsageError, match="kernel_size 4: expected an odd"):
        networks.build(kind="t_stft", classes=2, narrowed=16, kernel_size=4)

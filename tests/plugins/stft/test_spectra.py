import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import explain
import zoo
from zoo.errors import UsageError
from zoo_stft import layer, spectra, view
from zoo_stft.blocks import FactorisedBlock, SBlock, STBlock, TBlock

BLOCKS = [STBlock, SBlock, TBlock, FactorisedBlock]


def block(kind, *, size=3, into=3, bottleneck=2, width=5):
    """A float64 block as after training, in eval mode."""
    torch.manual_seed(0)
    made = kind(into, bottleneck, width, size).double().eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm3d):
            for value in (module.weight.data, module.running_var):
                value.uniform_(0.5, 2)
            for value in (module.bias.data, module.running_mean):
                value.normal_()
    return made


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("kind", BLOCKS)
@torch.no_grad()
def test_without_activations_a_block_is_a_convolution_with_its_kernel(kind, size):
    made = block(kind, size=size)
    for module in made.modules():
        if hasattr(module, "act"):
            module.act = nn.Identity()
    clip = torch.randn(1, 3, 5, 6, 7, dtype=torch.float64)
    # Shifts of BatchNorm meet the borders; differences of two clips do not.
    found = made(clip) - made(torch.zeros_like(clip))
    torch.testing.assert_close(found, F.conv3d(clip, made.kernel(), padding=size // 2), rtol=0, atol=1e-10)
    assert made.kernel().shape == (5, 3, size, size, size)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("kind", BLOCKS)
def test_the_energy_is_that_of_the_projections_on_each_wave(kind, size):
    made = block(kind, size=size)
    kernel = made.kernel().detach()
    found = spectra.spectrum("b", made)
    for place, direction in enumerate(spectra.DIRECTIONS[:-1]):
        expected = torch.zeros(5, dtype=torch.float64)
        for channel, source in itertools.product(range(5), range(3)):
            real = imaginary = 0.0
            for at in itertools.product(range(size), repeat=3):
                offsets = (y - size // 2 for y in at)
                turns = sum(v * y for v, y in zip(direction.frequency, offsets, strict=True)) / size
                value = float(kernel[channel, source][at])
                real += value * math.cos(math.tau * turns)
                imaginary += value * math.sin(math.tau * turns)
            expected[channel] += (real**2 + imaginary**2) * (1 if direction.group == "mean" else 2) / size**3
        torch.testing.assert_close(found.energy[:, place], expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.energy.sum(dim=1), kernel.square().sum(dim=(1, 2, 3, 4)), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.shares.sum(dim=1), torch.ones(5, dtype=torch.float64))


def test_the_energy_of_fixed_waves_is_that_of_their_pointwise_weights():
    made = block(STBlock)
    nn.init.orthogonal_(made.reduce.conv.weight)  # so that channels of the bottleneck do not add up
    made.reduce.bn = nn.Identity()
    found = spectra.spectrum("b", made)
    fixed, mixed = made.inner[0].filters(), made.expand.filters().flatten(1)
    by_frequency = (mixed * fixed.flatten(1).norm(dim=1)).square().unflatten(1, (2, 13, 2)).sum(dim=(1, 3))
    order = [layer.FREQUENCIES["thw"].index(direction.frequency) for direction in spectra.DIRECTIONS[:13]]
    torch.testing.assert_close(found.energy[:, :13], by_frequency[:, order].detach())


@pytest.mark.parametrize(
    ("kind", "unseen"),
    [(STBlock, {"mean"}), (SBlock, {"mean", "flicker"}), (TBlock, {"mean", "still"}), (FactorisedBlock, set())],
)
def test_blocks_do_not_see_what_their_fixed_waves_leave_out(kind, unseen):
    groups = spectra.grouped(spectra.spectrum("b", block(kind)).mean_shares)
    assert {group for group, share in groups.items() if share == 0} == unseen | {"higher"}


def test_waves_move_where_their_names_say():
    ways = {"right": (0, 1), "left": (0, -1), "up": (-1, 0), "down": (1, 0)}
    for direction in spectra.DIRECTIONS:
        if direction.group == "moving":
            place = layer.FREQUENCIES["thw"].index(direction.frequency)
            film = layer.kernel("thw", 3)[2 * place]
            named = [ways[word] for word in direction.name.split()[1:] if word != "and"]
            shift = [sum(along) for along in zip(*named, strict=True)]
            # A wave across both axes takes two steps to move a pixel along each.
            torch.testing.assert_close(film[len(named)], film[0].roll(shift, (0, 1)), atol=1e-9, rtol=0)


def test_a_plot_names_every_block():
    found = spectra.Spectra(blocks={kind.__name__: spectra.spectrum(kind.__name__, block(kind)) for kind in BLOCKS})
    (axes,) = found.plot().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found.blocks)
    assert len(axes.texts) == len(BLOCKS) * len(found.used)


@pytest.mark.parametrize("name", ["st_stft_w16", "t_stft_w16"])
def test_a_report_has_the_frequencies_of_every_block(name, tmp_path):
    model = zoo.load(name, weights=None)
    report = explain.report(model, "sample:motion_mnist/0", tmp_path / "report", sections=["frequencies"])
    data = report.data["sections"]["frequencies"]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert report.data["problems"] == []
    assert len(data["blocks"]) == 20
    assert all(sum(one["shares"]) == pytest.approx(1) for one in data["blocks"])
    assert [one["name"] for one in data["shown"]][::2] == [data["blocks"][0]["name"], data["blocks"][-1]["name"]]
    assert "moving up and right" in page
    assert ("stands still" in page) == (name == "st_stft_w16")


def test_other_models_have_no_such_section():
    assert view.sections(SimpleNamespace(model=nn.Conv3d(1, 1, 3))) == []


def test_a_model_without_blocks_has_nothing_to_draw_and_numbers_stay_out_of_print():
    none = spectra.spectra(nn.Conv3d(1, 1, 1))
    assert not none.blocks
    with pytest.raises(UsageError, match="no STFT block"):
        none.plot()
    assert "tensor" not in repr(spectra.spectra(nn.Sequential(TBlock(1, 2, 3))))

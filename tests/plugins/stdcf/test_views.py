"""Sections of reports: what pairs of atoms carry, what autoencoders make of a clip, and for whom there are any."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch
from torch import nn

import explain
import zoo
import zoo_stdcf
from explain.reporting.sections import Content
from zoo.errors import ZooError
from zoo_stdcf import atoms_view, reconstruction_view
from zoo_stdcf.layer import StdcfConv3d, StdcfConvTranspose3d

SECTIONS = ["stdcf_atoms", "stdcf_reconstruction", "provenance"]


@pytest.fixture(params=[StdcfConv3d, StdcfConvTranspose3d])
def layer(request):
    torch.manual_seed(0)
    made = request.param(3, 4, (5, 3, 3), spatial_atoms=4, temporal_atoms=2).double()
    with torch.no_grad():
        for value in (made.psi, made.phi):
            value.copy_(torch.randn_like(value))
    return made


def test_a_pair_carries_the_energy_of_its_own_part_of_all_kernels(layer):
    found = atoms_view.energies(layer)
    own = torch.zeros(4, 2, dtype=torch.float64)
    for out, into, i, j in product(range(4), range(3), range(4), range(2)):
        part = layer.alpha[out, into, i, j] * layer.phi[j][:, None, None] * layer.psi[i]
        own[i, j] += part.detach().square().sum()
    assert torch.allclose(found.shares, own / own.sum(), rtol=1e-12)
    assert found.overlap == pytest.approx(float(layer.kernel().detach().square().sum() / own.sum()), rel=1e-12)
    assert found.overlap != pytest.approx(1, abs=0.01)
    order = sorted((float(share) for share in found.shares.flatten()), reverse=True)
    assert sum(order[: found.needed]) >= atoms_view.MOST > sum(order[: found.needed - 1])
    assert float(found.shares[found.strongest]) == order[0]


def test_orthogonal_atoms_do_not_overlap(layer):
    with torch.no_grad():
        layer.psi.copy_(3 * torch.linalg.qr(torch.randn(9, 4).double()).Q.T.view(4, 3, 3))
        layer.phi.copy_(torch.linalg.qr(torch.randn(5, 2).double()).Q.T)
    assert atoms_view.energies(layer).overlap == pytest.approx(1, rel=1e-12)


def test_a_layer_without_energy_has_no_shares_and_is_drawn(layer):
    with torch.no_grad():
        for value in layer.parameters():
            value.zero_()
    found = atoms_view.energies(layer)
    assert found.shares.unique().tolist() == [0]
    assert "<svg" in atoms_view.picture("atoms-0", "conv", layer, found)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("stdcf") / "report"
    return explain.report("stdcf_autoencoder", "sample:tr_mnist/1", out, sections=SECTIONS, device="cpu")


def test_every_layer_is_drawn_and_its_shares_stand_in_a_table(written):
    layers = written.data["sections"]["stdcf_atoms"]["layers"]
    assert [row["layer"] for row in layers] == ["conv1", "conv2", "deconv1", "deconv2", "conv3"]
    html = written.page.read_text()
    part = html[html.index('id="stdcf_atoms"') : html.index('id="stdcf_reconstruction"')]
    assert part.count("<svg") == len(layers)
    for row in layers:
        assert sum(map(sum, row["shares"])) == pytest.approx(1)
        for share in (share for shares in row["shares"] for share in shares):
            assert f'<data value="{share!r}">' in part
    assert part.count('<th scope="row">ψ') == sum(row["spatial_atoms"] for row in layers)


def test_both_autoencoders_rebuild_the_clip_of_the_report(written):
    section = written.data["sections"]["stdcf_reconstruction"]
    assert written.problems == []
    assert [row["network"] for row in section["rows"]] == ["rank1_autoencoder", "stdcf_autoencoder"]
    for row in section["rows"]:
        network = zoo.load(row["network"])
        batch = zoo.preprocess("sample:tr_mnist/1", network)
        with torch.no_grad():
            error = (network(batch) - batch).square().mean()
        assert row["squared_error"] == pytest.approx(float(error), rel=1e-4)
        assert row["parameters"] == zoo.info(row["network"]).parameters
    assert section["more_parameters"] == pytest.approx(1590 / 1248 - 1)
    assert len(re.findall(r"\.sprite-reconstruction-\d\{", written.page.read_text())) == 2


def test_a_network_that_cannot_be_had_is_left_out_by_name(written, tmp_path, monkeypatch):
    def load(*_, **__):
        raise ZooError("it is not here")

    model = zoo.load("stdcf_autoencoder")
    monkeypatch.setattr(reconstruction_view.zoo, "load", load)
    found = explain.report(model, "sample:tr_mnist", tmp_path / "report", sections=["stdcf_reconstruction"])
    section = found.data["sections"]["stdcf_reconstruction"]
    assert section["left_out"] == [{"network": "rank1_autoencoder", "reason": "it is not here"}]
    assert section["more_parameters"] is None
    assert "rank1_autoencoder is left out: it is not here" in found.page.read_text()


def test_units_of_layers_of_atoms_are_maximised(tmp_path):
    model = zoo.load("stdcf_autoencoder")
    found = explain.report(model, "sample:tr_mnist", tmp_path / "report", sections=["units"], unit_steps=2, units=1)
    made = found.data["sections"]["units"]["units"]
    assert [one["layer"] for one in made] == ["conv1", "deconv1", "deconv2"]


class Given:
    """As much of a context as a hook looks at."""

    def __init__(self, model, entry=None):
        self.model, self.entry = model, entry


def test_sections_are_given_to_models_that_they_concern_alone():
    assert zoo_stdcf.explain_sections(Given(nn.Conv3d(1, 1, 3))) == []
    rank1 = zoo.load("rank1_autoencoder")
    (only,) = zoo_stdcf.explain_sections(Given(rank1, rank1.zoo_entry))
    assert only.name == "stdcf_reconstruction"
    trained = zoo.load("stdcf_kth")
    names = [one.name for one in zoo_stdcf.explain_sections(Given(trained, trained.zoo_entry))]
    assert names == ["stdcf_atoms", "stdcf_tempo"]
    names = [one.name for one in zoo_stdcf.explain_sections(Given(zoo.load("stdcf_kth", weights=None)))]
    assert names == ["stdcf_atoms"]
    built = atoms_view.build(Given(zoo.load("stdcf_kth", weights=None)))
    assert isinstance(built, Content)
    assert [row["temporal_atoms"] for row in built.data["layers"]] == [3, 3, 2]

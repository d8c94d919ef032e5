"""Which layers are read, how, and what is said where none can be."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import explain
from explain.temporal import kernel_of, tables
from zoo.errors import ModelError, UnknownNameError


def test_a_layer_that_says_how_it_moves_is_read_as_it_says(motion):
    planted = motion.motions(4, motion.draw)
    model = nn.Sequential(motion.Moving(motion.smooth(4, 2, 5, motion.draw), planted.clone()))
    found = explain.temporal_parameters(model).layers["0"]
    assert (found.kind, found.kernel_size, found.r2, found.gain) == ("3tconv", (3, 5, 5), None, None)
    assert torch.equal(motion.read(found), planted)
    assert found.identified.all()
    assert not found.scale.requires_grad
    model[0].planted.data.zero_()
    assert torch.equal(motion.read(found), planted)  # a copy


def test_the_fit_finds_what_the_layer_says(motion):
    planted = motion.motions(4, motion.draw)
    given = motion.Moving(motion.smooth(4, 3, 7, motion.draw), planted)
    built = motion.Built(given.base.detach(), planted)
    dense = motion.convolution(given.kernel().detach())
    found = explain.temporal_parameters(nn.ModuleDict({"given": given, "built": built, "dense": dense})).layers
    assert {name: layer.kind for name, layer in found.items()} == {"given": "3tconv", "built": "fit", "dense": "fit"}
    torch.testing.assert_close(motion.read(found["built"]), motion.read(found["given"]), atol=1e-6, rtol=0)
    torch.testing.assert_close(motion.read(found["dense"]), motion.read(found["given"]), atol=1e-6, rtol=0)


def test_grouped_depthwise_and_bfloat16_kernels_are_fitted(motion):
    planted = motion.motions(4, motion.draw)
    slices = motion.moved(motion.smooth(4, 6, 7, motion.draw), planted)
    model = nn.ModuleDict(
        {
            "grouped": motion.convolution(slices[:, :3], groups=2),
            "depthwise": motion.convolution(slices[:, :1], groups=4),
            "rounded": motion.convolution(slices.bfloat16()),
        }
    )
    found = explain.temporal_parameters(model).layers
    for name, bound in (("grouped", 1e-6), ("depthwise", 1e-6), ("rounded", 0.03)):
        known = found[name].identified
        assert known.double().mean() > 0.7
        assert (motion.read(found[name]) - planted)[:, known].abs().max() < bound
        assert found[name].scale.dtype == torch.float64


def test_the_model_is_left_as_it_was_found(nets, motion):
    model = nn.Sequential(nets.TwoHeads(), motion.Moving(torch.randn(2, 1, 3, 3), motion.motions(2, motion.draw)))
    before = nets.fingerprint(model)
    explain.temporal_parameters(model)
    assert nets.fingerprint(model) == before
    assert model[1].kept is None
    model[1].planted.data[0, 0, 0] = torch.nan
    before = nets.fingerprint(model)
    with pytest.raises(ModelError, match="'1' has"):
        explain.temporal_parameters(model)
    assert nets.fingerprint(model) == before


def test_layers_without_motion_are_left_out_with_a_reason():
    model = nn.ModuleDict(
        {
            "point": nn.Conv3d(2, 2, 1),
            "frame": nn.Conv3d(2, 2, (1, 3, 3)),
            "time": nn.Conv3d(2, 2, (3, 1, 1)),
            "row": nn.Conv3d(2, 2, (3, 1, 3)),
            "vast": nn.Conv3d(1, 1, (2, 23, 23)),
            "whole": nn.Conv3d(2, 2, 3),
            "image": nn.Conv2d(2, 2, 3),
        }
    )
    found = explain.temporal_parameters(model)
    assert list(found.layers) == ["whole"]
    assert {name: reason.split(":")[0] for name, reason in found.left_out.items()} == {
        "point": "1 x 1 x 1",
        "frame": "1 x 3 x 3",
        "time": "3 x 1 x 1",
        "row": "3 x 1 x 3",
        "vast": "2 x 23 x 23",
    }
    assert "not fitted" in found.left_out["vast"]
    assert list(explain.temporal_parameters(model, "w*").layers) == ["whole"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(3)], nn.Linear(2, 2)), "it has Conv2d x 3, Linear x 1"),
        (
            nn.Sequential(nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, (3, 1, 1))),
            r"Conv3d \(1 x 1 x 1\) x 1, Conv3d \(3 x 1 x 1\)",
        ),
        (nn.Sequential(nn.ReLU()), "it has no filters at all"),
        (nn.Sequential(nn.LazyConv3d(2, 3)), "layer '0' has no weights yet"),
        (nn.Conv3d(1, 1, 3, device="meta"), "the model has no weights yet"),
    ],
    ids=["2D", "thin", "none", "lazy", "meta"],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_model_without_3d_filters_is_told_what_it_has(model, said):
    with pytest.raises(ModelError, match=said):
        explain.temporal_parameters(model)


def test_complex_weights_are_refused_rather_than_halved():
    with pytest.raises(ModelError, match="complex64; expected real"):
        explain.temporal_parameters(nn.Conv3d(1, 2, 3, dtype=torch.complex64))


def test_weights_that_are_not_finite_are_named():
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv3d(2, 2, 3))
    with torch.no_grad():
        model[1].weight[0, 0, 0, 0, 0] = torch.inf
    with pytest.raises(ModelError, match="layer '1' has weights that are not finite"):
        explain.temporal_parameters(model)
    assert list(explain.temporal_parameters(model, "0").layers) == ["0"]


def test_unknown_layers_are_offered_near_names():
    model = nn.ModuleDict({"wide": nn.Conv3d(1, 2, 3), "point": nn.Conv3d(1, 1, 1)})
    with pytest.raises(UnknownNameError, match="unknown layer 'wied'; did you mean 'wide'"):
        explain.temporal_parameters(model, "wied")
    with pytest.raises(UnknownNameError, match="no layer matches 'x\\*'"):
        explain.temporal_parameters(model, "x*")
    with pytest.raises(ModelError, match="what 'point' names has no 3D filters"):
        explain.temporal_parameters(model, "point")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.pop("scale"), "'scale' as NoneType; expected a tensor of 2 steps x 4 filters"),
        (lambda values: values.update(rotation=torch.zeros(4, 2)), r"'rotation' as \(4, 2\)"),
        (lambda values: values.update(translate_y=torch.full((2, 4), torch.nan)), "translate_y that is not finite"),
    ],
    ids=["missing", "turned", "not finite"],
)
def test_what_a_layer_says_of_itself_is_checked(motion, change, said):
    layer = motion.Moving(motion.smooth(4, 1, 3, motion.draw), motion.motions(4, motion.draw))
    values = layer.temporal_parameters()
    change(values)
    layer.temporal_parameters = lambda: values
    with pytest.raises(ModelError, match=f"layer '0'.*{said}"):
        explain.temporal_parameters(nn.Sequential(layer))


def test_a_layer_that_says_parameters_without_a_kernel_is_named():
    layer = nn.Linear(2, 2)
    layer.temporal_parameters = dict
    with pytest.raises(ModelError, match=r"layer '0' has temporal_parameters\(\) but no kernel\(\)"):
        explain.temporal_parameters(nn.Sequential(layer))


def test_a_part_called_kernel_is_no_kernel():
    module = nn.Module()
    module.kernel = nn.Linear(2, 2)
    assert kernel_of(module) is None
    convolution = nn.Conv3d(1, 2, 3)
    assert kernel_of(convolution) is convolution.weight


def test_progress_counts_filters_of_all_layers_and_the_record_fits_into_json(motion):
    counted = []
    model = nn.ModuleDict(
        {
            "given": motion.Moving(motion.smooth(2, 1, 3, motion.draw), motion.motions(2, motion.draw)),
            "dense": nn.Conv3d(1, 3, 3),
        }
    )
    found = explain.temporal_parameters(model, progress=lambda done, total: counted.append((done, total)))
    assert counted[-1] == (5, 5)
    from zoo.plain import plain

    data = json.loads(json.dumps(plain(tables.record(found)), allow_nan=False))
    assert torch.tensor(data["layers"]["given"]["parameters"]["scale"]).shape == (2, 2)
    assert data["layers"]["given"]["r2"] is None
    assert torch.tensor(data["layers"]["dense"]["pattern"]["x_pixels"]).shape == (2, 3)
    assert set(data["statistics"]) == {field.name for field in dataclasses.fields(found.statistics())}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_model_on_a_gpu_is_read_onto_the_cpu(motion):
    model = motion.convolution(motion.moved(motion.smooth(4, 3, 7, motion.draw), motion.motions(4, motion.draw)))
    here, there = explain.temporal_parameters(model), explain.temporal_parameters(model.cuda())
    torch.testing.assert_close(motion.read(there.layers[""]), motion.read(here.layers[""]), rtol=1e-5, atol=1e-6)

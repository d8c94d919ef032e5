import pytest
import torch
from torch import nn

import explain
import zoo
from zoo.errors import ModelError, UsageError
from zoo.registry import catalog
from zoo_sequence_convlstm.networks import build


@pytest.mark.parametrize(
    ("tag", "parameters"),
    [("base", 227_551), ("denoised", 2_379_424), ("removed_outliers", 1_100_611), ("fully_processed", 1_064_074)],
)
def test_each_row_of_the_table_has_its_parameters(tag, parameters):
    arguments = catalog.recipe(f"sequence_convlstm.{tag}").arguments
    with torch.device("meta"):
        network = build(**arguments)
    assert sum(one.numel() for one in network.parameters()) == parameters
    # 36 K (c_in + K) + 4 K, three maps of 1,296 a kernel and 2 K of BatchNorm, for each layer; 9 K + 1 in the end
    kernels, layers = arguments["kernels"], arguments["layers"]
    of_layer = [36 * kernels * (c + kernels) + 4 * kernels + 3 * 1_296 * kernels + 2 * kernels for c in (1, kernels)]
    assert parameters == of_layer[0] + (layers - 1) * of_layer[1] + 9 * kernels + 1


def test_the_best_row_is_the_architecture():
    assert dict(zoo.info("sequence_convlstm").arguments) == catalog.recipe("sequence_convlstm.denoised").arguments


def test_the_next_frame_follows_from_the_last_features_through_a_sigmoid():
    torch.manual_seed(0)
    network = build(layers=2, kernels=3, size=(6, 6)).eval()
    x = torch.rand(2, 1, 3, 6, 6)
    features = x
    for layer in network.layers:
        features = layer.norm(layer.cell(features))
    expected = nn.functional.conv2d(features[:, :, -1], network.head.weight, network.head.bias, padding=1).sigmoid()
    assert torch.equal(network(x), expected[:, :, None])
    assert expected.min() > 0
    assert expected.max() < 1


def test_methods_see_the_operations_inside_the_cells():
    model = zoo.load("sequence_convlstm_k16", weights=None)
    batch = zoo.preprocess("sample:digit_sequences", model)
    plain, guided = explain.attribute(model, batch, method=["saliency", "guided_backprop"])
    assert not torch.allclose(plain.map, guided.map, rtol=0.1, atol=0)
    with pytest.raises(ModelError, match="multiplies two things that both depend on the input"):
        explain.attribute(model, batch, method="deep_lift")


def test_peepholes_tie_the_model_to_its_frames_and_without_them_it_takes_any():
    model = zoo.load("sequence_convlstm_k16", weights=None)
    with pytest.raises(ModelError, match=r"frames are 48 x 40.*36 x 36 pixels.*peephole=False"):
        model(torch.zeros(1, 1, 2, 48, 40))
    free = build(layers=1, kernels=2, peephole=False)
    assert free(torch.zeros(1, 1, 2, 48, 40)).shape == (1, 1, 1, 48, 40)


@pytest.mark.parametrize("shape", [(1, 2, 36, 36), (1, 3, 2, 36, 36), (1, 1, 0, 36, 36)])
def test_a_batch_of_another_shape_is_told_what_was_expected(shape):
    with pytest.raises(ModelError, match="expected N x 1 x T x H x W"):
        build(layers=1, kernels=2)(torch.zeros(shape))


@pytest.mark.parametrize("arguments", [{"layers": 0}, {"kernels": 0}, {"in_channels": 0}])
def test_counts_that_cannot_be_are_refused(arguments):
    with pytest.raises(UsageError, match="must be at least 1, got 0"):
        build(**arguments)

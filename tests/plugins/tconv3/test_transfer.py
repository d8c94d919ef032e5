"""Weights under torchvision's names and sizes find every convolution of the networks, and nothing else."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.errors import WeightsError
from zoo.models.inflation import inflate
from zoo_tconv3.layer import TConv3d


def norm(name, width):
    """Tensors of a BatchNorm2d and their shapes."""
    vectors = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{name}.num_batches_tracked": ()}


def linear(name, into, out):
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def resnet18():
    """Names and shapes in torchvision's ResNet-18 of 1,000 classes."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    into = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            shapes |= {f"{name}.conv1.weight": (width, into, 3, 3), **norm(f"{name}.bn1", width)}
            shapes |= {f"{name}.conv2.weight": (width, width, 3, 3), **norm(f"{name}.bn2", width)}
            if into != width:
                shapes |= {f"{name}.downsample.0.weight": (width, into, 1, 1), **norm(f"{name}.downsample.1", width)}
            into = width
    return shapes | linear("fc", 512, 1000)


#: Of each module: channels in; of branch 1; of branches 2 and 3, reduced and after; of branch 4.
INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def googlenet():
    """Names and shapes in torchvision's GoogLeNet of 1,000 classes, with its auxiliary heads."""
    rows = [("conv1", 3, 64, 7), ("conv2", 64, 64, 1), ("conv3", 64, 192, 3)]
    for name, (into, one, reduced2, two, reduced3, three, four) in INCEPTIONS.items():
        rows += [
            (f"inception{name}.branch1", into, one, 1),
            (f"inception{name}.branch2.0", into, reduced2, 1),
            (f"inception{name}.branch2.1", reduced2, two, 3),
            (f"inception{name}.branch3.0", into, reduced3, 1),
            (f"inception{name}.branch3.1", reduced3, three, 3),
            (f"inception{name}.branch4.1", into, four, 1),
        ]
    rows += [("aux1.conv", 512, 128, 1), ("aux2.conv", 528, 128, 1)]
    shapes = {}
    for name, into, out, size in rows:
        shapes |= {f"{name}.conv.weight": (out, into, size, size), **norm(f"{name}.bn", out)}
    for head in ("aux1", "aux2"):
        shapes |= {**linear(f"{head}.fc1", 2048, 1024), **linear(f"{head}.fc2", 1024, 1000)}
    return shapes | linear("fc", 1024, 1000)


#: Tensors of each 2D network; of those, convolutions outside auxiliary heads.
COUNTS = {"resnet18": (122, 20), "googlenet": (364, 57)}


@pytest.fixture(scope="module", params=[resnet18, googlenet], ids=lambda shapes: shapes.__name__)
def flat(request, tmp_path_factory):
    """Name of a 2D network, the file of its weights, and its tensors."""
    name, generator = request.param.__name__, torch.Generator().manual_seed(0)
    tensors = {key: torch.randn(shape, generator=generator) for key, shape in request.param().items()}
    path = tmp_path_factory.mktemp("flat") / f"{name}.safetensors"
    save_file(tensors, path)
    return name, path, tensors


@pytest.mark.parametrize("kernel", ["3t", "3d"])
def test_every_convolution_is_inflated_and_nothing_else_is_taken(flat, kernel):
    design, path, tensors = flat
    model = zoo.load(f"{kernel}_{design}", weights=path, adapt="inflate")
    loaded, report = model.state_dict(), model.zoo_load_report
    count, convolutions = COUNTS[design]
    names = {name for name, tensor in tensors.items() if tensor.ndim == 4 and not name.startswith("aux")}
    assert (len(tensors), len(names)) == (count, convolutions)
    assert (report.taken, report.adapted, report.left) == (convolutions, convolutions, count - convolutions)
    assert set(report.left_names) == set(tensors) - names
    filled = set()
    for name in names:
        layer = model.get_submodule(name.removesuffix(".weight"))
        if isinstance(layer, TConv3d):
            filled.add(name.replace(".weight", ".base"))
            assert torch.equal(layer.base, tensors[name])
            assert [bool((vector == 0).all()) for vector in layer.temporal_parameters().values()] == [
                False,
                *[True] * 3,
            ]
        else:
            filled.add(name)
            steps = layer.weight.shape[2]
            assert all(torch.equal(slice_, tensors[name] / steps) for slice_ in layer.weight.unbind(2))
    assert set(report.initialised_names) == set(loaded) - filled
    solid = {name for name, module in model.named_modules() if isinstance(module, TConv3d | nn.Conv3d)}
    assert {name.removesuffix(".weight") for name in names} == {n for n in solid if not n.startswith("auxiliary")}
    assert all((module.weight == 1).all() for module in model.modules() if isinstance(module, nn.BatchNorm3d))


def test_3tconv_says_of_a_still_clip_its_steps_times_what_the_2d_convolution_says_of_its_frame():
    torch.manual_seed(0)
    flat = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False, dtype=torch.float64)
    layer = TConv3d(3, 5, (4, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)).double()
    inflate(nn.ModuleDict({"conv": layer}), {"conv.weight": flat.weight}, name="NAME", source="FILE")
    frame = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    response = layer(frame[:, :, None].expand(-1, -1, 6, -1, -1))
    torch.testing.assert_close(response, (4 * flat(frame))[:, :, None].expand_as(response), rtol=0, atol=1e-12)


def test_still_digits_give_their_convolutions_to_the_network_of_clips():
    (weights,) = zoo.info("2d_resnet18_w16.still_digits").weights
    for kernel in ("3t", "3d"):
        report = zoo.load(f"{kernel}_resnet18_w16", weights=weights.source, adapt="inflate").zoo_load_report
        assert (report.adapted, report.left) == (20, 102)
        assert report.name == f"{kernel}_resnet18_w16.2d_resnet18_w16.still_digits (inflated)"


def test_weights_of_another_width_and_of_colour_are_refused(flat):
    design, path, _ = flat
    first = "conv1.weight" if design == "resnet18" else "conv1.conv.weight"
    with pytest.raises(WeightsError, match=rf"first difference: {first} .*64 filters instead of 16, 3 input channels "):
        zoo.load(f"3t_{design}_w16", weights=path, adapt="inflate")

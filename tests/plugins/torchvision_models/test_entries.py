"""Every entry says what torchvision says of the same model and its weights, and the model is that."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import zoo
from zoo.errors import UsageError
from zoo_torchvision_models.building import build

VIDEO = ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"]
IMAGES = ["resnet18", "resnet50", "googlenet", "squeezenet1_1", "mobilenet_v3_large", "efficientnet_b0"]
IMAGES += ["convnext_tiny", "vit_b_16", "swin_t"]


def published(torchvision, name):
    """torchvision's weights of a model by our tags."""
    return {weights.name.lower(): weights for weights in torchvision.models.get_model_weights(name)}


def test_the_models_are_there():
    assert set(zoo.list_models(plugin="torchvision_models")) == {*VIDEO, *IMAGES}


def test_the_catalogue_needs_neither_torch_nor_torchvision():
    code = (
        "import sys, zoo; entry = zoo.info('vit_b_16'); assert entry.outputs[0].labels[281] == 'tabby';"
        "from zoo.weights import torch_files; torch_files.find(entry.weights[0]);"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_entry_and_torchvision_agree(torchvision, name):
    entry = zoo.info(name)
    theirs = published(torchvision, name)
    assert entry.weights[0].tag == torchvision.models.get_model_weights(name).DEFAULT.name.lower()
    assert {weights.tag for weights in entry.weights} == {tag for tag in theirs if "swag" not in tag}
    for weights in entry.weights:
        meta = theirs[weights.tag].meta
        assert entry.parameters == meta["num_params"]
        assert entry.outputs[0].labels == tuple(meta["categories"])
        assert weights.source == theirs[weights.tag].url
        assert weights.source.endswith(f"-{weights.sha256}.pth")
        assert weights.bytes / 2**20 == pytest.approx(meta["_file_size"], abs=1e-5)
        ((dataset, accuracies),) = meta["_metrics"].items()
        assert {metric.dataset for metric in weights.metrics} == {dataset}
        assert [metric.value for metric in weights.metrics] == pytest.approx(
            [accuracies["acc@1"] / 100, accuracies["acc@5"] / 100], abs=1e-9
        )


@pytest.mark.parametrize("name", VIDEO)
def test_frame_rate_and_clip_length_are_torchvisions(torchvision, name):
    entry = zoo.info(name)
    for weights in entry.weights:
        said = published(torchvision, name)[weights.tag].meta["_docs"]
        rate, length = (re.search(rf"{what}=([\d.]+)`", said).group(1) for what in ("frame_rate", "clip_len"))
        spec = entry.resolve(weights).input
        assert (spec.sampling, spec.stride) == ("consecutive", 1)
        assert (spec.frame_rate, spec.frames) == (float(rate), int(length))


@pytest.mark.parametrize("name", ["fcn_resnet50", "fasterrcnn_resnet50_fpn", "get_model"])
def test_no_model_is_built_that_would_fetch_weights_of_its_own(name):
    with pytest.raises(UsageError, match="is no image classifier or video model of torchvision"):
        build(architecture=name)

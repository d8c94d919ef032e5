"""Modules that take N x T x C x H x W without an entry: every function reads the same axes as through a wrapper."""

import contextlib
import types

import pytest
import torch
from torch import nn

import explain
import zoo
from explain.attribution.methods import BUILT_IN, find_method
from explain.attribution.options import accepted
from explain.maximization.objectives import logit
from zoo.errors import ModelError, UsageError, ZooError

FRAMES, SIZE = 4, 8


class TimeFirst(nn.Module):
    """N x T x C x H x W with a config, as transformers' video classes: a convolution, ReLU, max pooling and a head."""

    main_input_name = "pixel_values"

    def __init__(self, config=True):
        super().__init__()
        if config:
            self.config = types.SimpleNamespace(num_frames=FRAMES, num_channels=3)
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.head = nn.Linear(4, 5)

    def forward(self, pixel_values):
        maps = self.conv(pixel_values.permute(0, 2, 1, 3, 4)).relu()
        return self.head(self.pool(maps).mean(dim=(2, 3, 4)))


class Undecided(nn.Module):
    """N x T x C x H x W without a config or a convolution."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(FRAMES * 3, 3)

    def forward(self, x):
        return self.head(x.mean(dim=(3, 4)).flatten(1))


class Swapped(nn.Module):
    """Takes N x C x T x H x W and hands it on with the axes exchanged."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.transpose(1, 2).contiguous())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TimeFirst().eval()


@pytest.fixture
def batch():
    return torch.rand(2, FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def swap(batch):
    return batch.transpose(1, 2).contiguous()


@pytest.mark.parametrize("method", [one.name for one in BUILT_IN])
def test_a_wrapper_that_transposes_gives_the_very_same_map(model, batch, method):
    if method in {"supervoxel_occlusion", "kernel_shap", "lime"}:
        pytest.importorskip("skimage")
    options = accepted(find_method(method), {"n_samples": 256 if method in {"kernel_shap", "lime"} else 4})
    found = explain.attribute(model, batch, method=method, **options)
    wrapped = explain.attribute(Swapped(model), swap(batch), method=method, **options)
    assert found.map.shape == (2, FRAMES, SIZE, SIZE)
    assert (found.map - wrapped.map).abs().max() == 0
    assert (found.time - wrapped.time).abs().max() == 0
    assert found.layout == "NTCHW"
    assert wrapped.layout == "NCTHW"


def test_saliency_sums_over_the_colours(model, batch):
    inputs = batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs)[:, 1].sum(), inputs)
    found = explain.attribute(model, batch, method="saliency", target=1)
    assert torch.allclose(found.map, gradient.abs().sum(dim=2))


def every_function(tmp_path):
    """Each public function that takes a batch, called with a layout."""
    return {
        "attribute": lambda m, x, **axes: explain.attribute(m, x, method="saliency", **axes).map.shape[1],
        "applicability": lambda m, x, **axes: explain.applicability(m, x, **axes)["saliency"] or FRAMES,
        "check_faithfulness": lambda m, x, **axes: (
            explain.check_faithfulness(
                m, x, explain.attribute(m, x, method="saliency", **axes), steps=2, draws=2, **axes
            )
            and FRAMES
        ),
        "check_robustness": lambda m, x, **axes: explain.check_robustness(m, x, levels=1, draws=1, **axes).settings[
            "extent"
        ][0],
        "receptive_fields": lambda m, x, **axes: explain.receptive_fields(m, x.shape, **axes)[0].output[0],
        "effective_field": lambda m, x, **axes: explain.effective_field(m, "conv", x, draws=1, **axes).heat.shape[0],
        "maximize": lambda m, x, **axes: explain.maximize(
            m, "conv", 0, shape=(3, FRAMES, SIZE, SIZE), steps=1, **axes
        ).clips.shape[2],
        "top_clips": lambda m, x, **axes: (
            explain.top_clips(m, "conv", [0], [x[:1], x[1:]], **axes).clips[0][0].place[0] < FRAMES and FRAMES
        ),
        "view_units": lambda m, x, **axes: len(explain.view_units(m, x[:1], "conv", 0, steps=1, **axes)[0].time),
        "report": lambda m, x, **axes: (
            explain.report(m, x[:1], tmp_path / "r", methods=["saliency"], sections=["attributions"], **axes) and FRAMES
        ),
        "predict": lambda m, x, **axes: len(zoo.predict(m, x, **axes)[0].record()["output"]["top"]) - 5 + FRAMES,
    }


NAMES = list(every_function(None))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("known", ["config", "layer", "layout"])
def test_every_function_reads_the_frames(name, known, batch, tmp_path):
    torch.manual_seed(0)
    model = TimeFirst(config=known == "config").eval()
    axes = {"layout": "NTCHW"} if known == "layout" else {}
    assert every_function(tmp_path)[name](model, batch, **axes) == FRAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"predict", "effective_field", "view_units"}])
def test_every_function_refuses_what_may_be_either(name, batch, tmp_path):
    call = every_function(tmp_path)[name]
    if name == "top_clips":
        with pytest.raises(UsageError, match="layout='NTCHW'"):
            explain.top_clips(Undecided(), "head", [0], [batch[:1]])
        return
    if name == "maximize":
        with pytest.raises(UsageError, match="layout='NTCHW'"):
            explain.maximize(Undecided(), objective=logit(1), shape=(FRAMES, 3, SIZE, SIZE), steps=1)
        return
    with pytest.raises(UsageError, match="layout='NTCHW'"):
        call(Undecided(), batch)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "maximize"])
def test_no_raw_error_of_the_model_reaches_a_user(name, model, tmp_path):
    with pytest.raises(ZooError):
        every_function(tmp_path)[name](model, torch.rand(2, FRAMES, 5, SIZE, SIZE), layout="NTCHW")


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (3, 8), (2, 4, 3, 8), "abc", (1, 0, 3, 8, 8)])
def test_a_shape_without_samples_is_refused_in_words(model, shape):
    with pytest.raises(ZooError):
        explain.receptive_fields(model, shape)


def test_clips_are_made_in_the_models_order_however_their_shape_is_written(model):
    for network in (model, TimeFirst(config=False).eval()):
        for shape in ((3, 5, SIZE, SIZE), (5, 3, SIZE, SIZE)):
            for axes in ({}, {"layout": "NTCHW"}):
                made = explain.maximize(network, "conv", 0, shape=shape, steps=1, **axes)
                assert made.clips.shape == (1, 3, 5, SIZE, SIZE)
                assert made.settings["shape"] == (3, 5, SIZE, SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_caller_says_wrongly_makes_no_raw_error(name, model, batch, tmp_path):
    if name == "maximize":
        return
    with contextlib.suppress(ZooError):
        every_function(tmp_path)[name](model, batch, layout="NCTHW")


def test_a_map_of_one_layout_is_not_checked_in_another(batch):
    model = Undecided().eval()
    found = explain.attribute(model, batch, method="saliency", layout="NTCHW")
    assert explain.check_faithfulness(model, batch, found, steps=2, draws=2).method == "saliency"
    with pytest.raises(UsageError, match="NTCHW"):
        explain.check_faithfulness(model, batch, found, steps=2, draws=2, layout="NCTHW")


def test_the_error_says_how_the_batch_was_read(model, batch):
    with pytest.raises(ModelError, match=r"N x C x T x H x W.*layout="):
        explain.attribute(model, swap(batch), method="saliency")

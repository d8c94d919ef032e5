"""The video classes of transformers, which take N x T x C x H x W: tiny, with random weights."""

import functools

import pytest
import torch
from torch import nn

import explain
import zoo
from explain.attribution.methods import BUILT_IN, find_method
from explain.attribution.options import accepted
from explain.maximization.objectives import logit
from zoo.errors import ZooError
from zoo_torchvision_models.operators import import_torchvision

FRAMES, SIZE = 4, 32
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 5}
FACTS = {
    "VideoMAE": {"image_size": SIZE, "num_frames": FRAMES, "intermediate_size": 32, **SMALL},
    "Timesformer": {"image_size": SIZE, "num_frames": FRAMES, "intermediate_size": 32, **SMALL},
    "Vivit": {
        "image_size": SIZE,
        "num_frames": FRAMES,
        "tubelet_size": [2, 16, 16],
        "intermediate_size": 32,
        **SMALL,
    },
    "VJEPA2": {
        "crop_size": SIZE,
        "frames_per_clip": FRAMES,
        "mlp_ratio": 2,
        "num_pooler_layers": 1,
        "pred_hidden_size": 12,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "pred_num_mask_tokens": 1,
        **SMALL,
        "hidden_size": 24,
    },
}
#: Methods that refuse them, as docs/methods.md says of video transformers.
REFUSED = {
    *("grad_cam", "grad_cam_per_frame", "guided_grad_cam", "layer_activation", "layer_gradient_x_activation"),
    *("guided_backprop", "deconvolution", "deep_lift", "deep_lift_shap", "lrp"),
}


class Swapped(nn.Module):
    """Takes N x C x T x H x W, exchanges the axes, and gives the logits alone."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return {"logits": self.inner(x.transpose(1, 2).contiguous()).logits}


@functools.cache
def made(name):
    pytest.importorskip("transformers", reason="transformers is not installed")
    try:
        import_torchvision()
    except ImportError:
        pytest.skip("torchvision, which transformers' video classes need, is not installed")
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**FACTS[name])
        return getattr(transformers, f"{name}ForVideoClassification")(config).eval()


@pytest.fixture(params=FACTS)
def model(request):
    return made(request.param)


@pytest.fixture
def batch():
    return torch.rand(1, FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_every_method_that_runs_gives_the_map_of_a_wrapper_that_transposes(model, batch):
    pytest.importorskip("skimage")
    wrapper, clip = Swapped(model).eval(), batch.transpose(1, 2).contiguous()
    refused = set()
    for method in (one.name for one in BUILT_IN):
        options = {"n_steps": 2, "n_samples": 160 if method in {"kernel_shap", "lime"} else 2}
        options |= {"window": (2, 16, 16), "stride": (2, 16, 16), "feature_mask": "grid"}
        options = accepted(find_method(method), options)
        try:
            found = explain.attribute(model, batch, method=method, **options)
        except ZooError:
            refused.add(method)
            continue
        assert found.map.shape == (1, FRAMES, SIZE, SIZE)
        other = explain.attribute(wrapper, clip, method=method, **options)
        assert float((found.map - other.map).abs().max()) == 0.0, method
        assert found.time.tolist() == other.time.tolist(), method
    assert refused == REFUSED
    assert {name for name, reason in explain.applicability(model, batch).items() if reason} == refused


def test_saliency_is_the_gradient_summed_over_the_colours(model, batch):
    inputs = batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(inputs).logits[:, 2].sum(), inputs)
    assert torch.allclose(explain.attribute(model, batch, method="saliency", target=2).map, gradient.abs().sum(dim=2))


def test_freezing_frames_freezes_frames(model, batch):
    found = explain.attribute(
        model, batch, method="temporal_occlusion", target=2, window=(2, SIZE, SIZE), stride=(2, SIZE, SIZE)
    )
    frozen = batch.clone()
    frozen[:, :2] = batch[:, 2:3]
    with torch.no_grad():
        fall = float((model(batch).logits - model(frozen).logits)[0, 2])
    assert found.time[0, :2].tolist() == pytest.approx([fall, fall], abs=1e-6)
    assert found.time_unit == "change"


def test_other_functions_read_the_frames(model, batch, tmp_path):
    patches = explain.receptive_fields(model, batch.shape)[0]
    assert patches.output[0] in {FRAMES, FRAMES // 2}
    assert patches.field[1:] == (16, 16)
    assert explain.check_robustness(model, batch, levels=1, draws=1).settings["extent"] == [FRAMES, SIZE, SIZE]
    assert explain.effective_field(model, patches.layer, batch, draws=1).heat.shape == (FRAMES, SIZE, SIZE)
    assert explain.maximize(model, objective=logit(1), shape=(3, FRAMES, SIZE, SIZE), steps=1).clips.shape[2] == FRAMES
    assert "top" in zoo.predict(model, batch)[0].record()["logits"]
    written = explain.report(
        model, batch, tmp_path / "r", methods=["saliency"], sections=["prediction", "attributions", "fields"]
    )
    assert not written.problems
    with pytest.raises(ZooError):
        explain.attribute(model, batch, method="grad_cam")
    for shape in (batch.shape[1:], (1, FRAMES, 5, SIZE, SIZE), batch.transpose(1, 2).shape):
        with pytest.raises(ZooError):
            explain.receptive_fields(model, shape)

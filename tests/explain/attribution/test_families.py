"""Every method on every family of models: right, or refused with the reason that `explain.applicability` gives."""

import contextlib
from pathlib import Path

import pytest
import torch
from torch import nn

import explain
from explain.attribution.methods import BUILT_IN, find_method
from zoo.errors import ZooError

NAMES = ["3D CNN", "2D CNN over frames", "LSTM over frames", "ConvLSTM", "video transformer", "image CNN"]
METHODS = [*(method.name for method in BUILT_IN), "drawn_gradient"]
#: Methods that draw, with options by which what they draw decides.
DRAWING = {
    "gradient_shap": {"n_samples": 5},
    "smooth_grad": {"n_samples": 5},
    "frame_order": {"order": "shuffle", "n_samples": 2, "window": (4, 1, 1), "stride": (4, 1, 1)},
    "rise": {"n_samples": 12},
    "kernel_shap": {"feature_mask": "grid", "window": (1, 4, 4), "stride": (1, 4, 4), "n_samples": 80},
    "lime": {"feature_mask": "grid", "window": (1, 4, 4), "stride": (1, 4, 4), "n_samples": 80},
    "shapley_sampling": {"feature_mask": "grid", "window": (1, 6, 6), "stride": (1, 6, 6), "n_samples": 2},
    "drawn_gradient": {},
}


def quick(batch):
    """Few steps, and three parts."""
    frames = 1 if batch.ndim == 4 else 4
    parts = (torch.arange(12) // 4)[:, None].expand(frames, 12, 12)
    window = (min(2, frames), 6, 6)
    return {"n_steps": 2, "n_samples": 6, "feature_mask": parts, "window": window, "stride": window}


@pytest.fixture
def cell(nets, families, having, plugin_method, family, method):
    """Model, batch and options of a method that applies to a family."""
    if method == "supervoxel_occlusion":
        pytest.importorskip("skimage")
    batch = families.batch_of(family)
    return families.model_of(family), batch, {"method": method, **having(method, quick(batch))}


def is_blind(model, options):
    """Whether a map is zero by right: a mean over frames owes nothing to their order."""
    return options["method"] == "frame_order" and type(model).__name__ == "Frames"


def test_the_families_are_those_of_the_table(families):
    assert list(families.FAMILIES) == list(families.REFUSED) == NAMES


@pytest.mark.parametrize("family", NAMES)
def test_a_method_applies_just_where_the_table_says(nets, families, having, family, plugin_method):
    pytest.importorskip("skimage")
    model, batch = families.model_of(family), families.batch_of(family)
    found = nets.fingerprint(model)
    reasons = explain.applicability(model, batch)
    assert nets.fingerprint(model) == found
    assert list(reasons) == METHODS
    assert {name for name, reason in reasons.items() if reason} == set(families.REFUSED[family])
    for name, (_, said) in families.REFUSED[family].items():
        assert said
        assert said in reasons[name]
        with pytest.raises(ZooError) as refused:
            explain.attribute(model, batch, method=name, **having(name, quick(batch)))
        assert str(refused.value) == reasons[name]
        assert nets.fingerprint(model) == found


def disturbed(model, batch):
    """A network as found in the middle of somebody's work."""
    model.train()
    next(module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)).eval()
    output = model(batch)
    (output["digit"] if isinstance(output, dict) else output).sum().backward()
    parameters = list(model.parameters())
    parameters[-1].requires_grad_(False)
    parameters[0].grad = None
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    heads[-1].register_forward_hook(lambda *_: None)
    heads[0].register_full_backward_hook(lambda *_: None)
    return model


def test_model_batch_and_process_are_left_as_found(nets, cell):
    model, batch, options = cell
    disturbed(model, batch)
    torch.backends.cudnn.benchmark, before = True, torch.backends.cudnn.benchmark
    try:
        found, given = nets.fingerprint(model), batch.clone().requires_grad_()
        with torch.no_grad():
            result = explain.attribute(model, given, **options)
            assert not torch.is_grad_enabled()
        assert nets.fingerprint(model) == found
        assert torch.equal(given, batch)
        assert given.requires_grad
        assert given.grad is None
    finally:
        torch.backends.cudnn.benchmark = before
    assert result.raw.isfinite().all()
    assert result.map.shape == (2, 1 if batch.ndim == 4 else 4, 12, 12)
    assert (float(result.map.abs().max()) < 1e-12) is is_blind(model, options)


def test_model_and_process_are_left_as_found_on_failure(nets, cell):
    model, batch, options = cell
    disturbed(model, batch)
    runs, last = [], 1 if find_method(options["method"]).reads else 2  # a shared pass is the only one

    def failing(output):
        torch.rand(1)
        runs.append(1)
        if len(runs) == last:
            raise KeyboardInterrupt
        return (output["digit"] if isinstance(output, dict) else output)[:, 0]

    found = nets.fingerprint(model)
    with contextlib.suppress(KeyboardInterrupt):
        explain.attribute(model, batch, **{**options, "target": failing})
    assert len(runs) == last
    assert nets.fingerprint(model) == found


def test_neither_batches_nor_other_samples_matter(cell):
    model, batch, options = cell
    together = explain.attribute(model, batch, **options)
    single = explain.attribute(model, batch, batch_size=1, **options)
    assert torch.allclose(single.raw, together.raw, atol=1e-12)
    for sample in range(len(batch)):
        alone = explain.attribute(model, batch[sample : sample + 1], **options)
        assert torch.allclose(alone.raw, together.raw[sample : sample + 1], atol=1e-12)
        assert torch.allclose(alone.map, together.map[sample : sample + 1], atol=1e-12)
        assert torch.allclose(alone.time, together.time[sample : sample + 1], atol=1e-12)
        assert alone.target.descriptions == together.target.descriptions[sample : sample + 1]


def test_seeds_repeat_and_others_differ_where_something_is_drawn(having, cell):
    model, batch, options = cell
    model, batch = model.float(), batch.float()
    options = {**options, **having(options["method"], DRAWING.get(options["method"], {}))}
    if batch.ndim == 4 and "window" in options:
        options["window"] = (1, *options["window"][1:])
    torch.rand(3)
    one = explain.attribute(model, batch, seed=3, **options)
    torch.rand(5)
    again = explain.attribute(model, batch, seed=3, **options)
    other = explain.attribute(model, batch, seed=4, **options)
    assert torch.equal(one.raw, again.raw)
    assert torch.equal(one.map, again.map)
    if not is_blind(model, options):
        assert torch.equal(one.raw, other.raw) is (options["method"] not in DRAWING)


class Linear(nn.Module):
    """A weighted sum of a batch in any layout, and another."""

    def __init__(self, shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, *shape))

    def forward(self, x):
        return torch.stack([(x * weight).flatten(1).sum(dim=1) for weight in self.weight], dim=1)


def in_parts(terms, parts):
    """For each pixel the sum of the terms (N x T x H x W) in its part (T x H x W)."""
    sums = torch.stack([terms[:, parts == part].sum(dim=1) for part in range(int(parts.max()) + 1)], dim=1)
    return sums[:, parts]


@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW", "NCHW"])
@pytest.mark.parametrize("method", METHODS[:-1])
def test_of_a_linear_model_it_is_the_closed_form(nets, having, layout, method):
    shape = {"NCTHW": (2, 4, 6, 6), "NTCHW": (4, 2, 6, 6), "NCHW": (2, 6, 6)}[layout]
    model, batch = Linear(shape), torch.randn(2, *shape)
    model.zoo_entry = nets.entry(layout)
    weight = model.weight[1].detach()
    by_pixel = (weight * (batch - 0.3)).sum(dim=2 if layout == "NTCHW" else 1)
    terms = by_pixel[:, None] if layout == "NCHW" else by_pixel
    frames = terms.shape[1]
    time, row, column = torch.meshgrid(*(torch.arange(size) for size in terms.shape[1:]), indexing="ij")
    blocks, stretches = (time // 2 * 2 + row // 3) * 2 + column // 3, time // 2
    features = row // 2
    reversed_ = batch.flip({"NCTHW": 2, "NTCHW": 1, "NCHW": 0}[layout])
    turned = (weight * (batch - reversed_)).flatten(1).sum(dim=1).view(-1, 1, 1, 1).expand_as(terms)
    raw = {
        "saliency": weight.expand_as(batch),
        "smooth_grad": weight.expand_as(batch),
        "input_x_gradient": weight * batch,
        **dict.fromkeys(
            ("integrated_gradients", "gradient_shap", "deep_lift", "deep_lift_shap"), weight * (batch - 0.3)
        ),
    }
    maps = {
        "occlusion": in_parts(terms, blocks),
        "temporal_occlusion": in_parts(terms, stretches),
        "frame_order": turned,
        **dict.fromkeys(("feature_ablation", "shapley_sampling", "kernel_shap", "lime"), in_parts(terms, features)),
    }
    options = {"target": 1, "baseline": 0.3, "fill": "cover", "feature_mask": features, "n_samples": 64, "n_steps": 3}
    window = (min(2, frames), 3, 3) if method != "frame_order" else (frames, 1, 1)
    options = having(method, {**options, "window": window, "stride": window})
    if layout == "NCHW" and method in {"temporal_occlusion", "frame_order"}:
        with pytest.raises(ZooError, match="single frame"):
            explain.attribute(model, batch, method=method, **options)
    elif method in raw:
        result = explain.attribute(model, batch, method=method, **options)
        assert torch.allclose(result.raw, raw[method])
        if result.delta is not None:
            assert result.delta.abs().max() < 1e-6  # Captum keeps the weights of integration in 32 bits
    elif method in maps:
        found = explain.attribute(model, batch, method=method, **options).map
        near = 0.03 * float(maps[method].abs().max()) if method == "lime" else 1e-9  # ridge regression shrinks a little
        assert torch.allclose(found, maps[method], atol=near)
    else:
        assert (
            method in {"rise", "supervoxel_occlusion", "lrp"}
            or "cam" in method
            or "guided" in method
            or (method in {"deconvolution", "layer_activation", "layer_gradient_x_activation"})
        )


def test_the_documentation_shows_the_table(families):
    page = (Path(__file__).parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
    assert families.table() in page, "run tests/explain/attribution/families.py, and put its table into docs/methods.md"

"""Every method on modules of odd forms: as on the plain module, or refused with the true reason, and left as found."""

import copy
import io
import threading
import typing
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import explain
import zoo
from explain.attribution.methods import BUILT_IN, find_method
from explain.attribution.options import accepted
from explain.model.preservation import prepared
from zoo.errors import ModelError, UnknownNameError, UsageError

FRAMES, SIZE = 4, 12


class Plain(nn.Module):
    """3-D convolutions, ReLUs, a residual sum, max pooling, a mean, a linear layer: N x 1 x 4 x 12 x 12 to N x 3."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv3d(4, 4, 3, padding=1)
        self.last = nn.ReLU()
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        y = self.relu(self.first(x))
        y = self.last(y + self.second(y))
        return self.head(self.pool(y).mean(dim=(2, 3, 4)))


class InPlace(Plain):
    """Modifies what autograd has saved: ReLU's result, and a sum."""

    def forward(self, x):
        y = torch.relu(self.first(x))
        z = self.second(y)
        y += z
        y = torch.relu(y)
        kept = y * 1.0
        y *= 0.0
        y += kept
        return self.head(self.pool(y).mean(dim=(2, 3, 4)))


class Split(Plain):
    """Rectifies frame by frame, in place, in views that unbind gave."""

    def forward(self, x):
        y = self.relu(self.first(x))
        y = y + self.second(y)
        for frame in y.unbind(2):
            frame.relu_()
        return self.head(self.pool(y).mean(dim=(2, 3, 4)))


class Checkpointed(Plain):
    """Runs its blocks again in the backward pass instead of keeping what they computed."""

    reentrant = True

    def forward(self, x):
        y = checkpoint(lambda given: self.relu(self.first(given)), x, use_reentrant=self.reentrant)
        y = checkpoint(lambda given: self.last(given + self.second(given)), y, use_reentrant=self.reentrant)
        return self.head(self.pool(y).mean(dim=(2, 3, 4)))


class CheckpointedAnew(Checkpointed):
    """The same, in the way that torch recommends."""

    reentrant = False


class Functional(Plain):
    """Calls functions where the plain one has modules, under other names."""

    def forward(self, x):
        y = self.first(x).clip(min=0)
        y = F.threshold(y + self.second(y), 0.0, 0.0)
        return self.head(F.max_pool3d(y, (1, 2, 2)).mean(dim=(2, 3, 4)))


class Named(typing.NamedTuple):
    """Two outputs."""

    digit: torch.Tensor
    speed: torch.Tensor


class NamedOutputs(Plain):
    """Gives a named tuple."""

    def forward(self, x):
        output = super().forward(x)
        return Named(output, output[:, :1])


def _made_under_inference_mode(plain):
    with torch.inference_mode():
        return copy.deepcopy(plain)


def _exported(plain):
    # The program's module refuses train() and eval(), and its guards any other number of samples.
    example = torch.rand(2, 1, FRAMES, SIZE, SIZE)
    dynamic = ({0: torch.export.Dim("samples")},)
    with torch.no_grad():
        return torch.export.export(plain, (example,), dynamic_shapes=dynamic, strict=False).module()


def _torchscript(make):
    def made(plain):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return make(plain)

    return made


def _as(kind):
    def made(plain):
        odd = kind().eval()
        odd.load_state_dict(plain.state_dict())
        return odd

    return made


#: Name of the form to what makes it of the plain network.
FORMS = {
    "made under inference_mode": _made_under_inference_mode,
    "in place": _as(InPlace),
    "in place in views": _as(Split),
    "checkpointed, reentrant": _as(Checkpointed),
    "checkpointed": _as(CheckpointedAnew),
    "functional": _as(Functional),
    "named outputs": _as(NamedOutputs),
    "scripted": _torchscript(torch.jit.script),
    "frozen": _torchscript(lambda plain: torch.jit.freeze(torch.jit.script(plain))),
    "traced": _torchscript(lambda plain: torch.jit.trace(plain, torch.rand(2, 1, FRAMES, SIZE, SIZE))),
    "exported": _exported,
}


def plain_network():
    """The plain network, its weights drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Plain().eval()


def clips():
    """Two clips."""
    return torch.rand(2, 1, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


#: Why some methods cannot look at some forms, in part of the message: rules and layers need what is not there.
_UNSEEN = ("grad_cam", "grad_cam_per_frame", "guided_grad_cam", "layer_activation", "layer_gradient_x_activation")
_RULES = ("guided_backprop", "deconvolution", "deep_lift", "deep_lift_shap", "lrp")
REFUSED = {
    **{form: dict.fromkeys((*_UNSEEN, *_RULES), "TorchScript") for form in ("scripted", "frozen", "traced")},
    "exported": dict.fromkeys(_UNSEEN, "torch.export"),
}


METHODS = [method.name for method in BUILT_IN]


def options(method):
    """Few draws, three parts."""
    parts = (torch.arange(SIZE) // 4)[:, None].expand(FRAMES, SIZE, SIZE)
    given = {"n_steps": 2, "n_samples": 6, "window": (2, 6, 6), "stride": (2, 6, 6)}
    if method in {"kernel_shap", "lime", "shapley_sampling", "feature_ablation"}:
        given["feature_mask"] = parts
    given |= {"n_samples": 40} if method in {"kernel_shap", "lime"} else {}
    return {"target": 1, **accepted(find_method(method), given)}


@pytest.fixture(scope="module")
def expected():
    """The plain network's map by each method."""
    found = {}

    def of(method):
        if method not in found:
            found[method] = explain.attribute(plain_network(), clips(), method=method, **options(method))
        return found[method].map

    return of


@pytest.fixture(scope="module")
def odd():
    """The forms, each made once."""
    made = {}
    return lambda form: made.setdefault(form, FORMS[form](plain_network()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_right_or_refuses_and_leaves_the_module_as_found(nets, expected, odd, form, method):
    if method == "supervoxel_occlusion":
        pytest.importorskip("skimage")
    torch.set_default_dtype(torch.float32)  # the fixture `nets` gives the former back
    model, batch = odd(form), clips()
    found = nets.fingerprint(model)
    reason = REFUSED.get(form, {}).get(method)
    given = options(method) | ({"target": "digit:1"} if form == "named outputs" else {})
    if reason is not None:
        with pytest.raises(ModelError, match=reason):
            explain.attribute(model, batch, method=method, **given)
    else:
        heat = explain.attribute(model, batch, method=method, **given).map
        torch.testing.assert_close(heat, expected(method), rtol=0, atol=1e-4 * float(expected(method).abs().max()))
    assert nets.fingerprint(model) == found


@pytest.mark.parametrize("form", FORMS)
def test_applicability_gives_the_same_reasons(odd, form):
    pytest.importorskip("skimage")
    target = "digit:1" if form == "named outputs" else 1
    reasons = explain.applicability(odd(form), clips(), target)
    refused = REFUSED.get(form, {})
    assert {name for name in METHODS if reasons[name]} == set(refused)
    assert all(reason in reasons[name] for name, reason in refused.items())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # says torch's checkpoint
@pytest.mark.parametrize("form", FORMS)
def test_predictions_are_the_plain_modules(odd, form):
    batch = clips()
    found = zoo.predict(odd(form), batch[:1])[0]
    plain = zoo.predict(plain_network(), batch[:1])[0]
    head = "digit" if form == "named outputs" else "output"
    assert [one["label"] for one in found.record()[head]["top"]] == [
        one["label"] for one in plain.record()["output"]["top"]
    ]


@pytest.mark.parametrize("form", ["made under inference_mode", "in place", "in place in views", "checkpointed"])
def test_maximization_and_fields_are_the_plain_modules(odd, form):
    given = {"shape": (1, 4, 12, 12), "steps": 3}
    found = explain.maximize(odd(form), "first", [0], **given)
    plain = explain.maximize(plain_network(), "first", [0], **given)
    torch.testing.assert_close(found.clips, plain.clips, rtol=0, atol=1e-5)
    one, other = (explain.effective_field(model, "second", clips()) for model in (odd(form), plain_network()))
    torch.testing.assert_close(one.heat, other.heat, rtol=0, atol=1e-5 * float(other.heat.max()))


def test_a_program_that_takes_one_sample_runs_sample_by_sample():
    plain, batch = plain_network(), clips()
    stored = io.BytesIO()
    torch.export.save(torch.export.export(plain, (batch[:1],), strict=False), stored)
    stored.seek(0)
    model = torch.export.load(stored).module()
    for method in ("saliency", "occlusion", "integrated_gradients", "lrp"):
        found = explain.attribute(model, batch, method=method, **options(method)).map
        wanted = explain.attribute(plain, batch, method=method, **options(method)).map
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_tied_parameters_and_recurrent_weights_made_under_inference_mode_are_copied_and_given_back(nets):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(1, 4, 3, padding=1)
            self.again = nn.Conv3d(1, 4, 3, padding=1)
            self.again.weight = self.conv.weight
            self.lstm = nn.LSTM(4, 3, batch_first=True)
            self.kept = torch.ones(3)

        def forward(self, x):
            states, _ = self.lstm((self.conv(x) + self.again(x)).mean(dim=(3, 4)).transpose(1, 2))
            return states[:, -1] * self.kept

    batch = torch.rand(1, 1, 4, 6, 6)
    plain = Tied().eval()
    with torch.inference_mode():
        model = Tied().eval()
        model.load_state_dict(plain.state_dict())
    found, listed = nets.fingerprint(model), list(map(id, model.lstm._flat_weights))
    with prepared(model):
        assert model.conv.weight is model.again.weight
        assert not any(value.is_inference() for value in (*model.parameters(), *model.lstm._flat_weights, model.kept))
        assert model.lstm._flat_weights[0] is model.lstm.weight_ih_l0
    assert nets.fingerprint(model) == found
    assert list(map(id, model.lstm._flat_weights)) == listed
    heat = explain.attribute(model, batch, method="saliency").map
    torch.testing.assert_close(heat, explain.attribute(plain, batch, method="saliency").map)


def test_what_autograd_cannot_follow_in_place_is_refused_in_words():
    class Overwritten(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            leaf = torch.zeros(len(x), 3, requires_grad=True)
            leaf += x.flatten(1)[:, :3] * self.weight
            return leaf

    batch = torch.rand(1, 1, 2, 4, 4)
    with pytest.raises(ModelError, match="in place"):
        explain.attribute(Overwritten(), batch, method="saliency")


# torch.ao's quantization, which models in use were made by, warns.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor")
def test_gradients_through_quantized_layers_are_refused_also_where_another_path_has_some():
    class Branches(Plain):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(4, 3)

        def forward(self, x):
            y = self.relu(self.first(x))
            return self.other(y.mean(dim=(2, 3, 4))) + super().forward(x)

    quantized = torch.ao.quantization.quantize_dynamic(
        Branches().eval(), {"head": torch.ao.quantization.default_dynamic_qconfig}
    )
    batch = clips()
    reasons = explain.applicability(quantized, batch)
    for method in ("saliency", "guided_backprop", "deconvolution", "grad_cam", "integrated_gradients", "lrp"):
        assert "quantized" in reasons[method]
        with pytest.raises(ModelError, match="quantized"):
            explain.attribute(quantized, batch, method=method)
    assert explain.attribute(quantized, batch, method="occlusion", window=(2, 6, 6)).map.any()


@pytest.mark.parametrize("own", [False, True])
def test_a_model_that_is_random_in_eval_mode_is_said_to_be(own):
    class Random(Plain):
        def __init__(self):
            super().__init__()
            self.draw = torch.Generator().manual_seed(3) if own else None

        def forward(self, x):
            return super().forward(x * torch.rand(x.shape, generator=self.draw))

    class Drawing(Plain):
        def forward(self, x):
            torch.rand(1)
            return super().forward(x)

    model, batch = Random().eval(), clips()
    before = model.draw.get_state() if own else torch.get_rng_state()
    first, again = (explain.attribute(model, batch, method="saliency") for _ in range(2))
    assert "random" in first.note
    assert torch.equal(first.map, again.map)
    assert torch.equal(model.draw.get_state() if own else torch.get_rng_state(), before)
    assert "random" not in explain.attribute(Drawing().eval(), batch, method="saliency").note


def test_threads_wait_for_each_other_on_one_model_and_on_models_that_share_layers(nets):
    plain, batch = plain_network(), clips()
    shared = nn.Sequential(plain).eval()
    found = nets.fingerprint(shared)
    torch.set_default_dtype(torch.float32)
    wanted = {
        method: explain.attribute(plain, batch, method=method) for method in ("grad_cam", "lrp", "integrated_gradients")
    }
    results, errors = [], []

    def explaining(model, method):
        try:
            results.extend((method, explain.attribute(model, batch, method=method).map) for _ in range(3))
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [
        threading.Thread(target=explaining, args=(model, method)) for method in wanted for model in (plain, shared)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(results) == 18
    for method, heat in results:
        assert torch.equal(heat, wanted[method].map)
    assert nets.fingerprint(shared) == found


def test_a_second_thread_waits_until_the_first_has_left_the_model():
    model, order = plain_network(), []
    entered = threading.Event()

    def second():
        entered.wait(10)
        with prepared(model):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with prepared(model):
        entered.set()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    other = plain_network()
    with prepared(model):
        thread = threading.Thread(target=lambda: explain.attribute(other, clips(), method="saliency"))
        thread.start()
        thread.join(60)
        assert not thread.is_alive()


class Outputs(Plain):
    """Gives what a function makes of the plain network's output."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(super().forward(x))


def test_truth_values_are_explained_by_removal_and_refused_by_gradients():
    model, batch = Outputs(lambda y: y > y.mean()).eval(), clips()
    assert explain.attribute(model, batch, method="occlusion", target=1).target.value.tolist() in (
        [0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0],
    )  # fmt: skip
    for method in ("saliency", "grad_cam", "guided_backprop", "lrp"):
        with pytest.raises(ModelError, match="differentiably"):
            explain.attribute(model, batch, method=method)
    assert set(zoo.predict(model, batch)[0]) == {"output"}


def test_complex_outputs_are_refused_with_the_way_out():
    batch = clips()
    model = Outputs(lambda y: torch.complex(y, -y)).eval()
    for function in (lambda: explain.attribute(model, batch, method="saliency"), lambda: zoo.predict(model, batch)):
        with pytest.raises(ModelError, match="complex"):
            function()
    assert explain.attribute(model, batch, method="saliency", target=lambda output: output.abs().sum(1)).map.any()
    with pytest.raises(UsageError, match="complex"):
        explain.attribute(model, batch, method="saliency", target=lambda output: output.sum(1))
    beside = Outputs(lambda y: {"class": y, "spectrum": torch.complex(y, y)}).eval()
    assert list(zoo.predict(beside, batch)[0]) == ["class"]


def test_one_number_for_the_whole_batch_is_refused():
    with pytest.raises(UsageError, match="whole batch"):
        explain.attribute(Outputs(torch.sum).eval(), clips(), method="saliency")


@pytest.mark.parametrize("target", [0, "0", "#0", "output:0", "output", None])
def test_the_only_column_may_be_called_class_0(target):
    model, batch = Outputs(lambda y: y[:, :1]).eval(), clips()
    found = explain.attribute(model, batch, method="saliency", target=target)
    assert found.target.description == "output"
    with pytest.raises((UsageError, UnknownNameError)):
        explain.attribute(model, batch, method="saliency", target=1)


@pytest.mark.parametrize("batch", [[torch.full((1, 1, 4, 12, 12), 0.123)] * 5, {"a": torch.full((2,), 0.123)}])
def test_a_batch_that_is_none_is_named_by_its_parts_shapes_and_not_by_their_numbers(batch):
    for function in (
        lambda: explain.attribute(plain_network(), batch, method="saliency"),
        lambda: zoo.predict(plain_network(), batch),
    ):
        with pytest.raises(UsageError) as refused:
            function()
        assert "0.123" not in str(refused.value)
        assert type(batch).__name__ in str(refused.value)
        assert str(tuple((batch[0] if isinstance(batch, list) else batch["a"]).shape)) in str(refused.value)


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1), lambda y: y.softmax(1)])
@pytest.mark.parametrize("method", ["lrp", "deep_lift"])
def test_the_refusal_of_a_softmax_at_the_end_names_a_target_that_works(end, method):
    model, batch = Outputs(end).eval(), clips()
    with pytest.raises(ModelError, match="Softmax") as refused:
        explain.attribute(model, batch, method=method, target=2)
    assert "target='head/2'" in str(refused.value)
    assert explain.attribute(model, batch, method=method, target="head/2").map.any()


def test_a_softmax_inside_names_no_such_target():
    class Attending(Plain):
        def forward(self, x):
            y = self.relu(self.first(x))
            return self.head((y * y.flatten(2).softmax(2).view_as(y)).sum(dim=(2, 3, 4)))

    with pytest.raises(ModelError) as refused:
        explain.attribute(Attending().eval(), clips(), method="lrp")
    assert "target=" not in str(refused.value)

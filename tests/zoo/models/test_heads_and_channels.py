"""Other classes and other input channels: what fits is kept, what does not is adapted or drawn, and all is told."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.errors import ModelError, UnknownNameError, UsageError, WeightsError
from zoo.models import heads_and_channels

NETWORKS = """
    def network(kind, **given):
        import torch
        from torch import nn

        class Two(nn.Module):
            def __init__(self, shapes=3):
                super().__init__()
                self.stem, self.way = nn.Conv3d(1, 4, 3), nn.Conv3d(1, 4, 3)
                self.shape, self.colour, self.size = nn.Linear(4, shapes), nn.Linear(4, 3), nn.Linear(4, 1)

            def forward(self, x):
                x = (self.stem(x) + self.way(x)).relu().mean((2, 3, 4))
                return {"shape": self.shape(x), "colour": self.colour(x), "size": self.size(x)}

        stem = nn.Conv3d(2, 3, 3, bias=False)
        if kind == "convolution":
            return nn.Sequential(stem, nn.ReLU(), nn.Conv3d(3, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        if kind == "softmax":
            pooled = nn.Sequential(stem, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 5))
            return nn.Sequential(pooled, nn.Softmax(dim=1))
        if kind == "mixed":
            return nn.Sequential(stem, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 5), nn.LayerNorm(5))
        return Two(**given)

    @hookimpl
    def zoo_models():
        fields = dict(builder=f"{__name__}:network", parameters=1,
                      input=InputSpec(frames=4, size=(8, 8), channels="other", other_channels=2))
        single = [entry(kind, arguments={"kind": kind}, outputs=(OutputSpec(labels=tuple("abcde")),), **fields)
                  for kind in ("convolution", "softmax", "mixed")]
        heads = (OutputSpec(name="shape", labels=("round", "square", "flat"), argument="shapes"),
                 OutputSpec(name="colour", labels=("red", "green", "blue")),
                 OutputSpec(name="size", kind="value"))
        return [*single, entry("two", arguments={"kind": "two"}, outputs=heads,
                               **{**fields, "input": INPUT}),
                entry("tiny", outputs=(OutputSpec(name="shape", labels=tuple("abc"), argument="classes"),))]
"""


@pytest.fixture
def networks(installed, tiny, monkeypatch, tmp_path):
    """Of each network by name: a weights file, and what is in it."""
    installed.add("several", tiny + NETWORKS)
    installed.use(monkeypatch)
    made = {}
    for name in zoo.list_models():
        tensors = zoo.load(name, weights=None, seed=7).state_dict()
        made[name] = tmp_path / f"{name}.safetensors", tensors
        save_file(tensors, made[name][0])
    return made


def same(model, tensors, names):
    state = model.state_dict()
    return all(torch.equal(state[name], tensors[name]) for name in names)


def test_a_builder_is_asked_for_its_classes_and_the_head_is_drawn_from_the_seed(networks):
    path, tensors = networks["tiny"]
    state = torch.get_rng_state()
    model, again = (zoo.load("tiny", weights=path, num_classes=5, seed=2) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert model(torch.zeros(1, 1, 4, 8, 8)).shape == (1, 5)
    assert model.zoo_entry.arguments == {"classes": 5}
    assert torch.equal(model[5].weight, again[5].weight)
    assert not torch.equal(model[5].weight, zoo.load("tiny", weights=path, num_classes=5, seed=3)[5].weight)
    report = model.zoo_load_report
    assert same(model, tensors, report.taken_names)
    assert len(report.taken_names) == report.taken == 7
    assert report.initialised_names == report.left_names == ("5.weight", "5.bias")
    assert (report.num_classes, report.replaced, report.tag) == ({"shape": 5}, (), "tiny (resized)")


def test_the_entry_follows(networks):
    model = zoo.load("tiny", weights=networks["tiny"][0], num_classes=5)
    (head,) = model.zoo_entry.outputs
    assert (head.name, head.labels) == ("shape", ())
    assert model.zoo_entry.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert model.zoo_entry.weights == (model.zoo_weights,)
    assert (model.zoo_weights.metrics, model.zoo_weights.golden) == ((), None)


def test_a_head_that_fits_is_kept_with_its_labels(networks):
    path, tensors = networks["tiny"]
    model = zoo.load("tiny", weights=path, num_classes=3, in_channels=1)
    assert same(model, tensors, tensors)
    assert model.zoo_entry.outputs[0].labels == tuple("abc")
    assert model.zoo_load_report.num_classes is None


@pytest.mark.parametrize("weights", [True, False])
def test_a_convolution_before_the_pool_is_found_to_be_the_head(networks, weights):
    path, tensors = networks["convolution"]
    model = zoo.load("convolution", weights=path if weights else None, num_classes=7, seed=1)
    assert model(torch.zeros(1, 2, 4, 8, 8)).shape == (1, 7)
    assert model.zoo_load_report.replaced == ("2",)
    assert {"2.weight", "2.bias"} <= set(model.zoo_load_report.initialised_names)
    assert torch.equal(model[0].weight, tensors["0.weight"]) == weights


def test_one_head_of_several_is_replaced_and_the_others_stay(networks):
    path, tensors = networks["two"]
    model = zoo.load("two", weights=path, num_classes={"colour": 6, "shape": 2})
    heads = model(torch.zeros(2, 1, 4, 8, 8))
    assert {name: head.shape[1] for name, head in heads.items()} == {"shape": 2, "colour": 6, "size": 1}
    assert model.zoo_entry.arguments == {"kind": "two", "shapes": 2}
    assert model.zoo_load_report.replaced == ("colour",)
    assert same(model, tensors, ("stem.weight", "stem.bias", "size.weight", "size.bias"))
    assert set(model.zoo_load_report.initialised_names) == {
        "shape.weight",
        "shape.bias",
        "colour.weight",
        "colour.bias",
    }


@pytest.mark.parametrize("name", ["softmax", "mixed"])
def test_where_logits_are_mixed_no_layer_is_replaced(networks, name):
    with pytest.raises(ModelError, match=r"no layer of .* can be told to give the 5 classes of 'output'"):
        zoo.load(name, weights=networks[name][0], num_classes=7)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_input_with_equal_channels_gives_the_response_it_gave(networks, channels):
    path, tensors = networks["convolution"]
    model = zoo.load("convolution", weights=path, in_channels=channels)
    plane = torch.randn(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    before = zoo.load("convolution", weights=path)[0](plane.expand(-1, 2, -1, -1, -1))
    after = model[0](plane.expand(-1, channels, -1, -1, -1))
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    assert model.zoo_load_report.adapted_names == ("0.weight",)
    assert same(model, tensors, model.zoo_load_report.taken_names)
    assert model.zoo_entry.input.channel_count == channels


def test_every_convolution_that_reads_the_batch_is_adapted(networks):
    model = zoo.load("two", weights=networks["two"][0], in_channels=3)
    assert model.zoo_load_report.adapted_names == ("stem.weight", "way.weight")
    assert model.zoo_load_report.replaced == ("stem", "way")
    assert model.zoo_entry.input.channels == "RGB"


def test_the_rule_of_input_channels_against_its_words():
    kernel = torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for channels in (1, 2, 5):
        slow = torch.zeros(4, channels, 2, 2, dtype=torch.float64)
        for filter_ in range(4):
            for channel in range(channels):
                if channels > 3:
                    slow[filter_, channel] = kernel[filter_, channel] if channel < 3 else 0
                else:
                    slow[filter_, channel] = sum(kernel[filter_, old] for old in range(3)) / channels
        torch.testing.assert_close(heads_and_channels.spread(kernel, channels), slow)
    grey = kernel[:, :1]
    torch.testing.assert_close(heads_and_channels.spread(grey, 3), torch.cat([grey / 3] * 3, dim=1))


def test_the_input_of_other_channels_is_grey_colours_or_neither():
    spec = zoo.InputSpec(frames=2, size=(4, 4), mean=(0.1, 0.2, 0.6), std=(0.2, 0.3, 0.4))
    grey = heads_and_channels._input(spec, 1)
    assert (grey.channels, grey.mean, grey.std) == ("L", pytest.approx((0.3,)), pytest.approx((0.3,)))
    assert heads_and_channels._input(grey, 3).channels == "RGB"
    other = heads_and_channels._input(spec, 5)
    assert (other.channels, other.channel_count, other.shape) == ("other", 5, (1, 5, 2, 4, 4))
    with pytest.raises(ValueError, match="other_channels"):
        dataclasses.replace(spec, channels="other")


def test_no_clip_becomes_what_is_no_colour(networks):
    with pytest.raises(zoo.ZooError, match="2 channels that are no colours"):
        zoo.preprocess(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), zoo.info("convolution"))


@pytest.mark.parametrize("name", ["conv3d", "3t_resnet18_w16.rotation", "2d_resnet18_w16"])
def test_first_party_models_take_other_numbers(name):
    before = zoo.load(name)
    head = before.zoo_entry.outputs[0].name
    model = zoo.load(name, num_classes={head: 4}, in_channels=3)
    spec = model.zoo_entry.input
    assert (spec.channels, model.zoo_load_report.replaced) == ("RGB", ())
    given = model(torch.rand(spec.shape))
    assert (given if isinstance(given, torch.Tensor) else given[head]).shape == (1, 4)
    assert before.zoo_weights.golden
    assert (model.zoo_weights.golden, model.zoo_weights.metrics, model.zoo_weights.record) == (None, (), None)
    adapted = model.zoo_load_report.adapted_names
    assert adapted
    for one in adapted:
        torch.testing.assert_close(model.state_dict()[one].sum(1, keepdim=True), before.state_dict()[one])
    assert len(model.zoo_load_report.taken_names) == len(before.state_dict()) - 2 - len(adapted)


def test_2d_weights_inflate_into_a_network_with_other_classes():
    model = zoo.load("3t_resnet18_w16", weights="2d_resnet18_w16", adapt="inflate", num_classes=4)
    assert model.fc.out_features == 4
    assert model.zoo_load_report.tag == "2d_resnet18_w16.still_digits (inflated) (resized)"
    assert "conv1.weight" in model.zoo_load_report.adapted_names


@pytest.mark.parametrize(
    ("name", "asked", "error", "said"),
    [
        ("two", {"num_classes": 4}, UsageError, "say --num-classes shape=4 --num-classes colour=4, or some"),
        ("two", {"num_classes": {"size": 4}}, UnknownNameError, "unknown head of classes 'size'"),
        ("two", {"num_classes": {"colours": 4}}, UnknownNameError, "did you mean 'colour'"),
        ("tiny", {"num_classes": 0}, UsageError, "expected a positive whole number"),
        ("tiny", {"num_classes": {"shape": 2.5}}, UsageError, "expected a positive whole number"),
        ("tiny", {"num_classes": "3"}, UsageError, "expected a whole number, or one for each head"),
        ("tiny", {"in_channels": -1}, UsageError, "expected a positive whole number"),
    ],
)
def test_wrong_numbers_raise_named_errors(networks, name, asked, error, said):
    with pytest.raises(error, match=said):
        zoo.load(name, weights=None, **asked)


def test_other_classes_of_a_model_that_gives_a_clip_are_refused():
    with pytest.raises(
        UsageError, match=r"stdcf_autoencoder gives no classes, but output \(clip\); leave num_classes out"
    ):
        zoo.load("stdcf_autoencoder", num_classes=5)


def test_a_depthwise_stem_is_not_adapted(installed, tiny, monkeypatch):
    code = tiny.replace("nn.Conv3d(1, 2, 3, padding=1)", "nn.Conv3d(2, 2, 3, padding=1, groups=2)")
    code = code.replace('channels="L"', 'channels="other", other_channels=2')
    installed.add("grouped", code)
    installed.use(monkeypatch)
    with pytest.raises(ModelError, match="no convolution of all 2 channels"):
        zoo.load("tiny", weights=None, in_channels=4)


def test_the_replaced_layer_has_the_mode_of_the_old_one():
    model = nn.Sequential(nn.Linear(2, 3).eval())
    heads_and_channels._exchange(model, "0", nn.Linear(2, 5))
    assert (model[0].out_features, model[0].training) == (5, False)


def test_a_head_without_labels_that_has_the_number_already_is_kept(installed, tiny, monkeypatch, tmp_path):
    installed.add("plain", tiny.replace(', labels=("round", "square", "flat")', ""))
    installed.use(monkeypatch)
    save_file(zoo.load("tiny", weights=None, seed=3).state_dict(), tmp_path / "tiny.safetensors")
    known, kept = (zoo.load("tiny", weights=tmp_path / "tiny.safetensors", num_classes=n) for n in (None, 3))
    assert all(torch.equal(kept.state_dict()[name], value) for name, value in known.state_dict().items())
    assert kept.zoo_load_report.replaced == ()
    other = zoo.load("tiny", weights=tmp_path / "tiny.safetensors", num_classes=4)
    assert other.zoo_load_report.replaced == ("5",)


def trained_further(model, path):
    """Change every parameter of a model, as training does, and save its state as users do."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) / 10)
    save_file(model.state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("tiny", {"num_classes": 7}),
        ("convolution", {"num_classes": 7}),
        ("two", {"num_classes": {"shape": 2, "colour": 6}}),
        ("two", {"num_classes": {"colour": 6}, "in_channels": 3}),
        ("convolution", {"in_channels": 3}),
        ("convolution", {"num_classes": 2, "in_channels": 1}),
    ],
)
@pytest.mark.parametrize("start", ["a file", None])
def test_what_was_trained_with_other_numbers_loads_back_with_them(networks, tmp_path, name, numbers, start):
    model = zoo.load(name, weights=start and networks[name][0], seed=3, **numbers)
    path = trained_further(model, tmp_path / "mine.safetensors")
    again = zoo.load(name, weights=path, **numbers)
    batch = torch.randn(again.zoo_entry.input.shape)
    torch.testing.assert_close(again(batch), model(batch), rtol=0, atol=0)
    report = again.zoo_load_report
    assert set(report.taken_names) == set(model.state_dict())
    assert (report.initialised, report.left, report.adapted, report.converted) == (0, 0, 0, 0)
    assert again.zoo_entry.input == model.zoo_entry.input
    assert again.zoo_entry.outputs == model.zoo_entry.outputs


@pytest.mark.parametrize(("name", "head"), [("tiny", "5"), ("convolution", "2")])
@pytest.mark.parametrize("count", [7, 3, 5])
def test_a_backbone_without_its_head_gets_one_of_the_number_asked_for(networks, tmp_path, name, head, count):
    kept = {key: tensor for key, tensor in networks[name][1].items() if not key.startswith(f"{head}.")}
    save_file(kept, tmp_path / "backbone.safetensors")
    with pytest.raises(WeightsError, match="--num-classes N"):
        zoo.load(name, weights=tmp_path / "backbone.safetensors")
    model = zoo.load(name, weights=tmp_path / "backbone.safetensors", num_classes=count, seed=2)
    assert model(torch.zeros(model.zoo_entry.input.shape)).shape == (1, count)
    report = model.zoo_load_report
    assert set(report.initialised_names) == {f"{head}.weight", f"{head}.bias"}
    assert set(report.taken_names) == set(kept)
    assert same(model, kept, kept)
    assert model.zoo_entry.outputs[0].labels == ()
    again = zoo.load(name, weights=tmp_path / "backbone.safetensors", num_classes=count, seed=2)
    assert same(again, model.state_dict(), model.state_dict())


def test_a_file_of_one_more_head_takes_what_it_has(networks, tmp_path):
    whole = zoo.load("two", weights=None, num_classes={"shape": 2})
    kept = {key: value for key, value in whole.state_dict().items() if not key.startswith("colour")}
    save_file(kept, tmp_path / "part.safetensors")
    model = zoo.load("two", weights=tmp_path / "part.safetensors", num_classes={"shape": 2, "colour": 3})
    assert same(model, kept, kept)
    assert set(model.zoo_load_report.initialised_names) == {"colour.weight", "colour.bias"}


@pytest.mark.parametrize("name", ["tiny", "convolution"])
@pytest.mark.parametrize("change", ["backbone missing", "half a head", "another number", "backbone of another shape"])
def test_other_numbers_do_not_excuse_anything_else(networks, tmp_path, name, change):
    head, tensors = {"tiny": "5", "convolution": "2"}[name], dict(networks[name][1])
    if change == "backbone missing":
        del tensors["0.weight"]
    elif change == "half a head":
        del tensors[f"{head}.bias"]
    elif change == "another number":
        tensors |= {key: torch.cat([tensors[key]] * 2) for key in (f"{head}.weight", f"{head}.bias")}
    else:
        tensors["0.weight"] = torch.cat([tensors["0.weight"]] * 2)
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match="another architecture"):
        zoo.load(name, weights=tmp_path / "bad.safetensors", num_classes=7)


def test_a_file_with_another_number_of_classes_says_how_to_load_it(networks, tmp_path):
    path = trained_further(zoo.load("tiny", weights=None, num_classes=7), tmp_path / "mine.safetensors")
    with pytest.raises(WeightsError, match="--num-classes 7"):
        zoo.load("tiny", weights=path)

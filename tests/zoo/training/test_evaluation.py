import json

import pytest
import torch
from safetensors.torch import save_file

import zoo
from zoo.errors import NoEvaluationError, PluginError, UnknownNameError, UsageError, WeightsError
from zoo.training.evaluation import stored
from zoo.weights.describing import describe_file
from zoo.weights.digests import sha256_of

PLUGIN = """
    from zoo import InputSpec, ModelEntry, OutputSpec, Recipe, WeightsEntry, hookimpl

    def build():
        from torch import nn
        return nn.Linear(2, 3)

    def measure(network, device, clips=None):
        value = network.weight.sum().item()
        return {"metrics": [{"dataset": "lines", "split": "test", "name": "sum", "value": value}],
                "clips_measured": clips or 7, "breakdown": {"side": [{"side": "left", "clips": 2, "sum": None}]}}

    def listen(network, device, clips=None):
        return network.ears

    def talk(network, device, clips=None):
        return {"metrics": "good", "breakdown": {}}

    def recipe(name, evaluate="measure"):
        return Recipe(name=name, build="b:b", export="e:e", example="x:x", stages=(),
                      evaluate=f"{__name__}:{evaluate}")

    def entry(name, weights=()):
        return ModelEntry(name=name, builder=f"{__name__}:build", summary="flat", parameters=9, weights=weights,
                          input=InputSpec(frames=1, size=(1, 2)), outputs=(OutputSpec(),))

    @hookimpl
    def zoo_models():
        return [entry("flat"), entry("steep"), entry("bare"), entry("trained", WEIGHTS)]

    @hookimpl
    def zoo_recipes():
        return [recipe("flat.tag"), recipe("steep.one"), recipe("steep.two"), recipe("loud.tag", "talk"),
                recipe("deaf.tag", "listen"), recipe("bare.tag", "listen")]

    WEIGHTS = ()
"""


def evaluate(*given, **named):
    """The record of `zoo.evaluate`."""
    return zoo.evaluate(*given, **named).record()


@pytest.fixture
def flat(installed, monkeypatch):
    installed.add("flat", PLUGIN)
    installed.use(monkeypatch)


@pytest.fixture
def file(tmp_path, flat):
    """Weights of the architecture `flat`, nothing beside them."""
    path = tmp_path / "flat.tag.safetensors"
    save_file(zoo.load("flat", weights=None, seed=3).state_dict(), path)
    return path


@pytest.fixture
def trained(installed, monkeypatch, file):
    """An architecture whose weights have a record; gives the record's path."""
    weights = describe_file(str(file))
    record = file.with_name("record.json")
    given = {"source": str(file), "bytes": weights.bytes, "sha256": weights.sha256, "record": str(record)}
    full, bare = {"tag": "tag", "recipe": "flat.tag", **given}, {"tag": "bare", **given, "record": None}
    code = f"WEIGHTS = (WeightsEntry(**{full}), WeightsEntry(**{bare}))"
    installed.add("flat", PLUGIN.replace("WEIGHTS = ()", code))
    installed.use(monkeypatch)
    return record


RECORD = {
    "recipe": {"name": "flat.tag"},
    "metrics": [{"dataset": "lines", "split": "test", "name": "sum", "value": 1.5}],
    "breakdown": {"side": [{"side": "left", "clips": 2, "sum": 3}]},
}


def test_a_model_is_measured_as_its_recipe_says(flat):
    found = evaluate("flat", weights=None, recipe="flat.tag", seed=5)
    assert found == {
        "model": "flat",
        "sha256": None,
        "measured_as": "flat.tag",
        "clips_measured": 7,
        "metrics": [{"dataset": "lines", "split": "test", "name": "sum", "value": found["metrics"][0]["value"]}],
        "breakdown": {"side": [{"side": "left", "clips": 2, "sum": None}]},
        "torch": torch.__version__,
        "device": "cpu",
    }
    expected = zoo.load("flat", weights=None, seed=5).weight.sum().item()
    assert found["metrics"][0]["value"] == expected
    assert evaluate("flat", weights=None, recipe="flat.tag", clips=3)["clips_measured"] == 3


def test_random_weights_are_measured_as_the_only_recipe_of_their_architecture(flat):
    assert evaluate("flat", weights=None)["measured_as"] == "flat.tag"
    with pytest.raises(UsageError, match=r"--recipe NAME.*recipes of steep: steep\.one, steep\.two"):
        evaluate("steep", weights=None)
    with pytest.raises(UsageError, match=r"--recipe NAME.*no plugin gives a recipe of trained"):
        evaluate("trained", weights=None)
    with pytest.raises(UnknownNameError, match=r"flat\.tag"):
        evaluate("flat", weights=None, recipe="flat.tak")


def test_a_file_is_measured_as_the_record_beside_it_or_the_user_says(file):
    with pytest.raises(UsageError, match=r"flat\.tag\.safetensors names no recipe; say with `--recipe NAME`"):
        evaluate("flat", weights=str(file))
    found = evaluate("flat", weights=str(file), recipe="flat.tag")
    assert found["sha256"] == sha256_of(file)
    assert found["model"] == "flat.flat.tag"
    file.with_suffix(".json").write_text(json.dumps(RECORD))
    assert evaluate("flat", weights=str(file)) == found
    file.with_suffix(".json").write_text('{"of": "something else"}')
    with pytest.raises(WeightsError, match=r"flat\.tag\.json holds no evaluation"):
        evaluate("flat", weights=str(file))
    assert evaluate("flat", weights=str(file), recipe="flat.tag") == found


def test_what_has_no_recipe_is_told_before_anything_is_downloaded(monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(UsageError, match=r"^r3d_18\.kinetics400_v1 names no recipe; say with `--recipe NAME`"):
        evaluate("r3d_18")


def test_a_file_is_measured_as_it_was_before(file):
    found = evaluate("flat", weights=str(file), recipe="flat.tag")
    record = file.with_suffix(".json")
    record.write_text(json.dumps(found))
    assert evaluate("flat", weights=str(file)) == found
    for other in ("0" * 64, None):  # of other weights, of random ones
        record.write_text(json.dumps({**found, "sha256": other}))
        with pytest.raises(UsageError, match=r"flat\.tag\.safetensors names no recipe"):
            evaluate("flat", weights=str(file))


def test_a_recipe_whose_evaluation_gives_something_else_is_named(flat):
    with pytest.raises(PluginError, match=r"flat:talk, the evaluation of loud\.tag, gave `metrics` that are no list"):
        evaluate("flat", weights=None, recipe="loud.tag")


def test_a_recipe_for_other_networks_is_wrong_usage(flat):
    with pytest.raises(UsageError, match=r"flat cannot be evaluated as deaf\.tag is: AttributeError: .*ears.*; name a"):
        evaluate("flat", weights=None, recipe="deaf.tag")
    with pytest.raises(AttributeError):  # its own recipe is broken: whoever wrote it needs to see where
        evaluate("bare", weights=None, recipe="bare.tag")


def test_what_was_stored_with_weights_is_read_by_name_or_path(trained, file):
    trained.write_text(json.dumps(RECORD))
    sha256 = sha256_of(file)
    expected = {"model": "trained.tag", "sha256": sha256, "measured_as": "flat.tag", "clips_measured": None, **RECORD}
    assert stored("trained") == stored("trained.tag") == expected
    file.with_suffix(".json").write_text(json.dumps(RECORD))
    assert stored(str(file)) == {**expected, "model": str(file)}
    assert stored(str(trained)) == {**expected, "model": "flat.tag", "sha256": None}


def test_an_evaluation_that_was_written_is_read_as_it_was(file, tmp_path):
    measured = evaluate("flat", weights=str(file), recipe="flat.tag")
    (tmp_path / "measured.json").write_text(json.dumps(measured))
    assert stored(str(tmp_path / "measured.json")) == measured


def test_where_nothing_is_stored_the_message_says_how_to_measure(trained, file):
    for name in ("flat", "trained.bare", str(file)):
        with pytest.raises(NoEvaluationError, match=f"no evaluation of {name}.* is stored; `zoo evaluate --out"):
            stored(name)
    with pytest.raises(UnknownNameError, match="unknown model 'flap'; did you mean 'flat'"):
        stored("flap")
    with pytest.raises(UnknownNameError, match=r"record\.json"):
        stored("trained")
    trained.write_text(json.dumps(RECORD))
    trained.with_name("recorr.json").mkdir()  # a folder is no file to offer
    with pytest.raises(UsageError, match=r"recor\.json: no such file; did you mean '.*record\.json'\? `zoo evaluate"):
        stored(str(trained.with_name("recor.json")))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no whole JSON file"),
        (json.dumps(RECORD)[:-9].encode(), "is no whole JSON file"),
        (b"\xff\xfe{", "is no whole JSON file"),
        (b"[" * 100_000, "is no whole JSON file"),
        (b"[]", "holds no evaluation"),
        (b'{"metrics": []}', "holds no evaluation"),
        (json.dumps({**RECORD, "metrics": [{"dataset": "lines"}]}).encode(), "holds `metrics` that are no list"),
        (json.dumps({**RECORD, "metrics": {"value": 3}}).encode(), "holds `metrics` that are no list"),
        (json.dumps({**RECORD, "breakdown": {"side": 3}}).encode(), "holds a `breakdown` that is no mapping"),
        (json.dumps({**RECORD, "breakdown": []}).encode(), "holds a `breakdown` that is no mapping"),
        (json.dumps({**RECORD, "clips_measured": "all"}).encode(), "holds `clips_measured` 'all'"),
        (json.dumps({**RECORD, "clips_measured": 0}).encode(), "holds `clips_measured` 0"),
        (json.dumps({**RECORD, "model": 5}).encode(), "holds a `model` or `sha256` that is no text"),
        (json.dumps({**RECORD, "sha256": 5}).encode(), "holds a `model` or `sha256` that is no text"),
        (json.dumps({**RECORD, "sha256": "0" * 64}).encode(), "is an evaluation of other weights"),
    ],
)
def test_a_damaged_record_is_named(trained, content, said):
    trained.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"record\.json {said}"):
        stored("trained")


@pytest.mark.parametrize(
    ("metric", "row", "said"),
    [
        (float("nan"), {}, "metrics: accuracy nan is no finite number"),
        (1.5, {}, "metrics: accuracy 1.5 is not within 0 and 1"),
        (True, {}, "metrics: accuracy True is no number"),
        (0.5, {"loss": float("inf")}, "table 'side', row 2: loss inf is no finite number"),
        (0.5, {"mean absolute error": -1}, "table 'side', row 2: mean absolute error -1 is negative"),
        (0.5, {"accuracy": "high"}, "table 'side', row 2: accuracy 'high' is no number"),
        (0.5, {"accuracy": -0.1}, "table 'side', row 2: accuracy -0.1 is not within 0 and 1"),
        (0.5, {"side": [1]}, r"table 'side', row 2: side \[1\] is no number"),
    ],
)
def test_a_record_of_wrong_values_says_where(tmp_path, metric, row, said):
    good = {"side": "left", "accuracy": None, "clips": 0}
    metrics = [{"dataset": "lines", "split": "test", "name": "accuracy", "value": metric}]
    path = tmp_path / "given.json"
    path.write_text(json.dumps({"metrics": metrics, "breakdown": {"side": [good, {**good, **row}]}}))
    with pytest.raises(WeightsError, match=rf"given\.json, {said}; measure again"):
        stored(str(path))


def test_what_is_kept_of_each_clip_is_text_for_answers_and_numbers_for_errors():
    import torch

    from zoo.training.evaluation import per_clip

    assert per_clip(torch.tensor([True, False, True])) == "101"
    assert per_clip(torch.tensor([0.1234567891, 2.0], dtype=torch.float64)) == [0.123457, 2.0]


@pytest.mark.parametrize(
    ("per_clip", "right"),
    [
        ({"sum": "0110"}, True),
        ({"sum": [0.5, 1]}, True),
        ({}, True),
        ({"sum": "012"}, False),
        ({"other": "01"}, False),
        ({"sum": [True]}, False),
        ({"sum": [float("nan")]}, False),
        ({"sum": 3}, False),
        (["01"], False),
    ],
)
def test_records_of_each_clip_are_checked(tmp_path, per_clip, right):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**RECORD, "per_clip": per_clip}))
    if right:
        assert stored(str(path))["per_clip"] == per_clip
    else:
        with pytest.raises(WeightsError, match="per_clip"):
            stored(str(path))

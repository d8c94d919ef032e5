"""A comparison as a whole: what it holds, what it marks and warns of, what it refuses, what it leaves as it was."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import explain
import zoo
from zoo.errors import ClipError, NoEvaluationError, OutputError, UnknownNameError, UsageError, WeightsError
from zoo.registry import plugins
from zoo.weights.digests import sha256_of

HARMFUL = "<img src=x>"


def evaluation(folder, name, *, metrics=None, clips=100, dataset="squares", **more):
    """A file as `zoo evaluate --out` writes it."""
    given = {"shape accuracy": 0.5, "speed error": 0.2} if metrics is None else metrics
    rows = [{"dataset": dataset, "split": "test", "name": key, "value": value} for key, value in given.items()]
    told = {"model": name, "sha256": None, "measured_as": f"{name}.squares", "clips_measured": clips, "metrics": rows}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**told, "breakdown": {}, "torch": "2", "device": "cpu", **more}))
    return path


@pytest.fixture
def two(tmp_path):
    better = evaluation(
        tmp_path, "better", metrics={"shape accuracy": 0.9, "speed error": 0.1, "spread": 1.0}, clips=500
    )
    worse = evaluation(tmp_path, "worse", metrics={"shape accuracy": 0.5, "speed error": 0.2, "spread": 2.0}, clips=500)
    return [worse, better]


@pytest.fixture
def pair(model):
    """The watcher, and one like it with other numbers that sees fewer and smaller frames."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.shape.weight.mul_(0.1)
        other.late.weight.add_(0.05)
    spec = dataclasses.replace(model.zoo_entry.input, frames=6, size=(16, 16))
    other.zoo_entry = dataclasses.replace(model.zoo_entry, name="small_watcher", input=spec)
    return [model, other]


def cheap(models, clip, out, **options):
    given = {"methods": ["saliency"], "sections": ["predictions", "attributions", "provenance"], **options}
    return explain.compare(models, out, clip=clip, **given)


def numbers(data):
    """Every number anywhere in a JSON document."""
    if isinstance(data, dict | list):
        return set().union(*map(numbers, data.values() if isinstance(data, dict) else data))
    return {data} if isinstance(data, int | float) and not isinstance(data, bool) else set()


def shown(report):
    """Every number that a page shows."""
    return {float(value) for value in re.findall(r'<data value="([^"]+)"', report.page.read_text(encoding="utf-8"))}


def row(report, name):
    return next(row for row in report.data["sections"]["measurements"]["metrics"] if row["name"] == name)


def test_evaluations_stand_side_by_side_and_the_best_is_marked(two, tmp_path):
    report = explain.compare(two, tmp_path / "out")
    assert sorted(file.name for file in report.folder.iterdir()) == ["comparison.html", "comparison.json"]
    assert report.data == {
        key: value
        for key, value in json.loads((report.folder / "comparison.json").read_text()).items()
        if key not in {"kind", "files"}
    }
    assert report.data["models"] == ["worse", "better"]
    assert (row(report, "shape accuracy")["values"], row(report, "shape accuracy")["best"]) == ([0.5, 0.9], 1)
    assert (row(report, "speed error")["values"], row(report, "speed error")["best"]) == ([0.2, 0.1], 1)
    assert row(report, "spread")["best"] is None  # nothing says which way is better
    assert (
        report.data["summary"]
        == "Best shape accuracy: better (90.0\N{NARROW NO-BREAK SPACE}%); best speed error: better (0.1)."
    )
    assert report.warnings == []
    assert report.page.read_text(encoding="utf-8").count(">best<") == 2


def test_numbers_shown_are_those_of_the_json(two, pair, clip, tmp_path):
    alone = explain.compare(two, tmp_path / "alone")
    on_clip = cheap(pair, clip, tmp_path / "clip", methods=["saliency", "input_x_gradient"], sections=None)
    for report, least in ((alone, 10), (on_clip, 20)):
        found = numbers(json.loads((report.folder / "comparison.json").read_text()))
        known = {float(number) for number in found} | {-float(number) for number in found}
        assert len(shown(report)) > least
        assert shown(report) <= known


def test_intervals_are_those_of_wilson():
    from explain.reporting.intervals import interval

    assert interval(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)
    assert interval(1.0, 50) == pytest.approx((0.92865, 1.0), abs=1e-5)
    assert interval(0.0, 50)[0] == 0.0


def test_figures_that_are_equal_have_no_best(tmp_path):
    files = [evaluation(tmp_path, "one", clips=500), evaluation(tmp_path, "two", clips=500)]
    report = explain.compare(files, tmp_path / "out")
    assert [row["best"] for row in report.data["sections"]["measurements"]["metrics"]] == [None, None]
    assert report.data["summary"] == "No difference in shape accuracy that 500 clips can tell."


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([0.80, 0.70], None),  # 95 % intervals on 100 clips: 71.1 to 86.7 and 60.4 to 78.1
        ([0.50, 0.90], 1),
        ([0.50, 0.90, 0.86], None),  # the third may be as good
        ([0.50, 0.95, 0.60], 1),
    ],
)
def test_an_accuracy_is_best_where_its_interval_overlaps_no_other(tmp_path, accuracies, best):
    files = [
        evaluation(tmp_path, f"m{place}", metrics={"shape accuracy": value}) for place, value in enumerate(accuracies)
    ]
    report = explain.compare(files, tmp_path / "out")
    assert row(report, "shape accuracy")["best"] == best
    assert report.page.read_text(encoding="utf-8").count(">best<") == (best is not None)
    undecided = "No difference in" if len(files) == 2 else "No best"
    told = f"{undecided} shape accuracy that 100 clips can tell." if best is None else f"Best shape accuracy: m{best} ("
    assert report.data["summary"].startswith(told)


@pytest.mark.parametrize(
    ("clips", "best"), [((500, 500), 1), ((499, 499), None), ((500, 501), None), ((None, None), None)]
)
def test_an_error_is_best_on_the_same_clips_and_enough_of_them(tmp_path, clips, best):
    files = [
        evaluation(tmp_path, f"m{place}", metrics={"speed error": 0.2 - 0.1 * place}, clips=count)
        for place, count in enumerate(clips)
    ]
    report = explain.compare(files, tmp_path / "out")
    assert row(report, "speed error")["best"] == best
    assert report.data["summary"] == ("" if best is None else "Best speed error: m1 (0.1).")


@pytest.mark.parametrize(
    ("given", "said"),
    [({"clips": 50}, "same number of clips (one: 100; two: 50)"), ({"dataset": "rounds"}, "two: rounds (test)")],
)
def test_what_was_not_measured_alike_is_warned_of(tmp_path, given, said):
    files = [evaluation(tmp_path, "one"), evaluation(tmp_path, "two", metrics={"shape accuracy": 0.9}, **given)]
    report = explain.compare(files, tmp_path / "out")
    assert said in report.warnings[0]
    assert report.data["summary"] == ""
    assert said in report.page.read_text(encoding="utf-8").partition("<main")[0]


def test_evaluations_of_one_model_get_names_of_their_own(tmp_path):
    (tmp_path / "later").mkdir()
    files = [evaluation(tmp_path, "one"), evaluation(tmp_path / "later", "one")]
    assert explain.compare(files, tmp_path / "out").data["models"] == ["one", "one (2)"]


def test_names_are_text(tmp_path):
    files = [evaluation(tmp_path, "one", model=HARMFUL), evaluation(tmp_path, "two", metrics={HARMFUL: 1.0})]
    page = explain.compare(files, tmp_path / "out").page.read_text(encoding="utf-8")
    assert HARMFUL not in page
    assert "&lt;img" in page


def test_stored_evaluations_need_no_torch(two, tmp_path):
    code = "import explain, sys; explain.compare(sys.argv[2:], sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, tmp_path / "out", *two], check=True)


def test_each_model_sees_the_clip_as_its_own_input_asks(pair, clip, tmp_path):
    report = cheap(pair, clip, tmp_path / "out")
    models = report.data["sections"]["predictions"]["models"]
    assert [model["batch"] for model in models] == [[1, 1, 12, 24, 24], [1, 1, 6, 16, 16]]
    for told, model in zip(models, pair, strict=True):
        said = zoo.predict(model, zoo.preprocess(clip, model))[0].record()["shape"]["top"]
        assert told["heads"]["shape"]["top"] == said[:3]
    assert "no evaluation of square_watcher and small_watcher is stored." in report.warnings


def test_the_truth_and_what_each_says_of_it_have_the_same_decimals(pair, make_clip, tmp_path):
    clip = make_clip(label="square, 2 pixels per frame, visible every 3 frames")
    with torch.no_grad():
        for model, value in zip(pair, (2.0, 1.125), strict=True):
            model.speed.weight.zero_()
            model.speed.bias.fill_(value)
    report = cheap(pair, clip, tmp_path / "out", sections=["predictions"])
    page = report.page.read_text(encoding="utf-8")
    assert "square, 2.00 pixels per frame, visible every 3 frames" in page
    assert '<data value="2.0">2.00</data>' in page
    assert '<data value="1.125">1.12</data>' in page
    assert report.data["sections"]["predictions"]["truth"] == clip.label


def test_maps_are_those_of_attribute_and_share_one_scale(pair, clip, tmp_path):
    report = cheap(pair, clip, tmp_path / "out")
    (method,) = report.data["sections"]["attributions"]["methods"]
    assert method["scale"] == max(model["scale"] for model in method["models"])
    assert method["models"][0]["scale"] != method["models"][1]["scale"]
    with safe_open(report.folder / "tensors.safetensors", framework="pt") as file:
        for told, model in zip(method["models"], pair, strict=True):
            expected = explain.attribute(model, zoo.preprocess(clip, model), method="saliency").map
            assert torch.allclose(file.get_tensor(f"attributions/saliency/{told['model']}/map"), expected)
            time = expected[0].sum(dim=(1, 2))
            assert torch.allclose(torch.tensor(told["shares"]), time / time.sum())


def test_colours_of_one_method_mean_the_same_in_every_model(model, clip, tmp_path):
    """Three times the output is three times the gradient, so a third of its colours remains for the other."""
    strong = copy.deepcopy(model)
    with torch.no_grad():
        strong.shape.weight.mul_(3)
    report = cheap([model, strong], clip, tmp_path / "out", target="shape:round")
    (method,) = report.data["sections"]["attributions"]["methods"]
    page = report.page.read_text(encoding="utf-8")
    for place, told in enumerate(method["models"]):
        pattern = rf'sprite-map-saliency-{place}{{background-image:url\("data:[^,]*,([^"]*)"'
        (encoded,) = re.findall(pattern, page)
        brightest = int(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).max())
        with safe_open(report.folder / "tensors.safetensors", framework="pt") as file:
            largest = float(file.get_tensor(f"attributions/saliency/{told['model']}/map").max())
        assert brightest == min(255, round(255 * largest / method["scale"]))
    assert brightest == 255


def test_a_map_too_faint_to_read_is_called_so(model, clip, tmp_path):
    strong = copy.deepcopy(model)
    with torch.no_grad():
        strong.shape.weight.mul_(10)
    report = cheap([model, strong], clip, tmp_path / "out", target="shape:round")
    (method,) = report.data["sections"]["attributions"]["methods"]
    assert [told["fainter"] for told in method["models"]] == [pytest.approx(10, rel=1e-3), None]
    page = report.page.read_text(encoding="utf-8")
    assert "times less strongly" in page
    assert page.count("On a scale of its own:") == 1
    (encoded,) = re.findall(r'sprite-map-saliency-0-own{background-image:url\("data:[^,]*,([^"]*)"', page)
    assert int(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).max()) == 255
    assert "sprite-map-saliency-1-own{" not in page


@pytest.mark.parametrize(
    ("method", "std", "reason"),
    [
        ("saliency", 0.25, None),
        ("saliency", 0.5, "amount of light"),
        ("input_x_gradient", 0.5, None),
        ("grad_cam", 0.25, "no unit"),
    ],
)
def test_numbers_without_a_common_unit_share_no_scale(model, clip, tmp_path, method, std, reason):
    other = copy.deepcopy(model)
    other.zoo_entry = dataclasses.replace(
        model.zoo_entry, name="other", input=dataclasses.replace(model.zoo_entry.input, std=(std,))
    )
    report = cheap([model, other], clip, tmp_path / "out", methods=[method])
    (told,) = report.data["sections"]["attributions"]["methods"]
    page = report.page.read_text(encoding="utf-8")
    assert (told["scale"] is None) == (reason is not None)
    assert ("a scale of its own, beneath it" in page) == (reason is not None)
    if reason:
        assert reason in told["own_scales"]
        assert [one["fainter"] for one in told["models"]] == [None, None]


def test_models_that_see_the_same_pixels_share_a_picture(model, pair, clip, tmp_path):
    page = cheap([model, copy.deepcopy(model)], clip, tmp_path / "same").page.read_text(encoding="utf-8")
    assert len(re.findall(r"\.sprite-clip-\d\{", page)) == 1
    page = cheap(pair, clip, tmp_path / "other").page.read_text(encoding="utf-8")
    assert len(re.findall(r"\.sprite-clip-\d\{", page)) == 2


def test_receptive_fields_are_those_of_the_model(pair, clip, tmp_path):
    report = cheap(pair, clip, tmp_path / "out", sections=["fields"])
    for told in report.data["sections"]["fields"]["models"]:
        assert told["seen"] == [[3, 3, 3], [3, 4, 4], [5, 8, 8]]
        assert told["deepest"]["layer"] == "late"
    assert '<svg class="drawn"' in report.page.read_text(encoding="utf-8")


def test_a_method_that_one_model_has_no_layer_for_leaves_the_other(model, clip, tmp_path):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12 * 24 * 24, 4))
    flat.zoo_entry = dataclasses.replace(model.zoo_entry, outputs=model.zoo_entry.outputs[:1])
    report = cheap([model, flat], clip, tmp_path / "out", methods=["grad_cam"])
    (method,) = report.data["sections"]["attributions"]["methods"]
    assert [told["model"] for told in method["models"]] == ["square_watcher"]
    assert [told["model"] for told in method["refused"]] == ["square_watcher (2)"]


def test_the_models_are_left_as_they_were(pair, clip, tmp_path):
    before = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in pair]
    for model in pair:
        model.train()
    cheap(pair, clip, tmp_path / "out")
    for model, state in zip(pair, before, strict=True):
        assert all(module.training for module in model.modules())
        assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
        assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


PLUGIN = """
    import explain
    from explain.reporting.sections import Content
    from zoo import hookimpl

    @hookimpl
    def explain_comparisons(contexts):
        return [
            explain.Section(name="good", title="Good", models=f"{__name__}:good"),
            explain.Section(name="bad", title="Bad", models=f"{__name__}:bad"),
        ]

    def good(contexts):
        return Content(html="", data={
            "names": [context.name for context in contexts],
            "metrics": [len(context.evaluation["metrics"]) if context.evaluation else 0 for context in contexts],
            "batches": [None if context.batch is None else list(context.batch.shape) for context in contexts],
        })

    def bad(contexts):
        raise RuntimeError("no <news> today")
"""


def test_plugins_get_one_context_a_model_and_a_broken_section_changes_nothing_else(plugin, two, pair, clip, tmp_path):
    plugin("newsy", PLUGIN)
    stored = explain.compare(two, tmp_path / "stored")
    assert list(stored.data["sections"]) == ["measurements", "good", "provenance"]
    assert stored.data["sections"]["good"] == {"names": ["worse", "better"], "metrics": [3, 3], "batches": [None, None]}
    assert [problem["section"] for problem in stored.problems] == ["bad"]
    assert "no &lt;news&gt; today" in stored.page.read_text(encoding="utf-8")
    on_clip = cheap(pair, clip, tmp_path / "clip", sections=["good"])
    assert on_clip.data["sections"]["good"]["metrics"] == [0, 0]
    assert on_clip.data["sections"]["good"]["batches"] == [[1, 1, 12, 24, 24], [1, 1, 6, 16, 16]]


def test_a_plugin_whose_hook_fails_is_named(plugin, two, tmp_path):
    plugin(
        "sad", "from zoo import hookimpl\n@hookimpl\ndef explain_comparisons(contexts): raise ValueError('sad story')"
    )
    with pytest.warns(plugins.PluginWarning, match="sad story"):
        report = explain.compare(two, tmp_path / "out")
    assert "sad story" in report.page.read_text(encoding="utf-8").partition("<main")[0]


@pytest.mark.parametrize(
    ("take", "options", "error", "said"),
    [
        (1, {}, UsageError, "two or more"),
        (0, {}, UsageError, "two or more"),
        (2, {"methods": ["saliency"]}, UsageError, "give one (`--clip CLIP`)"),
        (2, {"target": "shape"}, UsageError, "give one (`--clip CLIP`)"),
        (2, {"dtype": "bfloat16"}, UsageError, "give one (`--clip CLIP`)"),
        (2, {"sections": ["attributions"]}, UsageError, "give one (`--clip CLIP`)"),
        (2, {"sections": ["measurement"]}, UnknownNameError, "'measurements'"),
        (2, {"n_steps": 0}, UsageError, "steps"),
        (2, {"clip": "clip.mp4", "methods": ["salience"]}, UnknownNameError, "'saliency'"),
        (2, {"clip": "clip.mp4"}, WeightsError, "no installed plugin gives this model"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(two, tmp_path, take, options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        explain.compare(two[:take], tmp_path / "new" / "out", **options)
    assert not (tmp_path / "new").exists()


def test_a_model_named_twice_is_refused(two, tmp_path):
    with pytest.raises(UsageError, match="named twice"):
        explain.compare([two[0], two[0]], tmp_path / "out")


def test_modules_need_a_clip(pair, tmp_path):
    with pytest.raises(UsageError, match="give clip"):
        explain.compare(pair, tmp_path / "out")


def test_models_given_by_name_compute_in_the_type_asked_for_and_changed_answers_are_told(tmp_path):
    """In 16 bits conv3d calls the digit of this clip something else, and conv2d does not."""
    asked = {"clip": "sample:blinking_mnist/3", "sections": ["predictions", "provenance"], "device": "cpu"}
    report = explain.compare(["conv2d", "conv3d"], tmp_path / "out", dtype="bfloat16", **asked)
    models = report.data["sections"]["provenance"]["models"]
    assert [model["dtype"] for model in models] == ["bfloat16", "bfloat16"]
    assert "computed in bfloat16" in report.page.read_text(encoding="utf-8")
    (told,) = report.warnings
    assert told.startswith("conv3d.blinking_mnist: In bfloat16 the model says something else than in float32: digit")


def test_modules_are_used_in_their_own_type(pair, clip, tmp_path):
    with pytest.raises(UsageError, match="dtype is for models given by name"):
        explain.compare(pair, tmp_path / "out", clip=clip, dtype="bfloat16")
    report = cheap([pair[0], pair[1].double()], clip, tmp_path / "out")
    assert [model["dtype"] for model in report.data["sections"]["provenance"]["models"]] == ["float32", "float64"]


def test_what_only_one_model_makes_of_the_clip_is_told_by_its_name(pair, make_file, tmp_path):
    """The watcher takes 12 frames, the small one 6."""
    clip = make_file(tmp_path / "clip.safetensors")
    for frames, said in ((24, "square_watcher: The clip has 12 frames and the model takes 24"), (12, None)):
        spec = dataclasses.replace(pair[0].zoo_entry.input, frames=frames)
        pair[0].zoo_entry = dataclasses.replace(pair[0].zoo_entry, input=spec)
        told = cheap(pair, clip, tmp_path / "out").warnings[1:]  # the first is of evaluations
        assert [one.partition(": some")[0] for one in told] == ([said] if said else [])


@pytest.mark.parametrize("missing", ["none.mp4", "sample:none"])
def test_a_missing_clip_is_refused_before_a_model_is_loaded(two, pair, monkeypatch, tmp_path, missing):
    def read(*_, **__):
        raise AssertionError("a model was asked")

    monkeypatch.setattr("explain.reporting.reading.read", read)
    with pytest.raises(UnknownNameError, match=missing):
        cheap(pair, tmp_path / missing if "." in missing else missing, tmp_path / "out")


def test_a_broken_clip_is_named(pair, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ClipError, match=r"broken\.mp4"):
        cheap(pair, tmp_path / "broken.mp4", tmp_path / "out")


def test_an_earlier_comparison_is_replaced_and_a_report_is_not(two, model, clip, tmp_path):
    explain.compare(two, tmp_path / "out")
    explain.compare(two, tmp_path / "out")
    explain.report(model, clip, tmp_path / "report", sections=["prediction"])
    with pytest.raises(OutputError, match=r"comparison\.json"):
        explain.compare(two, tmp_path / "report")


@pytest.fixture
def bare(plugin):
    """The name of a model without weights and without a builder."""
    from zoo.registry import catalog

    plugin(
        "bare",
        """
        from zoo import InputSpec, ModelEntry, OutputSpec, hookimpl

        @hookimpl
        def zoo_models():
            return [ModelEntry(name="bare", builder="bare:none", summary="", parameters=0,
                               input=InputSpec(frames=1, size=(8, 8)), outputs=(OutputSpec(),))]
        """,
    )
    catalog.listings.cache_clear()
    yield "bare"
    catalog.listings.cache_clear()


def test_with_less_than_two_evaluations_there_is_nothing_to_compare(bare, two, tmp_path):
    with pytest.raises(NoEvaluationError, match="no evaluation of bare is stored"):
        explain.compare([bare, two[0]], tmp_path / "out", weights=None)
    report = explain.compare([bare, *two], tmp_path / "out")
    assert report.warnings == ["no evaluation of bare is stored."]
    assert row(report, "speed error")["values"] == [None, 0.2, 0.1]


@pytest.mark.parametrize(
    ("told", "own"),
    [
        (lambda _: {"sha256": "0" * 64}, False),
        (lambda _: {}, False),  # of random weights
        (lambda checksum: {"sha256": checksum}, True),
        (lambda _: {"recipe": {"name": "bare.squares"}}, True),  # what training wrote before it named checksums
    ],
)
def test_weights_beside_an_evaluation_are_its_own_or_left_alone(bare, two, tmp_path, told, own):
    weights = tmp_path / f"{bare}.safetensors"
    save_file({"x": torch.ones(1)}, weights)
    file = evaluation(tmp_path, bare, **told(sha256_of(weights)))
    report = explain.compare([file, two[0]], tmp_path / "out")
    found = report.data["sections"]["measurements"]["models"][0]["weights"]
    assert (found is not None) == own

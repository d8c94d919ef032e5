"""A report as a whole: what it holds, what it escapes, what it refuses, and what it leaves as it was."""

from __future__ import annotations

import copy
import html
import itertools
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import explain
import zoo
from explain.attribution.maps import over_time
from explain.attribution.methods import find_method
from explain.attribution.options import accepted
from zoo.errors import ClipError, ModelError, OutputError, UnknownNameError, UsageError
from zoo.registry import catalog, plugins

SECTIONS = ["prediction", "attributions", "robustness", "units", "motion", "fields", "conversion", "provenance"]
METHODS = ["saliency", "input_x_gradient", "integrated_gradients", "occlusion", "grad_cam", "grad_cam_per_frame"]


def cheap(model, clip, out, **options):
    given = {"methods": ["saliency"], "sections": ["prediction", "attributions"], **options}
    return explain.report(model, clip, out, **given)


def numbers(data):
    """Every number anywhere in a JSON document."""
    if isinstance(data, dict | list):
        return set().union(*map(numbers, data.values() if isinstance(data, dict) else data))
    return {data} if isinstance(data, int | float) and not isinstance(data, bool) else set()


class Shown(HTMLParser):
    """The numbers that a page shows, and its tags."""

    def __init__(self, page):
        super().__init__()
        self.numbers = set()
        self.tags = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "data":
            self.numbers.add(float(dict(attributes)["value"]))


def test_the_folder_holds_page_numbers_and_maps(written):
    assert sorted(file.name for file in written.folder.iterdir()) == [
        "report.html",
        "report.json",
        "tensors.safetensors",
    ]
    data = json.loads((written.folder / "report.json").read_text(encoding="utf-8"))
    assert list(data["sections"]) == SECTIONS
    assert [method["method"] for method in data["sections"]["attributions"]["methods"]] == METHODS
    assert data["problems"] == []


def test_numbers_shown_are_those_of_the_json(written):
    shown = Shown(written.page).numbers
    assert len(shown) > 50
    assert shown <= {float(number) for number in numbers(json.loads((written.folder / "report.json").read_text()))} | {
        -method["scale"] for method in written.data["sections"]["attributions"]["methods"]
    }


def test_the_json_says_what_was_run(written, model):
    run = written.data["run"]
    assert run["seed"] == 0
    assert run["device"] == "cpu"
    assert run["versions"]["torch"] == torch.__version__
    assert run["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert run["weights"] is None
    assert set(run["seconds"]) > {f"attribution: {name}" for name in METHODS}


def test_the_time_is_that_of_everything(model, clip, tmp_path):
    """Reading the clip and asking the model count, which are no steps of their own."""
    forward = model.forward
    model.forward = lambda batch: time.sleep(0.1) or forward(batch)
    run = cheap(model, clip, tmp_path / "out", sections=["provenance"]).data["run"]
    assert run["seconds"] == {}
    assert run["total_seconds"] >= 0.1


def test_predictions_are_those_of_the_model(written, model, clip):
    import zoo

    batch = zoo.preprocess(clip, model)
    assert written.data["sections"]["prediction"]["heads"] == zoo.predict(model, batch)[0]


def test_maps_in_the_file_are_those_of_attribute(written, model, clip):
    import zoo

    batch = zoo.preprocess(clip, model)
    with safe_open(written.folder / "tensors.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("batch"), batch)
        for name in METHODS:
            expected = explain.attribute(model, batch, method=name, **accepted(find_method(name), {"n_steps": 4}))
            assert torch.allclose(file.get_tensor(f"attributions/{name}/map"), expected.map, atol=1e-6)


def test_curves_and_peaks_are_those_of_the_maps(written):
    with safe_open(written.folder / "tensors.safetensors", framework="pt") as file:
        for method in written.data["sections"]["attributions"]["methods"]:
            heat = file.get_tensor(f"attributions/{method['method']}/map")
            assert method["time_unit"] == find_method(method["method"]).time
            time = over_time(heat, method["time_unit"])[0]
            assert torch.allclose(torch.tensor(method["time"]), time, rtol=1e-4, atol=1e-7)
            assert method["peak"] == int(time.abs().argmax())
            assert method["peak_share"] == pytest.approx(float(time.abs().max() / time.abs().sum()), rel=1e-4)


def test_a_map_that_does_not_add_up_says_so(model, clip, tmp_path):
    """Integrated gradients with one step, in the middle of the path, of an output that jumps near its end."""
    import zoo

    batch = zoo.preprocess(clip, model)
    with torch.no_grad():
        start, end = (float(model(clips)["speed"]) for clips in (torch.zeros_like(batch), batch))

    def jump(output):
        return torch.sigmoid(200 * ((output["speed"][:, 0] - start) / (end - start) - 0.95))

    smooth = cheap(model, clip, tmp_path / "smooth", methods=["integrated_gradients"], target="speed")
    jumping = cheap(model, clip, tmp_path / "jump", methods=["integrated_gradients"], target=jump, n_steps=1)
    for report, incomplete in ((smooth, False), (jumping, True)):
        (method,) = report.data["sections"]["attributions"]["methods"]
        assert method["incomplete"] is incomplete
        assert ("take this map with care" in report.page.read_text(encoding="utf-8")) is incomplete
    (method,) = jumping.data["sections"]["attributions"]["methods"]
    assert method["difference"] == pytest.approx(1.0, abs=1e-3)


def test_a_map_that_does_not_add_up_from_zeros_is_taken_from_the_blurred_clip(model, clip, tmp_path):
    """An output that jumps right beside zeros, which a path from the blurred clip never comes near."""
    import zoo

    batch = zoo.preprocess(clip, model)
    with torch.no_grad():
        start, end = (float(model(clips)["speed"]) for clips in (torch.zeros_like(batch), batch))

    def cliff(output):
        share = (output["speed"][:, 0] - start) / (end - start)
        return share + torch.sigmoid(2000 * (share - 0.01))

    report = cheap(model, clip, tmp_path / "cliff", methods=["integrated_gradients"], target=cliff, n_steps=4)
    (method,) = report.data["sections"]["attributions"]["methods"]
    assert method["settings"]["baseline"] == "blur"
    assert not method["incomplete"]
    assert "from the blurred clip to the clip itself" in report.page.read_text(encoding="utf-8")


def test_each_map_says_whether_it_can_be_trusted(written, model, clip):
    """Short tests, whose numbers are those of the tests themselves."""
    import zoo
    from explain.faithfulness.checking import Effort, check_all

    page = written.page.read_text(encoding="utf-8")
    methods = written.data["sections"]["attributions"]["methods"]
    for method in methods:
        tested = method["faithfulness"]
        assert tested["settings"]["steps"] == 8
        assert len(tested["randomization"]) == 4
        assert list(tested["curves"]) == ["spatial", "temporal", "both"]
        for reason in tested["reasons"].values():
            assert reason["text"].replace("'", "&#39;") in page
    assert "Quick tests" in page
    batch = zoo.preprocess(clip, model)
    saliency = explain.attribute(model, batch, method="saliency")
    effort = Effort(steps=8, draws=20, depths=4, redraws=6, boxes=16, neighbours=4)
    expected = check_all(model, batch, [saliency], effort)[0].record()
    shown = methods[0]["faithfulness"]
    assert shown["verdict"] == expected["verdict"]
    for name in ("deletion", "random_insertion"):
        assert shown["curves"]["both"][name]["area"] == pytest.approx(
            expected["curves"]["both"][name]["area"], abs=1e-4
        )


def test_thorough_tests_take_every_step_and_layer(model, clip, tmp_path):
    report = cheap(model, clip, tmp_path / "out", sections=["attributions"], thorough=True)
    (method,) = report.data["sections"]["attributions"]["methods"]
    assert method["faithfulness"]["settings"]["steps"] == 64
    assert [row["layer"] for row in method["faithfulness"]["randomization"]] == ["shape", "late", "norm", "early"]
    assert "Thorough tests" in report.page.read_text(encoding="utf-8")


def test_dear_models_get_shorter_tests(model, clip, tmp_path, monkeypatch):
    from explain.reporting.topics import faithfulness

    monkeypatch.setattr(faithfulness, "DEAR", 0)
    report = cheap(model, clip, tmp_path / "out", sections=["attributions"])
    (method,) = report.data["sections"]["attributions"]["methods"]
    assert method["faithfulness"]["settings"]["steps"] == 6
    assert list(method["faithfulness"]["curves"]) == ["temporal", "both"]
    assert "short tests: 6 steps" in report.page.read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(model, clip, tmp_path):
    def written(name, seed):
        report = cheap(
            model, clip, tmp_path / name, sections=["units"], units=1, unit_layers=1, unit_steps=2, seed=seed
        )
        return report.folder / "tensors.safetensors"

    def units(path):
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("units/early")

    first, again, other = written("a", 0), written("b", 0), written("c", 1)
    assert first.read_bytes() == again.read_bytes()
    assert not torch.equal(units(first), units(other))


@pytest.mark.parametrize("kind", ["written", "compared"])
def test_nothing_on_the_page_comes_from_outside(request, kind):
    page = request.getfixturevalue(kind).page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert not re.search(r"""url\((?!["']data:|#)""", page)
    assert "default-src 'none'" in page


def test_labels_and_names_are_text(written):
    page = written.page.read_text(encoding="utf-8")
    assert "<img" not in page
    assert "<b>boldly" not in page
    assert "&lt;img src=x" in page


def test_the_clips_warnings_stand_at_the_top(written):
    header = written.page.read_text(encoding="utf-8").partition("<main")[0]
    assert "declares 30 frames and 12 decode" in header
    assert written.warnings == ["The video declares 30 frames and 12 decode."]


def of_the_zoo(tmp_path, weights="default", change=lambda _: None):
    """A short report on a model of the zoo, changed after loading; its page's text and its JSON."""
    loaded = zoo.load("stdcf_kth", weights=weights)
    change(loaded)
    out = tmp_path / "zoo"
    report = cheap(loaded, "sample:motion_mnist", out, methods=["saliency"], sections=["attributions", "provenance"])
    return (
        report.page.read_text(encoding="utf-8"),
        report.data,
        explain.attribute(loaded, zoo.preprocess("sample:motion_mnist", loaded), method="saliency"),
    )


def _trained(model):
    for parameter in model.parameters():
        parameter.data.mul_(1.1)


def _filled(model):
    model.load_state_dict({name: value + 0.1 for name, value in model.state_dict().items()})


@pytest.mark.usefixtures("least_effort")
def test_weights_as_in_their_file_are_named_with_hash_and_metrics(tmp_path):
    page, data, attribution = of_the_zoo(tmp_path)
    weights = zoo.info("stdcf_kth").weights[0]
    assert weights.sha256 in page
    assert f"on {weights.metrics[0].dataset}" in page
    assert data["run"]["weights"]["sha256"] == attribution.weights["sha256"] == weights.sha256
    assert attribution.weights["status"] == "file"
    assert data["notices"] == []


@pytest.mark.usefixtures("least_effort")
@pytest.mark.parametrize(
    ("given", "change", "status", "said"),
    [
        ("default", _trained, "modified", "modified since loading"),
        (None, _filled, "unknown", "unknown origin"),
        (None, lambda _: None, "random", "These weights are random"),
    ],
)
def test_weights_that_are_not_their_files_have_neither_hash_nor_metrics(tmp_path, given, change, status, said):
    page, data, attribution = of_the_zoo(tmp_path, given, change)
    weights = zoo.info("stdcf_kth").weights[0]
    assert weights.sha256 not in page
    assert weights.sha256 not in json.dumps(data)
    assert f"on {weights.metrics[0].dataset}" not in page
    assert said in page.partition("<main")[0]
    assert ("learned nothing" in page) == (status == "random")
    assert data["run"]["origin"]["status"] == attribution.weights["status"] == status
    assert data["run"]["weights"] is None
    assert any(said in notice for notice in data["notices"])
    assert all(notice in html.unescape(page) for notice in data["notices"])
    kept = attribution.save(tmp_path / "kept")
    assert explain.attribution.Attribution.load(kept).weights == attribution.weights


INFLATED = """
    from zoo import InputSpec, ModelEntry, OutputSpec, hookimpl

    def build():
        from torch import nn
        return nn.Sequential(nn.Conv3d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())

    @hookimpl
    def zoo_models():
        return [ModelEntry(name="small", builder=f"{__name__}:build", summary="", parameters=164,
                           input=InputSpec(frames=4, size=(8, 8)), outputs=(OutputSpec(labels=("a", "b")),))]
"""


def test_weights_of_another_network_are_called_so(model, clip, plugin, tmp_path):
    plugin("smaller", INFLATED)
    save_file({"0.weight": torch.ones(2, 3, 3, 3)}, tmp_path / "flat.safetensors")
    catalog.listings.cache_clear()
    inflated = zoo.load("small", weights=tmp_path / "flat.safetensors", adapt="inflate")
    report = cheap(inflated, clip, tmp_path / "report", sections=["prediction"])
    comparison = explain.compare([model, inflated], tmp_path / "comparison", clip=clip, methods=["saliency"])
    catalog.listings.cache_clear()
    for page, name in ((report.page, "This model"), (comparison.page, "small.flat (inflated)")):
        said = f"{name} was loaded with convolutions of another network (flat.safetensors), made to fit, and 1 of its"
        assert said in page.read_text(encoding="utf-8")


def test_headings_go_down_one_level_at_a_time(written):
    levels = [int(tag[1]) for tag, _ in Shown(written.page).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_sections_and_methods_are_those_asked_for(model, clip, tmp_path):
    report = explain.report(
        model, clip, tmp_path / "out", methods=["occlusion"], sections=["provenance", "attributions"]
    )
    assert list(report.data["sections"]) == ["attributions", "provenance"]
    assert [method["method"] for method in report.data["sections"]["attributions"]["methods"]] == ["occlusion"]


def test_a_name_may_stand_alone_and_counts_once(model, clip, tmp_path):
    options = {"sections": "attributions", "unit_layers": "early"}
    once = cheap(model, clip, tmp_path / "once", methods="saliency", **options)
    assert list(once.data["sections"]) == ["attributions"]
    twice = cheap(model, clip, tmp_path / "twice", methods=["saliency", "occlusion", "saliency"], **options)
    shown = [method["method"] for method in twice.data["sections"]["attributions"]["methods"]]
    assert shown == ["saliency", "occlusion"]
    ids = [attributes["id"] for _, attributes in Shown(twice.page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_target_is_explained(model, clip, tmp_path):
    report = cheap(model, clip, tmp_path / "out", target="speed")
    assert report.data["target"] == "speed"
    speed = report.data["sections"]["prediction"]["heads"]["speed"]["value"]
    assert report.data["sections"]["attributions"]["value"] == pytest.approx(speed, rel=1e-5)


def test_units_are_those_of_layers_that_run(clip, model, tmp_path):
    model.auxiliary = nn.Conv3d(6, 2, 3)
    report = cheap(model, clip, tmp_path / "out", sections=["units"], units=1, unit_steps=1)
    assert [unit["layer"] for unit in report.data["sections"]["units"]["units"]] == ["early", "late"]


class Recurrence(nn.Module):
    """A recurrent layer that calls its own weights."""

    def __init__(self):
        super().__init__()
        self.of_input, self.of_state = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        states = [torch.zeros_like(self.of_input(x[:, :, 0]))]
        for frame in x.unbind(2):
            states.append((self.of_input(frame) + self.of_state(states[-1])).tanh())
        return torch.stack(states[1:], dim=2)


def test_units_of_a_recurrence_are_its_own_and_not_its_gates(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(Recurrence(), nn.Conv3d(3, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    report = cheap(network, torch.rand(1, 2, 5, 9, 9), tmp_path / "out", sections=["units"], units=1, unit_steps=1)
    assert [unit["layer"] for unit in report.data["sections"]["units"]["units"]] == ["0", "1"]


@pytest.mark.parametrize("count", [3, 41])
def test_fields_of_many_layers_are_folded_away(tmp_path, count):
    network = nn.Sequential(*(nn.Conv3d(2, 2, 1) for _ in range(count)), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    report = cheap(network, torch.rand(1, 2, 2, 4, 4), tmp_path / "out", sections=["fields"])
    layers = len(report.data["sections"]["fields"]["layers"])
    folded = f"<summary>The fields of all {layers} layers</summary>" in report.page.read_text(encoding="utf-8")
    assert folded == (layers > 40)


def test_fields_that_are_not_exact_are_called_so(clip, model, tmp_path):
    page = cheap(model, clip, tmp_path / "out", sections=["fields"]).page.read_text(encoding="utf-8")
    assert "at least" not in page
    pool = model.pool
    model.pool = nn.Sequential(pool, Sums())
    report = cheap(model, clip, tmp_path / "out", sections=["fields"])
    assert [row["exact"] for row in report.data["sections"]["fields"]["layers"]] == [True, True, False]
    assert "at least <data" in report.page.read_text(encoding="utf-8")


class Sums(nn.Module):
    def forward(self, x):
        return x.cumsum(2)


def test_frames_may_be_given(model, clip, tmp_path):
    report = cheap(model, clip.frames, tmp_path / "out")
    assert report.data["clip"] == "frames given in memory"


def test_a_module_from_anywhere_is_explained_on_its_batch(tmp_path):
    model = nn.Sequential(nn.Conv3d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 4))
    report = explain.report(model, torch.rand(1, 2, 5, 9, 9), tmp_path / "out", n_steps=2, unit_steps=2, unit_layers=1)
    assert report.data["model"] == "Sequential"
    assert list(report.data["sections"]) == SECTIONS


def test_an_image_is_a_clip_of_one_frame_without_a_player(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    report = explain.report(model, torch.rand(1, 3, 9, 9), tmp_path / "out", n_steps=2, unit_steps=2, unit_layers=1)
    page = report.page.read_text(encoding="utf-8")
    assert 'id="player"' not in page
    assert 'class="strip"' not in page


def test_a_map_of_zeros_says_so(clip, model, tmp_path):
    with torch.no_grad():
        model.shape.weight.zero_()
    page = cheap(model, clip, tmp_path / "out").page.read_text(encoding="utf-8")
    assert "Zero everywhere" in page


@pytest.mark.usefixtures("least_effort")
def test_the_model_is_left_as_it_was(model, clip, tmp_path):
    model.train()
    model.early.weight.requires_grad_(requires_grad=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    random = torch.get_rng_state()
    explain.report(model, clip, tmp_path / "out", n_steps=2, unit_steps=2, unit_layers=1)
    assert all(module.training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()][:2] == [False, True]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_true_shows_bars_and_an_interrupted_report_or_comparison_leaves_nothing(model, clip, tmp_path, capsys):
    def write(progress):
        cheap(model, clip, tmp_path / "report", sections=["attributions"], progress=progress)

    def compare(progress):
        models = [model, copy.deepcopy(model)]
        explain.compare(models, tmp_path / "comparison", clip=clip, methods=["saliency"], progress=progress)

    def interrupt(*_):
        raise KeyboardInterrupt

    for run in (write, compare):
        with pytest.raises(KeyboardInterrupt):
            run(interrupt)
        assert list(tmp_path.iterdir()) == []
    capsys.readouterr()
    write(progress=True)
    assert " % |" in capsys.readouterr().err


def test_progress_is_told_step_by_step(model, clip, tmp_path):
    told = []
    cheap(model, clip, tmp_path / "out", progress=lambda step, done, total: told.append((step, done, total)))
    assert told[0] == ("attribution: saliency", 0, 1)
    assert ("attribution: saliency", 1, 1) in told
    assert told[-1] == ("faithfulness", 1, 1)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"methods": ["salience"]}, UnknownNameError, "'saliency'"),
        ({"methods": []}, UsageError, "names no attribution method"),
        ({"sections": ["atributions"]}, UnknownNameError, "'attributions'"),
        ({"layer": "layte"}, UnknownNameError, "'late'"),
        ({"unit_layers": ["layte"]}, UnknownNameError, "'late'"),
        ({"target": "sped"}, UnknownNameError, "'speed'"),
        ({"units": 0}, UsageError, "units"),
        ({"device": "cpu"}, UsageError, "by name"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(model, clip, tmp_path, options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        cheap(model, clip, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_keeps_the_earlier_report(model, clip, tmp_path):
    page = cheap(model, clip, tmp_path / "out").page.read_bytes()
    with pytest.raises(UnknownNameError):
        cheap(model, clip, tmp_path / "out", target="sped")
    assert (tmp_path / "out" / "report.html").read_bytes() == page


def test_a_folder_of_other_things_is_refused_before_any_work(clip, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        cheap("no such model", clip, tmp_path)


def test_a_broken_clip_is_named(model, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ClipError, match=r"broken\.mp4"):
        cheap(model, tmp_path / "broken.mp4", tmp_path / "out")


def test_wrong_frames_are_refused(model, tmp_path):
    with pytest.raises(ClipError, match="uint8"):
        cheap(model, torch.rand(1, 1, 12, 24, 24), tmp_path / "out")


def test_a_module_from_anywhere_needs_a_batch(tmp_path):
    with pytest.raises(UsageError, match="batch"):
        cheap(nn.Conv3d(1, 1, 1), "clip.mp4", tmp_path / "out")


def test_a_model_that_gives_nan_is_refused(model, clip, tmp_path):
    with torch.no_grad():
        model.shape.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"(?i)nan"):
        cheap(model, clip, tmp_path / "out")


PLUGIN = """
    from markupsafe import Markup
    import explain
    from explain.reporting.sections import Content
    from zoo import hookimpl

    @hookimpl
    def explain_sections(context):
        return [
            explain.Section(name="good", title="Good <b>news</b>", one=f"{__name__}:good"),
            explain.Section(name="bad", title="Bad news", one=f"{__name__}:bad"),
            explain.Section(name="units", title="Taken", one=f"{__name__}:good"),
            explain.Section(name="wrong", title="Wrong", one=f"{__name__}:wrong"),
            explain.Section(name="ending", title="Ending", one=f"{__name__}:ending"),
            explain.Section(name="absent", title="Absent", one="not_installed:build"),
        ]

    def good(context):
        return Content(html=Markup("<p>Frames: <data value='{0}'>{0}</data></p>").format(len(context.frames)),
                       data={"frames": len(context.frames)}, tensors={"twice": context.batch * 2})

    def bad(context):
        raise RuntimeError("no <news> today")

    def wrong(context):
        return "a string"

    def ending(context):
        import os, sys
        os.chdir("/")
        sys.exit("enough")
"""


def test_sections_of_plugins_join_in_and_a_broken_one_changes_nothing_else(plugin, model, clip, tmp_path):
    plugin("newsy", PLUGIN)
    before = Path.cwd()
    report = cheap(model, clip, tmp_path / "out", sections=None, methods=["saliency"], unit_layers=1, unit_steps=2)
    assert list(report.data["sections"]) == [*SECTIONS[:-1], "good", "provenance"]
    assert report.data["sections"]["good"] == {"frames": 12}
    assert {problem["section"]: problem["plugin"] for problem in report.problems} == dict.fromkeys(
        ["units", "bad", "wrong", "ending", "absent"], "dist-newsy:newsy"
    )
    assert Path.cwd() == before
    page = report.page.read_text(encoding="utf-8")
    assert "Good &lt;b&gt;news&lt;/b&gt;" in page
    assert re.search(r"RuntimeError: no &lt;news&gt; today \(newsy\.py:\d+\)", page)
    assert {problem["section"]: problem["reason"].count("newsy.py") for problem in report.problems} == {
        "units": 0,
        "bad": 1,
        "wrong": 0,
        "ending": 1,
        "absent": 0,
    }  # what is raised outside the plugin has no place in it
    with safe_open(report.folder / "tensors.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("good/twice"), 2 * file.get_tensor("batch"))


def test_a_method_of_a_plugin_that_fails_is_reported_and_the_others_go_on(plugin, model, clip, tmp_path):
    plugin(
        "weary",
        """
        import explain
        from zoo import hookimpl

        @hookimpl
        def explain_methods():
            return [explain.Method(name="weary", summary="No.", run=f"{__name__}:run", source="", reduction="sum")]

        def run(job):
            raise ValueError("not <today>")
        """,
    )
    report = cheap(model, clip, tmp_path / "out", methods=["weary", "saliency"])
    assert [method["method"] for method in report.data["sections"]["attributions"]["methods"]] == ["saliency"]
    (problem,) = report.problems
    assert (problem["section"], problem["plugin"]) == ("attributions", "attribution method weary")
    assert "ValueError: not &lt;today&gt;" in report.page.read_text(encoding="utf-8")


def test_a_plugin_whose_hook_fails_is_named_in_the_report(plugin, model, clip, tmp_path):
    plugin(
        "sad",
        """
        from zoo import hookimpl

        @hookimpl
        def explain_sections(context):
            raise ValueError("sad story")
        """,
    )
    with pytest.warns(plugins.PluginWarning, match="sad story"):
        report = cheap(model, clip, tmp_path / "out")
    assert "sad story" in report.problems[0]["reason"]
    assert "sad story" in report.page.read_text(encoding="utf-8").partition("<main")[0]


def test_the_sentence_never_rounds_up_to_certainty():
    from explain.reporting.topics.prediction import sentence

    def said(probability):
        return sentence({"shape": {"kind": "classes", "top": [{"label": "round", "probability": probability}]}})

    assert "99.7" in said(0.997)
    assert "over 99.9" in said(0.9999)
    assert "100" in said(1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_in_another_type_is_given_its_clip_in_that_type(model, clip, tmp_path, dtype):
    report = cheap(model.to(dtype), clip, tmp_path / "out", methods=["saliency"], sections=["attributions"])
    with safe_open(report.folder / "tensors.safetensors", framework="pt") as file:
        assert file.get_tensor("batch").dtype == dtype


def test_an_image_model_says_that_it_took_one_image_of_a_folder(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.zoo_entry = zoo.ModelEntry(
        name="imager",
        summary="Sees images",
        builder="nowhere:build",
        parameters=0,
        input=zoo.InputSpec(layout="NCHW", frames=1, size=(8, 8)),
        outputs=(zoo.OutputSpec(name="class"),),
    )
    for at in range(3):
        Image.new("RGB", (8, 8), (at, 60, 90)).save(tmp_path / f"{at}.png")
    one = cheap(model, tmp_path, tmp_path.parent / "one", sections=["prediction"])
    assert "The folder holds 3 images and the model takes one" in one.warnings[0]
    many = cheap(model, tmp_path, tmp_path.parent / "many", sections=["predictions"], each=True)
    assert many.data["clips"] == 3


def test_of_random_weights_nothing_learned_is_shown(clip, plugin, tmp_path):
    """No verdicts, no synthesized units, no motions; trained weights of the same network have all of it."""
    plugin("smaller", INFLATED)
    catalog.listings.cache_clear()
    random = zoo.load("small", weights=None)
    save_file(random.state_dict(), tmp_path / "trained.safetensors")
    trained = zoo.load("small", weights=tmp_path / "trained.safetensors")
    catalog.listings.cache_clear()
    shown = {
        name: cheap(
            net, clip, tmp_path / name, sections=None, methods=["saliency"], units=1, unit_steps=1, unit_layers=1
        )
        for name, net in (("random", random), ("trained", trained))
    }
    sections = {name: set(report.data["sections"]) for name, report in shown.items()}
    assert sections["trained"] - sections["random"] == {"units", "motion"}
    tested = {
        name: report.data["sections"]["attributions"]["methods"][0]["faithfulness"] for name, report in shown.items()
    }
    assert tested["random"] is None
    assert tested["trained"]["verdict"] in {"passes", "inconclusive", "flagged"}
    assert not any(
        step.startswith(("faithfulness", "maximising", "motion")) for step in shown["random"].data["run"]["seconds"]
    )
    assert "weights are random" in " ".join(shown["random"].warnings)
    assert shown["trained"].warnings == []
    page = shown["random"].page.read_text(encoding="utf-8")
    assert 'class="trust"' not in page
    asked = cheap(random, clip, tmp_path / "asked", sections=["units", "motion"])
    for section in ("units", "motion"):
        assert "random" in asked.data["sections"][section]["left_out"]


def test_no_frame_is_named_that_its_test_does_not_bear_out(written):
    """In words, in labels for screen readers, and in the strip of all frames."""
    page = written.page.read_text(encoding="utf-8")
    for method in written.data["sections"]["attributions"]["methods"]:
        passed = method["faithfulness"]["reasons"]["frames"]["verdict"] == "passes"
        assert (method["strongest"] is not None) is (passed and method["peak_share"] >= 2 * method["even_share"])
        card = page.partition(f'id="method-{method["method"]}"')[2].partition("</article>")[0]
        assert ("trongest in frame" in card) is (method["strongest"] is not None)
        assert ('class="cell peak"' in card) is (method["strongest"] is not None)


def test_units_that_fire_on_the_clip_are_shown_and_compared_with_it(model, clip, tmp_path):
    """A unit that is silent behind ReLU comes last, though its mean before is the highest."""
    with torch.no_grad():
        model.norm.bias[0], model.norm.weight[0] = -50.0, 1e-3  # silent ...
        model.early.bias[0] = 30.0  # ... whatever the convolution gives
    report = cheap(model, clip, tmp_path / "out", sections=["units"], units=4, unit_layers=["early"], unit_steps=1)
    units = report.data["sections"]["units"]["units"]
    assert [unit["function"] for unit in units] == ["relu"] * 4
    assert units[-1]["unit"] == 0
    assert units[-1]["on_clip"] == 0
    assert [unit["on_clip"] for unit in units] == sorted((unit["on_clip"] for unit in units), reverse=True)
    batch = zoo.preprocess(clip, model)
    with torch.no_grad():
        fired = torch.relu(model.norm(model.early(batch))).mean(dim=(2, 3, 4))[0]
    for unit in units:
        assert unit["on_clip"] == pytest.approx(float(fired[unit["unit"]]), abs=1e-6)
    page = report.page.read_text(encoding="utf-8")
    assert "does not fire on the report" in page
    better = [unit for unit in units if 0 < unit["synthesized"] < unit["on_clip"]]
    assert ("excites it more than the synthesized one" in page) is bool(better)


def test_a_clip_that_excites_a_unit_more_is_what_its_synthesis_goes_on_from(model, clip, tmp_path):
    report = cheap(model, clip, tmp_path / "out", sections=["units"], units=4, unit_layers=["early"], unit_steps=1)
    units = report.data["sections"]["units"]["units"]
    assert any(unit["from_clip"] for unit in units)  # one step from grey makes no bright square
    for unit in units:
        assert not unit["from_clip"] or unit["synthesized"] > 0


def test_every_output_is_explained_where_all_are_asked_for(model, clip, tmp_path):
    options = {"methods": ["saliency"], "sections": ["attributions"]}
    report = cheap(model, clip, tmp_path / "all", target="all", **options)
    first, (other,) = report.data["sections"]["attributions"], report.data["sections"]["attributions"]["others"]
    alone = cheap(model, clip, tmp_path / "speed", target="speed", **options).data["sections"]["attributions"]
    assert (first["target"], other["target"]) == (report.data["target"], "speed")
    assert other["methods"][0]["time"] == pytest.approx(alone["methods"][0]["time"])
    ids = [attributes["id"] for _, attributes in Shown(report.page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    with safe_open(report.folder / "tensors.safetensors", framework="pt") as file:
        assert {"attributions/saliency/map", "attributions/speed/saliency/map"} <= set(file.keys())
    with pytest.raises(UsageError, match="one"):
        explain.compare([model, copy.deepcopy(model)], tmp_path / "compared", clip=clip, target="all")


def test_of_an_output_clip_the_part_is_explained_that_is_farthest_from_the_clip(copying, clip, tmp_path):
    """Frame 7, which the model makes brighter."""
    report = cheap(copying(), clip, tmp_path / "out", methods=["saliency"], sections=["attributions"])
    assert report.data["target"].startswith("film[t=7, y=")
    assert "farthest from the clip" in report.page.read_text(encoding="utf-8")


def test_a_report_shows_in_a_notebook_by_itself(written, monkeypatch):
    view = written._repr_html_()
    assert view.count("<iframe") == 1
    (inside,) = re.findall(r'srcdoc="(.*?)"', view, re.DOTALL)
    assert html.unescape(inside) == written.page.read_text(encoding="utf-8")
    assert 'sandbox="allow-scripts"' in view
    monkeypatch.setattr("explain.reporting.pages._SHOWN", 10)
    assert "<iframe" not in written._repr_html_()
    assert str(written.page) in written._repr_html_()
    assert len(repr(written)) < 300


EVERYWHERE = """
    import explain
    from zoo import hookimpl

    @hookimpl
    def explain_sections(context):
        here = __name__
        return [
            explain.Section(
                name="everywhere", title="Everywhere", title_of_models="Of all", one=f"{here}:one",
                models=f"{here}:models", clips=f"{here}:clips", after="clips",
            )
        ]

    def one(context):
        return explain.Content(html="of one", data={"model": context.name})

    def models(contexts):
        return explain.Content(html="of models", data={"models": [context.name for context in contexts]})

    def clips(collection):
        return explain.Content(html="of <clips>", data={"clips": len(collection.entries)})
"""


def test_one_row_of_a_plugin_has_a_section_on_every_page(plugin, model, clip, folder_of_clips, tmp_path):
    plugin("everywhere", EVERYWHERE)
    one = cheap(model, clip, tmp_path / "one", sections=["everywhere"])
    assert one.data["sections"] == {"everywhere": {"model": one.data["model"]}}
    many = cheap(model, folder_of_clips, tmp_path / "many", sections=["clips", "everywhere"], methods=None)
    assert many.data["sections"]["everywhere"] == {"clips": 10}
    page = many.page.read_text(encoding="utf-8")
    assert "of &lt;clips&gt;" in page
    assert re.findall(r'<h2 id="(\w+)-title">', page) == ["clips", "everywhere"]
    other = copy.deepcopy(model)
    both = explain.compare([model, other], tmp_path / "both", clip=clip, sections=["everywhere"])
    assert len(both.data["sections"]["everywhere"]["models"]) == 2
    assert "Of all" in both.page.read_text(encoding="utf-8")
    assert [report.problems for report in (one, many, both)] == [[], [], []]
    for where, name in ((clip, "clips"), (folder_of_clips, "nowhere")):
        with pytest.raises(UnknownNameError, match=f"section '{name}'"):
            cheap(model, where, tmp_path / "none", sections=[name])


def test_a_section_of_version_0_1_names_its_function_build():
    with pytest.warns(DeprecationWarning, match="one="):
        section = explain.Section(name="old", title="Old", build="a:b")
    assert (section.builder("one"), section.builder("models"), section.builder("clips")) == ("a:b", "a:b", "")
    with pytest.raises(UsageError, match="names no function"):
        explain.Section(name="none", title="None")

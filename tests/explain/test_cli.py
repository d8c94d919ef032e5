"""The command `explain`: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from explain.attribution import Attribution
from explain.faithfulness import Faithfulness

MAIN = "from explain.cli import main; main()"
#: A plugin with one small model and no weights, put on the path of a command.
PLUGIN = """
import torch
from torch import nn
from zoo import InputSpec, ModelEntry, OutputSpec, hookimpl


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Conv3d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, clips):
        return self.head(torch.relu(self.wide(clips)).mean(dim=(2, 3, 4)))


def build():
    return Tiny()


@hookimpl
def zoo_models():
    return [
        ModelEntry(
            name="tiny",
            builder="tiny_plugin:build",
            summary="A tiny one",
            parameters=127,
            input=InputSpec(frames=6, size=(12, 12), channels="L"),
            outputs=(OutputSpec(name="shape", labels=("round", "square", "flat")),),
        )
    ]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "tiny_plugin.py").write_text(PLUGIN)
    metadata = folder / "tiny_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[zoo.plugins]\ntiny = tiny_plugin\n")
    return folder


@pytest.fixture(scope="module")
def environment(site):
    return {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def explain(environment, preloaded):
    """Runs the command in a process that need not import torch anew; gives its exit status, stdout and stderr."""

    def run(*arguments, code=MAIN):
        return preloaded(*arguments, code=code, environment=environment)

    return run


@pytest.fixture(scope="module")
def fresh(environment):
    """Runs the command as `explain` does, in a process that has imported nothing."""

    def run(*arguments, code=MAIN):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder of eight images."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("clip")
    frames = np.random.default_rng(0).integers(0, 256, (8, 20, 30, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["report"],
        ["attribute"],
        ["maximize"],
        ["fields"],
        ["faithfulness"],
        ["robustness"],
        ["compare"],
        ["methods"],
    ],
    ids=str,
)
def test_help_needs_no_torch_and_shows_an_example(fresh, command):
    ask = "import sys; from explain.cli import commands; commands(standalone_mode=False); "
    run = fresh(*command, "--help", code=ask + "assert 'torch' not in sys.modules")
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    if command:
        assert "Example" in run.stdout
        assert f"explain {command[0]}" in run.stdout


def test_report_writes_a_folder_and_says_where(explain, clip, tmp_path):
    out = tmp_path / "out"
    cheap = (
        "--weights",
        "none",
        "--method",
        "saliency",
        "--units",
        1,
        "--unit-steps",
        2,
        "--device",
        "cpu",
        "--seed",
        5,
    )
    run = explain("report", "tiny", clip, "--out", out, *cheap)
    assert run.returncode == 0, run.stderr
    assert str(out / "report.html") in run.stdout
    assert "attribution: saliency" in run.stderr
    assert (out / "report.html").is_file()
    assert json.loads((out / "report.json").read_text())["run"]["seed"] == 5


#: Ends the command, as Ctrl-C or the signal that ends processes does, at the third clip.
STOPPED = """
import os, signal, sys
from explain.cli import main
from explain.reporting.many import collecting
examine, asked = collecting.examine, []


def stopped(*given):
    asked.append(given)
    if len(asked) == 3:
        os.kill(os.getpid(), signal.{signal})
    return examine(*given)


collecting.examine = stopped
main()
"""


@pytest.mark.parametrize(("signal", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_report_on_many_clips_says_how_to_go_on_and_does(explain, clip, tmp_path, signal, status):
    out = tmp_path / "out"
    asked = (
        "report",
        "tiny",
        clip,
        "--each",
        "--out",
        out,
        "--weights",
        "none",
        "--section",
        "time",
        "--device",
        "cpu",
    )
    run = explain(*asked, code=STOPPED.replace("{signal}", signal))
    assert run.returncode == status, run.stderr
    assert f"2 of 8 clips are done and kept in {tmp_path / '.out.unfinished'}; run the same again" in run.stderr
    assert "Traceback" not in run.stderr
    assert not out.exists()
    run = explain(*asked, "--json")
    assert run.returncode == 0, run.stderr
    assert "clips kept from an earlier run" in run.stderr
    assert "clip 3 of 8: 2.png" in run.stderr
    assert json.loads(run.stdout)["clips"] == 8
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_options_of_a_method_reach_it(explain, clip):
    options = ("--fill", "drop", "--order", "shuffle", "--n-samples", 3, "--smooth", "deconvolution")
    options = (*options, "--feature-mask", "grid", "--baseline", "blur", "--baseline", "0.5")
    methods = ("temporal_occlusion", "frame_order", "smooth_grad", "feature_ablation", "gradient_shap")
    asked = [part for name in methods for part in ("--method", name)]
    run = explain("attribute", "tiny", clip, *asked, *options, "--weights", "none", "--json")
    assert run.returncode == 0, run.stderr
    settings = {row["method"]: row["settings"] for row in json.loads(run.stdout)}
    assert settings["temporal_occlusion"]["fill"] == "drop"
    assert (settings["frame_order"]["order"], settings["frame_order"]["n_samples"]) == ("shuffle", 3)
    assert (settings["smooth_grad"]["smooth"], settings["smooth_grad"]["n_samples"]) == ("deconvolution", 3)
    assert settings["feature_ablation"]["feature_mask"] == "grid"
    assert settings["gradient_shap"]["baseline"] == ["blur", 0.5]
    assert settings["gradient_shap"]["seed"] == 0


def test_report_as_json_is_the_only_thing_on_stdout(fresh, clip, tmp_path):
    cheap = ("--weights", "none", "--section", "prediction", "--target", "flat")
    run = fresh("report", "tiny", clip, "--out", tmp_path / "out", *cheap, "--json")
    data = json.loads(run.stdout)
    assert data["target"] == "shape = flat"
    assert data["page"] == str(tmp_path / "out" / "report.html")
    assert data["problems"] == []
    assert ["random" in warning for warning in data["warnings"]] == [True]


def test_attribute_prints_a_row_for_each_method_and_keeps_the_maps(explain, clip, tmp_path):
    both = ("--method", "saliency", "--method", "grad_cam", "--layer", "wide", "--weights", "none")
    run = explain("attribute", "tiny", clip, *both, "--out", tmp_path / "maps", "--json")
    assert run.returncode == 0, run.stderr
    data = json.loads(run.stdout)
    assert [(row["method"], row["layer"], len(row["time"])) for row in data] == [
        ("saliency", None, 6),
        ("grad_cam", "wide", 6),
    ]
    maps = [Attribution.load(tmp_path / "maps" / row["method"]) for row in data]
    assert [(one.map.shape, one.layer) for one in maps] == [((1, 6, 12, 12), None), ((1, 6, 12, 12), "wide")]
    assert maps[0].time[0].tolist() == data[0]["time"]
    kept = json.loads((tmp_path / "maps" / "attribution.json").read_text())
    assert kept["methods"] == data
    text = explain("attribute", "tiny", clip, *both)
    assert text.stdout.splitlines()[0].startswith("method")
    assert len(text.stdout.splitlines()) == 4


def test_weights_that_were_saved_with_another_number_of_classes_are_explained(explain, clip, tmp_path):
    save = (
        "import sys, zoo; from safetensors.torch import save_file; "
        "save_file(zoo.load('tiny', weights=None, num_classes=7, seed=5).state_dict(), sys.argv[1])"
    )
    path = tmp_path / "mine.safetensors"
    assert explain(path, code=save).returncode == 0
    given = ("tiny", clip, "--weights", path)
    kept = ("--method", "saliency", "--target", "6")
    done = explain("attribute", *given, *kept, "--num-classes", "7", "--json")
    assert "6" in json.loads(done.stdout)[0]["target"]
    out = tmp_path / "report"
    done = explain("report", *given, *kept, "--num-classes", "7", "--section", "prediction", "--out", out, "--json")
    assert "6" in json.loads(done.stdout)["target"]
    for command in (["attribute", *given, "--method", "saliency"], ["report", *given, "--out", tmp_path / "x"]):
        done = explain(*command)
        assert (done.returncode, "--num-classes 7" in done.stderr) == (1, True)


def test_attribute_looks_at_the_layer_behind_a_method_in_the_numbers_asked_for(explain, clip):
    asked = ("--method", "layer_activation@wide", "--method", "occlusion", "--method", "grad_cam@wide", "--json")
    run = explain("attribute", "tiny", clip, *asked, "--weights", "none", "--dtype", "bfloat16")
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert [row["method"] for row in rows] == ["layer_activation", "occlusion", "grad_cam"]
    assert [row["layer"] for row in rows] == ["wide", None, "wide"]
    assert run.stderr.splitlines() == ["layer_activation@wide, grad_cam@wide", "occlusion"]
    exact = json.loads(explain("attribute", "tiny", clip, *asked, "--weights", "none").stdout)
    assert rows[0]["time"] != exact[0]["time"]
    assert rows[0]["time"] == pytest.approx(exact[0]["time"], rel=0.02)


def test_attribute_warns_of_maps_that_do_not_add_up(explain, clip, tmp_path):
    asked = (
        "--method",
        "integrated_gradients",
        "--weights",
        "none",
        "--baseline",
        "-1",
        "--target",
        "square",
        "--json",
    )
    run = explain("attribute", "tiny", clip, *asked, "--n-steps", 1, "--out", tmp_path / "maps")
    assert run.returncode == 0, run.stderr
    delta = json.loads(run.stdout)[0]["delta"]
    kept = Attribution.load(tmp_path / "maps" / "integrated_gradients")
    total = float(kept.raw.double().sum())
    assert abs(delta) > 0.1 * abs(total - delta)
    assert float(kept.missed[0]) == pytest.approx(abs(delta) / abs(total - delta), rel=1e-4)
    assert f"adds up to {total:.3g}, and the output changes by {total - delta:.3g} from" in run.stderr
    assert "more than --n-steps 1 may help" in run.stderr
    enough = explain("attribute", "tiny", clip, *asked, "--n-steps", 64)
    assert "take it with care" not in enough.stderr


def test_maximize_keeps_an_animation_for_each_unit(explain, tmp_path):
    wanted = ("--layer", "wide", "--unit", 0, "--unit", 3, "--steps", 2, "--weights", "none")
    run = explain("maximize", "tiny", *wanted, "--out", tmp_path / "units", "--json")
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert [row["unit"] for row in rows] == [0, 3]
    assert all(row["initial"] != row["history"][0] for row in rows)  # the first step is on a shifted clip
    text = explain("maximize", "tiny", *wanted).stdout
    assert [line.split()[1] for line in text.splitlines()[-2:]] == [f"{row['initial']:.3g}" for row in rows]
    names = sorted(file.name for file in (tmp_path / "units").iterdir())
    assert names == ["maximization.html", "maximization.json", "maximization.safetensors", "unit-0.webp", "unit-3.webp"]


def test_maximize_shows_real_clips_beside_those_that_it_makes(explain, clip, tmp_path):
    from explain import TopClips

    wanted = ("--layer", "wide", "--unit", "1-2", "--steps", 2, "--weights", "none", "--seed", 3, "--no-decorrelate")
    options = ("--transform", "jitter", "--transform", "rotation", "--penalty", "flicker=0.5", "--copies", 2)
    found = ("--clips", clip, "--top", 3, "--out", tmp_path / "units")
    run = explain("maximize", "tiny", *wanted, *options, *found, "--json")
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert [row["name"] for row in rows] == ["wide/1", "wide/1", "wide/2", "wide/2"]
    for row in rows:
        assert len(row["clips"]) == 3
        means = [one["mean"] for one in row["clips"]]
        assert means == sorted(means, reverse=True)
    about = json.loads((tmp_path / "units" / "maximization.json").read_text())
    assert about["clips_looked_at"] == 8
    assert about["units"] == rows
    assert (about["transforms"], about["objective"]) == ("jitter, rotation", "-0.5 flicker")
    page = (tmp_path / "units" / "maximization.html").read_text()
    assert "://" not in page.replace("http://www.w3.org", "")
    assert page.count("sprite-clip-") >= 12
    assert "These weights are random" in page
    assert {"unit-1.webp", "unit-1_2.webp", "unit-2.webp", "unit-2_2.webp"} <= set(about["files"])
    kept = TopClips.load(tmp_path / "units" / "top_clips")
    assert [[one.mean for one in best] for best in kept.clips] == [
        [one["mean"] for one in row["clips"]] for row in rows[::2]
    ]


def test_maximize_raises_an_output_and_names_its_files_by_it(explain, tmp_path):
    wanted = ("--target", "round", "--target", "1", "--steps", 2, "--weights", "none")
    run = explain("maximize", "tiny", *wanted, "--out", tmp_path / "classes")
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()[-2:]] == ["round", "class"]
    assert {"round.webp", "class-1.webp"} <= {file.name for file in (tmp_path / "classes").iterdir()}


def test_attribute_names_and_keeps_the_frame_of_a_unit_s_highest_activation(explain, clip, tmp_path):
    both = ("input_x_gradient", "saliency")
    wanted = ("--method", both[0], "--method", both[1], "--target", "wide/2:max", "--weights", "none")
    run = explain("attribute", "tiny", clip, *wanted, "--out", tmp_path / "maps", "--json")
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    frame, (step, _, _) = rows[0]["frame"], rows[0]["position"]
    assert [(row["target"], row["frame"]) for row in rows] == [("wide/2:max", frame)] * 2
    assert abs(frame - step) <= 1  # the kernel spans three frames
    names = sorted(file.name for file in (tmp_path / "maps").iterdir())
    assert names == [
        "attribution.json",
        "frame.png",
        *(f"{one}.{kind}" for one in both for kind in ("png", "safetensors")),
    ]
    text = explain("attribute", "tiny", clip, *wanted).stdout
    assert f"at time step {step}, " in text
    assert text.rstrip().endswith(f"frame {frame} of the clip adds most to it")


def test_maximize_keeps_a_still_as_one_picture_and_as_a_clip_of_equal_frames(explain, tmp_path):
    from PIL import Image

    from explain import Maximization

    wanted = ("--layer", "wide", "--unit", 1, "--steps", 2, "--weights", "none", "--parametrization", "fourier2d")
    run = explain("maximize", "tiny", *wanted, "--out", tmp_path / "units")
    assert run.returncode == 0, run.stderr
    clips = Maximization.load(tmp_path / "units" / "maximization").clips
    assert clips.shape == (1, 1, 6, 12, 12)
    assert bool((clips == clips[:, :, :1]).all())
    with Image.open(tmp_path / "units" / "unit-1.webp") as picture:
        assert picture.n_frames == 1
    assert json.loads((tmp_path / "units" / "maximization.json").read_text())["parametrization"] == "fourier2d"


def test_fields_lists_every_layer(explain):
    run = explain("fields", "tiny", "--weights", "none", "--json")
    data = json.loads(run.stdout)
    (row,) = data["layers"]
    assert (row["layer"], row["field"], row["frame_field"], row["stride"]) == ("wide", [3, 3, 3], [3, 3], [1, 1, 1])
    assert data["temporal_field"]["layers"][0]["stands_at"] == list(range(len(row["frames"])))
    assert "3 x 3 x 3" in explain("fields", "tiny", "--weights", "none", "--device", "cpu", "--seed", 1).stdout


def test_fields_draws_the_unit_asked_for(explain, tmp_path):
    figure = tmp_path / "unit.svg"
    run = explain("fields", "tiny", "--weights", "none", "--layers", "w*", "--unit", "wide/0", "--figure", figure)
    assert run.returncode == 0, run.stderr
    assert "depends on frames 0 to 1 of" in run.stderr
    root = ElementTree.parse(figure).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "wide" in {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_fields_measures_and_draws_how_far_layers_look(explain, clip, tmp_path):
    figure = tmp_path / "effective.svg"
    run = explain("fields", "tiny", clip, "--weights", "none", "--effective", "--draws", 2, "--figure", figure)
    assert run.returncode == 0, run.stderr
    header, _, row = run.stdout.splitlines()
    assert header.endswith("looks at T x H x W (95 % each)")
    assert row.startswith("wide")
    assert "95 % within" in figure.read_text()
    run = explain("fields", "tiny", "--weights", "none", "--effective", "--json")  # on noise
    (field,) = json.loads(run.stdout)["effective"]
    assert field["layer"] == "wide"
    assert field["theoretical"] == [3, 3, 3]
    assert field["extent"] == [last - first + 1 for first, last in field["box"]]


def test_compare_takes_the_weights_beside_an_evaluation(explain, clip, tmp_path):
    """Random weights of two seeds, each with a record beside it as training writes them."""
    import torch
    from safetensors.torch import save_file

    files = []
    for name, bias in (("first", 0.0), ("second", 9.0)):
        generator = torch.Generator().manual_seed(1)
        tensors = {
            "wide.weight": torch.randn(4, 1, 3, 3, 3, generator=generator),
            "wide.bias": torch.zeros(4),
            "head.weight": torch.randn(3, 4, generator=generator),
            "head.bias": torch.tensor([0.0, bias, 0.0]),
        }
        save_file(tensors, tmp_path / f"{name}.safetensors")
        metrics = [{"dataset": "shapes", "split": "test", "name": "accuracy", "value": 0.5 + bias / 30}]
        record = {"model": f"tiny.{name}", "clips_measured": 400, "metrics": metrics, "breakdown": {}, "recipe": {}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
        files.append(tmp_path / f"{name}.json")
    run = explain("compare", *files, "--out", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "best accuracy: tiny.second (80.0" in run.stdout.casefold()
    cheap = ("--clip", clip, "--method", "saliency", "--section", "predictions", "--section", "attributions")
    run = explain("compare", *files, "--out", tmp_path / "out", *cheap, "--device", "cpu", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["models"] == ["tiny.first", "tiny.second"]
    assert "saliency: tiny.second" in run.stderr
    data = json.loads((tmp_path / "out" / "comparison.json").read_text())
    said = [model["heads"]["shape"]["top"][0] for model in data["sections"]["predictions"]["models"]]
    assert said[1]["label"] == "square"
    assert said[1] != said[0]
    files[1].with_suffix(".safetensors").unlink()
    gone = explain("compare", *files, "--out", tmp_path / "out", *cheap)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "neither beside it nor registered" in gone.stderr


def test_faithfulness_says_in_words_and_numbers_whether_maps_can_be_trusted(explain, clip, tmp_path):
    out = tmp_path / "out"
    cheap = ("--weights", "none", "--steps", 4, "--draws", 2, "--depths", 1, "--target", "flat")
    methods = ("--method", "saliency", "--method", "grad_cam")
    run = explain("faithfulness", "tiny", clip, *methods, *cheap, "--out", out)
    assert run.returncode == 0, run.stderr
    header, _, first, second, *_ = run.stdout.splitlines()
    assert header.startswith("method")
    assert first.split()[0] == "saliency"
    assert second.split()[0] == "grad_cam"
    assert "weights are random" in run.stdout  # so that no map is judged
    data = json.loads((out / "faithfulness.json").read_text())
    assert [one["method"] for one in data["methods"]] == ["saliency", "grad_cam"]
    assert data["methods"][0]["target"] == "shape = flat"
    curve = data["methods"][0]["curves"]["both"]["deletion"]["curve"]
    assert Faithfulness.load(out / "saliency").main.deletion[0].tolist() == curve
    assert len(curve) == 5
    run = explain("faithfulness", "tiny", clip, *methods, *cheap, "--json")
    assert json.loads(run.stdout) == data["methods"]


def test_robustness_says_where_answers_are_lost_and_keeps_a_page(explain, clip, tmp_path):
    import torch
    from safetensors.torch import load_file

    out = tmp_path / "out"
    cheap = (
        "--perturbation",
        "gaussian_noise=0.2,0.1",
        "--perturbation",
        "missing_frames",
        "--levels",
        3,
        "--draws",
        2,
    )
    given = ("robustness", "tiny", clip, "--weights", "none", *cheap)
    run = explain(*given, "--out", out)
    assert run.returncode == 0, run.stderr
    assert "shape unchanged: first lost, half lost at" in run.stdout
    assert {line.split()[0] for line in run.stdout.splitlines() if line} >= {"gaussian_noise", "missing_frames"}
    data = json.loads((out / "robustness.json").read_text())
    curves = data["sections"]["perturbations"]["curves"]
    assert curves["gaussian_noise"]["levels"] == [0, 0.1, 0.2]
    assert curves["missing_frames"]["levels"] == [0, 2, 4, 6]
    page = (out / "robustness.html").read_text()
    assert "Gaussian noise" in page
    assert page.count('<svg class="drawn"') == 2
    tensors = load_file(out / "tensors.safetensors")
    values = tensors["perturbations/gaussian_noise/shape probability"]
    assert values.shape == (3, 2, 1)
    assert torch.allclose(
        values.mean(dim=(1, 2)),
        torch.tensor(curves["gaussian_noise"]["mean"]["shape probability"], dtype=torch.float64),
    )
    again = json.loads(explain(*given, "--json").stdout)
    assert again["curves"] == curves


def test_robustness_on_a_folder_of_classes_measures_accuracy_and_leaves_broken_clips_out(explain, clip, tmp_path):
    import shutil

    for label in ("round", "flat"):
        shutil.copytree(clip, tmp_path / "clips" / label / "one")
    (tmp_path / "clips" / "flat" / "broken.mp4").write_bytes(b"nothing")
    cheap = ("--weights", "none", "--perturbation", "blur=1,2", "--out", tmp_path / "out")
    run = explain("robustness", "tiny", tmp_path / "clips", *cheap)
    assert run.returncode == 0, run.stderr
    assert "broken.mp4 is left out" in run.stderr
    data = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert data["clips"].startswith("2 clips of ")
    assert [one["clip"].endswith("broken.mp4") for one in data["left_out"]] == [True]
    found = data["sections"]["perturbations"]
    assert found["samples"] == 2
    # The same clip twice under two labels: half of it is right or none, whatever is said.
    assert set(found["curves"]["blur"]["mean"]["shape accuracy"]) <= {0.0, 0.5}
    assert "Left out" in (tmp_path / "out" / "robustness.html").read_text()
    shutil.rmtree(tmp_path / "clips" / "round")
    shutil.rmtree(tmp_path / "clips" / "flat" / "one")
    run = explain("robustness", "tiny", tmp_path / "clips", *cheap)
    assert run.returncode == 1
    assert "none of the 1 clips can be used" in run.stderr


def test_methods_lists_every_method(explain):
    from explain.attribution.methods import BUILT_IN

    command = [sys.executable, "-m", "explain", "methods", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [row["name"] for row in json.loads(run.stdout)] == [method.name for method in BUILT_IN]
    assert "integrated_gradients" in explain("methods").stdout


def test_methods_says_which_apply_to_a_model_and_why_others_do_not(explain):
    from explain.attribution.methods import BUILT_IN

    run = explain("methods", "tiny", "--json")
    rows = json.loads(run.stdout)
    assert [row["name"] for row in rows] == [method.name for method in BUILT_IN]
    assert all(row["applies"] == (not row["reason"]) for row in rows)
    assert {row["applies"] for row in rows if row["name"] in {"saliency", "occlusion", "grad_cam"}} == {True}
    assert "saliency " in explain("methods", "tiny").stdout
    assert explain("methods", "tinny").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["report", "tinny", "CLIP", "--out", "OUT", "--weights", "none"], 2, "'tiny'"),
        (["report", "tiny", "CLIP", "--out", "OUT"], 2, "no trained weights"),
        (["report", "tiny", "CLIP", "--out", "OUT", "--weights", "nonsense"], 2, "nonsense"),
        (["report", "tiny", "CLIP", "--out", "OUT", "--weights", "none", "--method", "salience"], 2, "'saliency'"),
        (["report", "tiny", "CLIP", "--out", "OUT", "--weights", "none", "--section", "unit"], 2, "'units'"),
        (["report", "tiny", "CLIP", "--out", "OUT", "--weights", "none", "--layer", "wild"], 2, "'wide'"),
        (["report", "tiny", "CLIP", "--out", "OUT", "--weights", "none", "--target", "flatt"], 2, "flat"),
        (["report", "tiny", "missing.mp4", "--out", "OUT", "--weights", "none"], 2, "missing.mp4"),
        (["report", "tiny", "sample:nothing", "--out", "OUT", "--weights", "none"], 2, "sample:nothing"),
        (["report", "tiny", "BROKEN", "--out", "OUT", "--weights", "none"], 1, "broken.mp4"),
        (["report", "tiny", "CLIP", "--out", "TAKEN", "--weights", "none"], 1, "broken.mp4"),
        (["report", "tiny", "CLIP", "--out", "/proc/nowhere/out", "--weights", "none"], 1, "cannot write"),
        (["report", "tiny", "CLIP", "--out", "OUT", "--weights", "none", "--device", "cuda:99"], 2, "cuda:99"),
        (["report", "tiny", "CLIP"], 2, "--out"),
        (["report", "tiny", "BROKEN", "--out", "OUT", "--weights", "none", "--each"], 2, "is no folder"),
        (["report", "tiny", "sample:nothing/*", "--out", "OUT", "--weights", "none"], 2, "no sample matches"),
        (["report", "tiny", "CLIP", "--out", "OUT", "--n-steps", "0"], 2, "n_steps must be at least 1"),
        (["attribute", "tiny", "CLIP", "--method", "salience"], 2, "'saliency'"),
        (["attribute", "tiny", "CLIP", "--method", "zzzz"], 2, "`explain methods` lists all"),
        (["attribute", "tiny", "CLIP"], 2, "Missing option '--method'. An example: explain attribute "),
        (
            ["attribute", "conv3d", "CLIP", "--method", "lrp", "--weights", "none"],
            1,
            "`explain methods MODEL` says which methods apply",
        ),
        (["attribute", "tiny", "CLIP", "--method", "saliency", "--out", "TAKEN"], 1, "broken.mp4"),
        (
            ["attribute", "tiny", "CLIP", "--method", "saliency", "--weights", "none", "--target", "wide/4:max"],
            2,
            "0 to 3",
        ),
        (
            ["attribute", "tiny", "CLIP", "--method", "saliency", "--weights", "none", "--target", "wild/0:max"],
            2,
            "'wide'",
        ),
        (
            ["attribute", "tiny", "CLIP", "--method", "occlusion", "--weights", "none", "--baseline", "bluur"],
            2,
            "'blur'",
        ),
        (["maximize", "tiny", "--layer", "wide", "--unit", "0", "--parametrization", "fourier"], 2, "'fourier3d'"),
        (["maximize", "tiny", "--layer", "wild", "--unit", "0", "--weights", "none"], 2, "'wide'"),
        (["maximize", "tiny", "--layer", "wide", "--unit", "4", "--weights", "none"], 2, "units are 0 to 3"),
        (["maximize", "tiny", "--layer", "wide"], 2, "--unit UNIT"),
        (["maximize", "tiny", "--unit", "1"], 2, "--layer LAYER"),
        (["maximize", "tiny", "--layer", "wide", "--unit", "3-1"], 2, "a range (0-15) or all"),
        (["maximize", "tiny", "--layer", "wide", "--unit", "0", "--target", "flat"], 2, "leave out"),
        (["maximize", "tiny", "--target", "flat", "--clips", "CLIP"], 2, "--layer and --unit"),
        (["maximize", "tiny", "--target", "flatt", "--weights", "none"], 2, "flat"),
        (["maximize", "tiny", "--layer", "wide", "--unit", "0", "--transform", "rotate"], 2, "'rotation'"),
        (["maximize", "tiny", "--layer", "wide", "--unit", "0", "--penalty", "flicker=x"], 2, "flicker=0.5"),
        (["maximize", "tiny", "--layer", "wide", "--unit", "0", "--penalty", "blur"], 2, "total_variation"),
        (["maximize", "tiny", "--layer", "wide", "--unit", "0", "--clips", "nowhere"], 2, "nowhere"),
        (["maximize", "tiny", "--layer", "wide", "--unit", "0", "--clips", "sample:none/*"], 2, "no sample matches"),
        (["fields", "tinny"], 2, "'tiny'"),
        (["fields", "tiny", "--weights", "none", "--layers", "wild"], 2, "'wide'"),
        (
            ["fields", "tiny", "--weights", "none", "--layers", "wild*"],
            2,
            "no layer matches 'wild*'; did you",
        ),
        (["fields", "tiny", "--weights", "none", "--layers", "q*"], 2, "no layer matches 'q*'; known: wide, head"),
        (
            ["fields", "tiny", "--weights", "none", "--layers", "zzzz"],
            2,
            "`explain fields tiny --layers '*'` lists them",
        ),
        (["fields", "tiny", "--weights", "none", "--layers", "head"], 2, "unknown layer with a field 'head'"),
        (["fields", "tiny", "--weights", "none", "--unit", "head/0"], 2, "unknown layer with a field in time 'head'"),
        (["fields", "tiny", "--weights", "none", "--unit", "wide"], 2, "LAYER/POSITION"),
        (["fields", "tiny", "--weights", "none", "--unit", "wild/0"], 2, "'wide'"),
        (["fields", "tiny", "--weights", "none", "--unit", "wide/99"], 2, "not 99"),
        (["fields", "tiny", "--weights", "none", "--figure", "OUT"], 2, ".svg"),
        (["fields", "tiny", "--weights", "none", "--figure", "/proc/nowhere/out.svg"], 1, "cannot write"),
        (["fields", "tiny", "CLIP", "--weights", "none"], 2, "goes with --effective"),
        (["fields", "tiny", "--effective", "--unit", "wide/0"], 2, "--unit goes with"),
        (["faithfulness", "tiny", "CLIP", "--method", "salienc"], 2, "'saliency'"),
        (["faithfulness", "tiny", "CLIP", "--method", "saliency", "--fill", "surrounding"], 2, "'surroundings'"),
        (["faithfulness", "tiny", "CLIP", "--method", "saliency", "--out", "TAKEN"], 1, "broken.mp4"),
        (["robustness", "tiny"], 2, "either a CLIP or --data"),
        (["robustness", "tiny", "CLIP", "--perturbation", "blur=much"], 2, "NAME=LEVEL"),
        (["robustness", "tiny", "CLIP", "--perturbation", "blurr", "--weights", "none"], 2, "'blur'"),
        (["robustness", "tiny", "--data", "--weights", "none"], 2, "no plugin gives a recipe"),
        (["compare", "tiny", "--out", "OUT"], 2, "two or more"),
        (["compare", "tiny", "tinny", "--out", "OUT"], 2, "'tiny'"),
        (["compare", "tiny", "tiny", "--out", "OUT"], 2, "named twice"),
        (["compare", "tiny", "missing.json", "--out", "OUT", "--weights", "none"], 2, "missing.json"),
        (["compare", "tiny", "tiny-plugin:tiny", "--out", "OUT"], 1, "nothing to compare"),
        (["compare", "tiny", "tiny-plugin:tiny", "--out", "TAKEN"], 1, "broken.mp4"),
        (["compare", "tiny", "tiny-plugin:tiny", "--clip", "CLIP", "--out", "OUT"], 2, "no trained weights"),
        (["compare", "tiny", "tiny-plugin:tiny"], 2, "--out"),
        (["reprot"], 2, "reprot"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_message_and_no_traceback(explain, clip, tmp_path, arguments, status, said):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "broken.mp4").write_bytes(b"no video at all")
    places = {"CLIP": clip, "OUT": tmp_path / "out", "TAKEN": taken, "BROKEN": taken / "broken.mp4"}
    run = explain(*(places.get(argument, argument) for argument in arguments))
    assert run.returncode == status, run.stderr
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_a_process_that_has_imported_nothing_says_the_same(fresh, explain, clip):
    for command in (
        ["fields", "tiny", "--weights", "none", "--json"],
        ["attribute", "tinny", clip, "--method", "rise"],
    ):
        one, other = fresh(*command), explain(*command)
        assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)


def test_an_interrupt_ends_in_one_message_and_leaves_nothing(fresh, clip, tmp_path):
    """Ctrl-C during the first attribution."""
    code = """
import os, signal
from explain.attribution import runner
def attribute(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
runner.attribute = attribute
from explain.cli import main
main()
"""
    signalled = fresh("report", "tiny", clip, "--out", tmp_path / "out", "--weights", "none", code=code)
    assert signalled.returncode == 130
    assert "interrupted" in signalled.stderr
    assert "Traceback" not in signalled.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_terminated_leaves_nothing(fresh, clip, tmp_path):
    """SIGTERM after the first file was written."""
    code = """
import os, signal
from explain.reporting import writing
def fsync(_):
    os.kill(os.getpid(), signal.SIGTERM)
writing.os.fsync = fsync
from explain.cli import main
main()
"""
    report = ("report", "tiny", clip, "--out", tmp_path / "out", "--weights", "none", "--section", "prediction")
    assert fresh(*report, code=code).returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_a_real_video_is_converted_as_the_entry_says(explain, test_data, tmp_path):
    video = test_data / "clips" / "basketball.mp4"
    sections = ("--section", "prediction", "--section", "conversion")
    run = explain("report", "tiny", video, "--out", tmp_path / "out", "--weights", "none", *sections)
    assert run.returncode == 0, run.stderr
    data = json.loads((tmp_path / "out" / "report.json").read_text())["sections"]["conversion"]
    assert (data["frames"], data["size"], len(data["used"]), data["batch"]) == (333, [360, 640], 6, [1, 1, 6, 12, 12])
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(step in page for step in data["steps"])
    assert "As read" in page


def test_a_video_cut_short_is_reported_with_a_warning(explain, test_data, tmp_path):
    """An AVI keeps its index at the end and its number of frames at the start: cut, it declares more than it holds."""
    whole = (test_data / "clips" / "v_BabyCrawling_g19_c01.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    run = explain(
        "report",
        "tiny",
        tmp_path / "cut.avi",
        "--out",
        tmp_path / "out",
        "--weights",
        "none",
        "--section",
        "conversion",
        "--json",
    )
    assert run.returncode == 0, run.stderr
    warning, random = json.loads(run.stdout)["warnings"]
    assert "random" in random
    assert "cut off" in warning
    assert warning in run.stderr
    assert warning in (tmp_path / "out" / "report.html").read_text()


def commands_on(video, out):
    """Every command that takes a clip, asked about a video."""
    method = ("--method", "saliency")
    return {
        "predict": ("tiny", video),
        "attribute": ("tiny", video, *method),
        "report": ("tiny", video, "--out", out, "--section", "prediction"),
        "compare": ("tiny", "conv3d", "--clip", video, "--out", out),
        "maximize": ("tiny", "--layer", "wide", "--unit", "0", "--steps", "1", "--clips", video),
        "robustness": ("tiny", video, "--levels", "1", "--draws", "1", "--perturbation", "blur"),
        "fields": ("tiny", video, "--effective", "--draws", "1"),
        "faithfulness": ("tiny", video, *method, "--steps", "2", "--draws", "2"),
    }


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds at 10 frames per second."""
    import av
    import numpy as np

    path = tmp_path_factory.mktemp("videos") / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "gray"
        for at in range(20):
            frame = np.full((16, 16), 12 * at, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return path


def test_every_command_that_takes_a_clip_reads_the_part_that_is_asked_for(explain, video, tmp_path):
    from explain.cli import commands as of_explain
    from zoo.cli import commands as of_zoo

    asked = commands_on(video, tmp_path / "out")
    cut = {
        name
        for program in (of_zoo, of_explain)
        for name, command in program.commands.items()
        if {"start", "end"} <= {parameter.name for parameter in command.params}
    }
    assert cut == set(asked)
    for name, given in asked.items():
        code = MAIN.replace("explain", "zoo") if name == "predict" else MAIN
        run = explain(name, *given, "--weights", "none", "--start", "100", "--end", "101", code=code)
        assert run.returncode == 1, (name, run.stdout, run.stderr)
        assert "between 100 s and 101 s" in " ".join(run.stderr.split()), (name, run.stderr)


def test_commands_name_frames_by_their_time_in_the_video(explain, video):
    given = ("tiny", video, "--weights", "none", "--start", "1", "--json")
    times = [1.0, 1.2, 1.4, 1.5, 1.7, 1.9]  # the nearest to six instants from the first to the last frame
    predicted = json.loads(explain("predict", *given, code=MAIN.replace("explain", "zoo")).stdout)
    assert predicted["times"] == pytest.approx(times)
    asked = ("--method", "saliency", "--target", "wide/1:max")
    (found,) = json.loads(explain("attribute", *given, *asked).stdout)
    assert found["times"] == pytest.approx(times)
    for key in ("peak", "frame"):
        assert found[f"{key}_seconds"] == found["times"][found[key]]
    text = explain("attribute", *given[:-1], *asked).stdout
    for key in ("peak", "frame"):
        assert f"{found[f'{key}_seconds']:.2f} s, frame {found[key]}" in text
    units = ("--layer", "wide", "--unit", "1", "--steps", "1", "--clips", video)
    ((row,), text) = (
        json.loads(explain("maximize", "tiny", *given[2:], *units).stdout),
        explain("maximize", "tiny", *given[2:-1], *units).stdout,
    )
    (clip,) = row["clips"]
    assert clip["seconds"] == pytest.approx(times[clip["frame"]])
    assert f"{clip['seconds']:.2f} s, frame {clip['frame']}" in text
    effective = json.loads(explain("fields", *given, "--effective", "--draws", "1").stdout)["effective"]
    assert effective[0]["times"] == pytest.approx(times)

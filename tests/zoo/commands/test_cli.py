"""The command line: results on stdout, messages on stderr, exit status 0, 1 or 2, never a traceback."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo import cli
from zoo.commands.shared import output
from zoo.errors import PluginWarning
from zoo.models import meta
from zoo.plain import plain
from zoo.registry import catalog
from zoo.training.evaluation import stored


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command of `zoo`; gives exit status, stdout and stderr."""

    def call(*arguments, main=cli.main):
        monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return stopped.value.code, captured.out, captured.err

    return call


@pytest.fixture
def tiny_zoo(installed, tiny, monkeypatch):
    installed.add("little", tiny)
    return installed.use(monkeypatch)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file({"clip": torch.randint(256, (4, 8, 8, 1), dtype=torch.uint8)}, path)
    return path


def test_list_json_has_exactly_the_agreed_keys(run, tiny_zoo):
    status, out, _ = run("list", "--json")
    assert status == 0
    assert json.loads(out) == [
        {
            "name": "tiny",
            "tags": [],
            "default_tag": None,
            "plugin": "little",
            "distribution": "dist-little",
            "summary": "a tiny one",
            "parameters": 69,
        }
    ]


def test_list_takes_wildcards_and_says_when_nothing_matches(run, tiny_zoo):
    assert "tiny" in run("list", "t*")[1]
    assert run("list", "--pretrained", "--json")[1].strip() == "[]"
    assert "no pretrained model of little matches '*'" in run("list", "--pretrained", "--plugin", "little")[1]
    status, _, err = run("list", "--plugin", "litle")
    assert status == 2
    assert "unknown plugin 'litle'; did you mean 'little'?" in err
    status, out, _ = run("list", "x*")
    assert status == 0
    assert "no model matches 'x*'" in out


def test_info_json_of_a_trained_model_has_the_agreed_keys(run):
    status, out, _ = run("info", "conv3d", "--json")
    assert status == 0
    data = json.loads(out)
    assert isinstance(data["parameters"], int)
    assert {"input", "outputs", "weights", "paper", "samples"} <= set(data)
    for weights in data["weights"]:
        assert set(weights) == {"tag", "source", "bytes", "sha256", "license", "recipe", "record", "metrics"}
        for metric in weights["metrics"]:
            assert set(metric) == {"dataset", "split", "name", "value"}


def test_info_says_on_how_many_clips_the_weights_were_measured(run):
    count = stored("conv2d")["clips_measured"]
    lines = run("info", "conv2d")[1].splitlines()
    assert lines.count(f"measured    on {count:,} clips") == 1
    metrics = [line for line in lines if line.startswith("metric")]  # each may concern a part of them
    assert metrics
    assert not any("clips" in line for line in metrics)


def test_predict_prints_labels_and_json(run, tiny_zoo, clip):
    status, out, _ = run("predict", "tiny", clip, "--weights", "none")
    assert status == 0
    assert "shape" in out
    data = json.loads(run("predict", "tiny", clip, "--weights", "none", "--json", "--top", "1")[1])
    (best,) = data["prediction"]["shape"]["top"]
    batch = zoo.preprocess(clip, zoo.info("tiny"))
    with torch.no_grad():
        expected = zoo.load("tiny", weights=None)(batch).softmax(-1).max()
    assert best["probability"] == pytest.approx(expected.item())


def test_predict_reads_the_clip_as_the_weights_file_says(run, tiny_zoo, clip, tmp_path):
    path = tmp_path / "two.safetensors"
    spec = {"frames": 2, "size": [8, 8], "channels": "L"}
    state = zoo.load("tiny", weights=None).state_dict()
    save_file(state, path, metadata={"zoo": json.dumps({"input": spec})})
    data = json.loads(run("predict", "tiny", clip, "--weights", path, "--json", "--top", "1")[1])
    model = zoo.load("tiny", weights=path)
    with torch.no_grad():
        expected = model(zoo.preprocess(clip, model)).softmax(-1).max()
    assert data["prediction"]["shape"]["top"][0]["probability"] == pytest.approx(expected.item())
    assert any("2 frames" in said for said in data["conversion"])


def test_predict_takes_weights_that_were_saved_with_other_numbers(run, tiny_zoo, clip, tmp_path):
    path = tmp_path / "mine.safetensors"
    model = zoo.load("tiny", weights=None, num_classes=7, in_channels=3, seed=5)
    save_file(model.state_dict(), path)
    numbers = ("--num-classes", "7", "--in-channels", "3")
    data = json.loads(run("predict", "tiny", clip, "--weights", path, *numbers, "--json", "--top", "7")[1])
    with torch.no_grad():
        expected = model(zoo.preprocess(clip, model)).softmax(-1)[0].sort(descending=True).values
    given = [one["probability"] for one in data["prediction"]["shape"]["top"]]
    assert given == pytest.approx(expected.tolist())
    status, _, err = run("predict", "tiny", clip, "--weights", path, "--num-classes", "five")
    assert (status, "--num-classes five" in err) == (2, True)


def test_predict_keeps_a_clip_that_every_command_reads(run, installed, tiny, clip, tmp_path, monkeypatch):
    code = tiny.replace("nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, classes)", "nn.Conv3d(2, 1, 1)")
    installed.add("little", code.replace("""OutputSpec(name="shape", labels=("round", "square", "flat"))""", "FILM"))
    installed.use(monkeypatch)
    monkeypatch.setattr("builtins.FILM", zoo.OutputSpec(name="film", kind="clip"), raising=False)
    out = tmp_path / "film.safetensors"
    status, text, err = run("predict", "tiny", clip, "--weights", "none", "--out", out)
    assert status == 0
    assert f"wrote {out}" in err
    with torch.no_grad():
        expected = zoo.load("tiny", weights=None)(zoo.preprocess(clip, zoo.info("tiny")))
    error = (expected - zoo.preprocess(clip, zoo.info("tiny"))).square().mean()
    assert f"a clip of 1 x 4 x 8 x 8, {expected.min():.3g} to {expected.max():.3g}" in text
    assert f"mean squared error from the input {error:.3g}" in text
    assert torch.equal(load_file(out)["output/film"], expected)
    shown = (expected[0, 0, ..., None].clamp(0, 1) * 255).round().to(torch.uint8)
    assert torch.equal(zoo.read_clip(out), shown.expand(-1, -1, -1, 3))
    assert run("predict", "tiny", out, "--weights", "none")[0] == 0


def test_predict_keeps_no_clip_of_a_model_that_gives_none(run, tiny_zoo, clip, tmp_path):
    out = tmp_path / "film.safetensors"
    status, _, err = run("predict", "tiny", clip, "--weights", "none", "--out", out)
    assert (status, out.exists()) == (2, False)
    assert "gives no clip that --out could keep" in err
    status, _, err = run("predict", "tiny", clip, "--weights", "none", "--out", tmp_path / "film.mp4")
    assert status == 2
    assert "film.safetensors" in err


def test_predict_tells_that_there_is_no_clip_before_how_one_is_kept(run, tiny_zoo, tmp_path):
    status, _, err = run("predict", "tiny", tmp_path / "absent.mp4", "--weights", "none", "--out", tmp_path / "film")
    assert status == 2
    assert "unknown clip" in err
    assert "safetensors" not in err


def test_load_prints_the_load_report(run, tiny_zoo):
    data = json.loads(run("load", "tiny", "--weights", "none", "--json")[1])
    assert (data["name"], data["tag"], data["parameters"], data["initialised"]) == ("tiny", None, 69, 9)


def test_load_names_what_was_left_and_what_was_initialised(run, tiny_zoo, tmp_path):
    path = tmp_path / "flat.safetensors"
    save_file({"0.weight": torch.ones(2, 1, 3, 3), "aux.weight": torch.ones(1), "more.aux.weight": torch.ones(1)}, path)
    arguments = ("load", "tiny", "--weights", path, "--adapt", "inflate")
    lines = run(*arguments)[1].splitlines()
    assert {"adapt        inflate", "taken        1", "adapted      1", "left         2", "initialised  8"} <= set(
        lines
    )
    left, initialised = lines.index("left in the file:"), lines.index("initialised:")
    assert lines[left + 1 : initialised - 1] == ["  weight of aux, more.aux"]
    assert lines[initialised + 1 :] == [
        "  bias of 0",
        "  weight, bias, running_mean, running_var, num_batches_tracked of 1",
        "  weight, bias of 5",
    ]
    data = json.loads(run(*arguments, "--json")[1])
    assert data["left_names"] == ["aux.weight", "more.aux.weight"]
    assert len(data["initialised_names"]) == data["initialised"] == 8


def test_verify_ends_with_1_where_a_check_fails(run, installed, tiny, monkeypatch, tmp_path, tiny_zoo):
    path = tmp_path / "w.safetensors"
    save_file(zoo.load("tiny", weights=None).state_dict(), path)
    for digest, status in (("0" * 64, 1), (hashlib.sha256(path.read_bytes()).hexdigest(), 0)):
        weights = f"WeightsEntry(tag='a', source={str(path)!r}, bytes={path.stat().st_size}, sha256={digest!r})"
        installed.add("full", tiny.replace("entry()", f"entry('sure', weights=({weights},))"))
        installed.use(monkeypatch)
        code, out, _ = run("verify", "sure")
        assert code == status
        assert ("FAILED" in out) == (status == 1)


EVALUATED = """
    from zoo import Recipe

    def measure(network, device, clips=None):
        from zoo.errors import UsageError
        if clips and clips > 1200:
            raise UsageError("1 to 1,200")
        rows = [{"shape": "round", "clips": 1, "accuracy": 0.5, "error": 0.00024414},
                {"shape": "flat", "clips": 1100, "accuracy": None, "error": 26.8249}]
        metric = {"dataset": "shapes", "split": "test", "name": "accuracy", "value": float("nan") if clips else 0.25}
        return {"metrics": [metric], "clips_measured": clips or 1200, "breakdown": {"colour": [], "shape": rows}}

    @hookimpl
    def zoo_recipes():
        return [Recipe(name="tiny.shapes", build="b:b", export="e:e", example="x:x", stages=(),
                       evaluate=f"{__name__}:measure")]
"""


@pytest.fixture
def evaluated(installed, tiny, monkeypatch):
    installed.add("little", dedent(tiny) + dedent(EVALUATED))
    installed.use(monkeypatch)


def test_evaluate_prints_the_metrics_and_every_table(run, evaluated):
    status, out, _ = run("evaluate", "tiny", "--weights", "none")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "tiny, measured on 1,200 clips as recipe tiny.shapes says"
    assert lines[4].split() == ["shapes", "test", "accuracy", "0.2500"]
    assert lines[6] == "by shape"
    assert [line.split() for line in lines[10:]] == [
        ["round", "1", "0.5000", "0.0002441"],
        ["flat", "1,100", "-", "26.82"],
    ]


def test_an_evaluation_is_json_and_is_stored_where_asked(run, evaluated, tmp_path):
    path = tmp_path / "tiny.json"
    status, out, err = run("evaluate", "tiny", "--weights", "none", "--clips", "1", "--out", path, "--json")
    assert status == 0
    data = json.loads(out)
    assert (data["model"], data["measured_as"], data["clips_measured"]) == ("tiny", "tiny.shapes", 1)
    assert data["metrics"][0]["value"] is None
    assert stored(str(path)) == data == json.loads(path.read_text())
    assert err == f"wrote {path}\n"
    assert run("evaluate", "tiny", "--weights", "none", "--clips", "1")[1].startswith("tiny, measured on 1 clip as")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--clips", "0"), 2, "--clips"),
        (("--clips", "-3"), 2, "--clips"),
        (("--clips", "1201"), 2, "1 to 1,200"),
        (("--clips", "abc"), 2, "'abc' is not a valid whole number"),
        (("--weights", "other.safetensors"), 1, "holds weights of another architecture than tiny"),
        (("--recipe", "tiny.shaps"), 2, "did you mean 'tiny.shapes'"),
        (("--out", "missing/folder/x.json"), 1, "the folder missing/folder does not exist; make it first"),
        (("--out", "folder.json"), 1, "cannot write folder.json: Is a directory"),
        (("--out", "tiny.safetensors"), 2, "give a name that ends in .json"),
    ],
)
def test_an_evaluation_that_cannot_be_is_one_message(run, evaluated, monkeypatch, tmp_path, arguments, status, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.json").mkdir()
    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    code, out, err = run("evaluate", "tiny", "--weights", "none", *arguments)
    assert (code, out) == (status, "")
    assert said in err
    assert [path.name for path in tmp_path.glob("*.json")] == ["folder.json"]


@pytest.mark.parametrize("record", ['{"recipe": {"name": "tiny.shapes"}}', '{"log": []}'])
def test_an_evaluation_never_replaces_the_record_of_a_training_run(run, evaluated, tmp_path, record):
    path = tmp_path / "x.json"
    path.write_text(record)
    status, out, err = run("evaluate", "tiny", "--weights", "none", "--out", path)
    assert (status, out) == (2, "")
    assert err == (
        f"error: {path} is the record of a training run, with its recipe and log; give the evaluation another name\n"
    )
    assert path.read_text() == record
    for other in ('{"metrics": [], "breakdown": {}}', "[", "[]"):
        path.write_text(other)
        assert run("evaluate", "tiny", "--weights", "none", "--out", path)[0] == 0
        assert stored(str(path))["measured_as"] == "tiny.shapes"


def test_an_evaluation_is_shown_also_where_it_cannot_be_stored(run, evaluated, full_disk, tmp_path):
    status, out, err = run("evaluate", "tiny", "--weights", "none", "--out", tmp_path / "x.json")
    assert status == 1
    assert "0.2500" in out
    assert "cannot write" in err
    assert list(tmp_path.glob("*x.json*")) == []


def test_models_of_one_name_are_listed_with_their_distributions(run, installed, tiny, monkeypatch):
    installed.add("one", tiny)
    installed.add("two", tiny)
    installed.use(monkeypatch)
    out = run("list")[1]
    assert "dist-one:tiny" in out
    assert "dist-two:tiny" in out


def test_plugins_names_models_that_others_give_too(run, installed, tiny, monkeypatch):
    installed.add("one", tiny)
    installed.add("two", tiny)
    installed.use(monkeypatch)
    assert [row["shared_names"] for row in json.loads(run("plugins", "--json")[1])] == [["tiny"], ["tiny"]]
    assert "others give models of these names too: tiny" in run("plugins")[1]


@pytest.mark.parametrize("command", ["list", "plugins"])
def test_without_plugins_it_says_how_to_add_models(run, installed, monkeypatch, command):
    installed.use(monkeypatch)
    status, out, _ = run(command)
    assert status == 0
    assert "pip install 'motion-zoo[all]'" in out
    assert "zoo new-plugin" in out
    assert "pip install 'motion-zoo[all]'" in run("info", "conv3d")[2]


def test_plugins_shows_state_and_reason(run, installed, tiny, monkeypatch):
    installed.add("good", tiny)
    installed.add("bad", "raise RuntimeError('on purpose')")
    with pytest.warns(PluginWarning):
        installed.use(monkeypatch)
    rows = {row["name"]: row for row in json.loads(run("plugins", "--json")[1])}
    assert rows["good"]["models"] == ["tiny"]
    assert rows["bad"]["status"] == "failed"
    assert "on purpose" in rows["bad"]["reason"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("info", "tinny"), 2, "did you mean 'tiny'"),
        (("load", "tiny"), 2, "no trained weights"),
        (("load", "tiny.x"), 2, "unknown weights tag 'x'"),
        (("load", "tiny", "--weights", "none", "--device", "cuda:77"), 2, "cuda"),
        (("load", "tiny", "--weights", "none", "--dtype", "int8"), 2, "floating-point"),
        (("load", "tiny", "--weights", "none", "--adapt", "inflate"), 2, "2D weights from a file"),
        (("load", "tiny", "--weights", "none", "--adapt", "inflat"), 2, "is not 'inflate'"),
        (("predict", "tiny", "missing.mp4", "--weights", "none"), 2, "missing.mp4"),
        (("predict", "tiny", "sample:none", "--weights", "none"), 2, "sample"),
        (("verify", "tiny"), 2, "no trained weights"),
        (("verify", "nothing*"), 2, "no weights match"),
        (("train", "tiny.x"), 2, "unknown recipe"),
        (("lsit",), 2, "Did you mean"),
        (("--disable-plugin", "spatiotemporal_mnits", "list"), 2, "did you mean 'spatiotemporal_mnist'"),
        (("load", "tiny", "--weights", "none", "--seed", "-1"), 2, "--seed"),
        (("load", "tiny", "--weights", "none", "--seed", "9" * 30), 2, "--seed"),
        (("list", "--jsn"), 2, "Did you mean"),
        (("predict", "tiny"), 2, "Missing argument 'CLIP'. An example: zoo predict conv3d sample:blinking_mnist/3"),
        (("download",), 2, "An example: zoo download r3d_18\n"),
        (("load", "me/mine"), 2, "a repository of the Hub is hub:ORG/REPO@COMMIT"),
    ],
)
def test_a_users_mistake_gets_one_message(run, tiny_zoo, arguments, status, said):
    code, out, err = run(*arguments)
    assert code == status
    assert out == ""
    assert said in err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "/some/file"), 1, "No space left on device (/some/file)"),
        (torch.OutOfMemoryError("no room"), 1, "no room"),
        (MemoryError("none left"), 1, "none left"),
        (RuntimeError("could not create a primitive"), 1, "memory"),
    ],
)
def test_what_happens_outside_ends_in_a_message(run, tiny_zoo, monkeypatch, error, status, said):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(meta, "build", fail)
    code, _, err = run("load", "tiny", "--weights", "none")
    assert code == status
    assert said in err


def test_a_broken_plugin_is_told_once_and_every_command_goes_on(installed, tiny, tmp_path):
    installed.add("good", tiny)
    installed.add("bad", "raise RuntimeError('on purpose')")
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "list"]
    environment = {**os.environ, "PYTHONPATH": str(installed.folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "tiny" in done.stdout
    assert done.stderr.count("on purpose") == 1
    assert done.stderr.startswith("warning: plugin 'bad' of dist-bad 1.0 failed at import of bad")
    environment["ZOO_DISABLE_PLUGINS"] = "bad"
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr == ""


def test_what_a_plugin_prints_spoils_no_result(run, installed, tiny, monkeypatch):
    noisy = dedent(tiny).replace("return [entry()]", "print('noise'); return [entry()]")
    installed.add("noisy", "print('noise')\n" + noisy)
    installed.use(monkeypatch)
    status, out, err = run("list", "--json")
    assert (status, [row["name"] for row in json.loads(out)]) == (0, ["tiny"])
    assert err == "noise\nnoise\n"  # imported, and asked for its models
    assert "noise" not in out


LOUD = """
    import os, sys, zoo
    from zoo import cli
    from zoo.registry import plugins

    class Loud(plugins.Registry):
        def collect(self, *given, **more):
            os.write(1, b"compiled\\n")
            print("printed")
            return super().collect(*given, **more)

    plugins.Registry = Loud
    cli.main()
"""


@pytest.mark.parametrize("arguments", [["list", "--json"], ["list", "--help"], ["--version"]], ids=" ".join)
def test_compiled_code_that_prints_spoils_no_result(arguments):
    code = [sys.executable, "-c", dedent(LOUD), *arguments]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert "compiled" not in done.stdout
    if "--json" in arguments:
        assert len(json.loads(done.stdout)) == len(catalog.list_models())
        assert done.stderr == "compiled\nprinted\n"
    else:
        assert "zoo" in done.stdout
        assert done.stderr == ""


def test_a_reader_who_leaves_early_is_no_failure(tmp_path):
    command = [sys.executable, "-m", "zoo", "card", "conv3d"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait(100)) == ("", 0)


def test_a_former_name_is_told_on_stderr(run, installed, tiny, monkeypatch):
    installed.add("family", tiny.replace("[entry()]", "[entry(formerly=('small',))]"))
    installed.use(monkeypatch)
    catalog._warn_of_former.cache_clear()
    status, out, err = run("info", "small", "--json")
    assert (status, json.loads(out)["name"]) == (0, "tiny")
    assert err == "warning: model 'small' is now called 'tiny'; the old name will go\n"


def test_every_command_has_help_with_an_example(run):
    for name in cli.commands.commands:
        status, out, _ = run(name, "--help")
        assert status == 0
        assert f"zoo {name}" in out.split("Example")[1]


def test_json_holds_no_number_that_json_has_not():
    assert plain({"a": float("nan"), "b": [1, float("inf"), (2.5,)]}) == {"a": None, "b": [1, None, [2.5]]}


def test_what_a_stranger_wrote_steers_no_terminal(run, installed, tiny, monkeypatch):
    evil = r"\x1b]0;title\x07\x1b[2J\x9b31m\u202egpj.exe"
    installed.add("odd", tiny.replace("a tiny one", evil))
    installed.use(monkeypatch)
    for arguments in (["list"], ["info", "tiny"], ["info", "tiny", "--json"]):
        _, out, _ = run(*arguments)
        assert not set("\x1b\x07\x9b\u202e") & set(out)
        assert r"\u001b[2J" in out
    assert json.loads(out)["summary"] == evil.encode().decode("unicode_escape")


def test_messages_steer_no_terminal(capsys):
    output.note("odd \x1b[2J\nname")
    assert capsys.readouterr().err == "odd \\u001b[2J\\nname\n"


def test_tables_align_and_group_digits():
    lines = output.table(["name", "count"], [["a", 1234567], ["long", 5]]).splitlines()
    assert lines == ["name      count", "----  ---------", "a     1,234,567", "long          5"]


def test_load_takes_other_numbers_and_says_what_became_of_the_weights(run, tiny_zoo, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file(zoo.load("tiny", weights=None).state_dict(), path)
    status, out, _ = run("load", "tiny", "--weights", path, "--num-classes", "5", "--in-channels", 3)
    assert status == 0
    lines = out.splitlines()
    assert {"num_classes  shape 5", "in_channels  3", "replaced     5, 0", "taken        7", "adapted      1"} <= set(
        lines
    )
    assert lines[lines.index("adapted:") + 1] == "  weight of 0"
    assert lines[lines.index("initialised:") + 1] == "  weight, bias of 5"
    data = json.loads(run("load", "tiny", "--weights", "none", "--num-classes", "shape=4", "--json")[1])
    assert data["num_classes"] == {"shape": 4}
    for wrong in ("five", "=5", "shape=", "shape=x"):
        status, _, err = run("load", "tiny", "--weights", "none", "--num-classes", wrong)
        assert status == 2
        assert f"--num-classes {wrong}: expected a whole number, or HEAD=N" in err


def test_info_counts_operations_when_asked(run, tiny_zoo):
    convolution, linear = 2 * 2 * 4 * 8 * 8 * 27, 2 * 2 * 3
    assert "operations" not in run("info", "tiny")[1]
    assert f"operations  {convolution + linear:,} floating-point operations a clip" in run("info", "tiny", "--flops")[1]
    assert json.loads(run("info", "tiny", "--flops", "--json")[1])["flops"] == convolution + linear


def test_export_writes_a_program_and_says_where(run, tiny_zoo, tmp_path):
    path = tmp_path / "tiny.pt2"
    data = json.loads(run("export", "tiny", "--weights", "none", "--out", path, "--json")[1])
    assert (data["file"], data["bytes"], data["outputs"]) == (str(path), path.stat().st_size, ["shape"])
    assert run("export", "tiny", "--weights", "none", "--out", tmp_path / "tiny.onnx")[0] == 2


def test_download_checks_what_is_here_and_goes_on_where_something_fails(run, installed, tiny, monkeypatch, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(1)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    weights = f"WeightsEntry(tag='a', source={str(path)!r}, bytes={path.stat().st_size}, sha256={digest!r})"
    missing = f"WeightsEntry(tag='b', source='hub:org/x@{'a' * 40}:x.safetensors', bytes=1, sha256='{'0' * 64}')"
    installed.add("two", tiny.replace("entry()", f"entry('here', weights=({weights},)), "
                                      f"entry('there', weights=({missing},))"))  # fmt: skip
    installed.use(monkeypatch)
    status, out, err = run("download", "all", "--offline", "--json")
    assert status == 1
    here, there = json.loads(out)
    assert (here["model"], here["file"], here["sha256"], here["error"]) == ("here.a", str(path), digest, None)
    assert "may not be fetched (offline)" in there["error"]
    assert err.count("error: there.b: hub:org/x@") == 1
    assert run("download", "here")[0] == 0
    assert run("download", "there", "--offline")[0] == 1
    assert run("download", "x*")[0] == 2
    assert "not on this machine" in run("info", "there")[1]


def test_an_empty_token_is_told(run):
    status, _, err = run("load", "conv3d", "--token", "")
    assert status == 2
    assert "--token is empty" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("arguments", ["--help", "list --help", "info conv3d --json", "list", "--version"])
def test_a_full_disk_for_the_output_is_one_line_and_status_1(arguments):
    code = "import sys; sys.argv[0] = 'zoo'; from zoo.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments.split()], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("error: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_for_messages_changes_no_status():
    code = "import sys; sys.argv[0] = 'zoo'; from zoo.cli import main; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code, "info", "nothing"], stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 2

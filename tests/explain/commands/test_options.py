"""`explain attribute` takes the options of methods: those built in as flags, a plugin's as `--option NAME=VALUE`."""

import json
import sys
import types
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from explain.attribution.job import Raw
from explain.attribution.methods import Method
from explain.attribution.options import FORMER, built_in, option
from explain.cli import commands
from zoo.errors import UnknownNameError, UsageError
from zoo.registry import plugins


@dataclass(frozen=True, kw_only=True)
class Mine:
    """Options of a plugin's method."""

    power: float = option(1.0, "Exponent.", minimum=0)


@pytest.fixture
def run(monkeypatch):
    """Run `explain attribute` with a plugin's method installed."""
    module = types.ModuleType("options_of_a_plugin")
    module.Mine, module.run = Mine, lambda job: Raw(values=job.batch.abs() ** job.options.power)
    monkeypatch.setitem(sys.modules, "options_of_a_plugin", module)
    about = {"summary": "s", "source": "here", "reduction": "sum"}
    mine = Method(name="mine", run="options_of_a_plugin:run", options="options_of_a_plugin:Mine", **about)
    collect = plugins.collect
    monkeypatch.setattr(
        plugins, "collect", lambda hook, kind: [("p", mine)] if hook == "explain_methods" else collect(hook, kind)
    )
    given = ["attribute", "conv3d", "sample:blinking_mnist/3", "--weights", "none", "--device", "cpu", "--json"]
    return lambda *texts: CliRunner().invoke(commands, [*given, *texts])


def test_every_built_in_option_is_a_flag_and_former_names_are_hidden(run):
    parameters = {flag: one for one in commands.commands["attribute"].params for flag in one.opts}
    assert {f"--{name.replace('_', '-')}" for name in built_in()} <= parameters.keys()
    assert all(parameters[f"--{name}"].hidden for name in FORMER)
    assert not parameters["--n-steps"].hidden


def test_options_reach_the_method(run):
    done = run("--method", "occlusion", "--window", "4,14,14", "--stride", "4,14,14", "--batch-size", "3")
    assert done.exit_code == 0, done.output
    settings = json.loads(done.stdout)[0]["settings"]
    assert (settings["window"], settings["stride"]) == ([4, 14, 14], [4, 14, 14])
    done = run("--method", "mine", "--option", "power=2")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["settings"] == {"power": 2.0}


def test_a_former_name_is_taken_with_one_notice(run):
    done = run("--method", "integrated_gradients", "--steps", "2")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["settings"]["n_steps"] == 2
    assert done.stderr.count("--n-steps") == 1


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (("saliency", "--smooth", "saliency"), UnknownNameError),
        (("saliency", "--fill", "drop"), UnknownNameError),
        (("smooth_grad", "--smooth", "nonsense"), UnknownNameError),
        (("rise", "--n-samples", "-1"), UsageError),
        (("rise", "--baseline", "nan"), UnknownNameError),
        (("mine", "--option", "powr=2"), UnknownNameError),
        (("mine", "--option", "power=nan"), UsageError),
        (("mine", "--option", "power=-1"), UsageError),
        (("mine", "--option", "power"), UsageError),
        (("mine", "--option", "n_steps=3"), UnknownNameError),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_loaded(run, monkeypatch, texts, error):
    monkeypatch.setattr("zoo.load", lambda *_, **__: pytest.fail("loaded"))
    done = run("--method", *texts)
    assert type(done.exception) is error
    name = texts[2].partition("=")[0] if texts[1] == "--option" else texts[1].removeprefix("--").replace("-", "_")
    assert name in str(done.exception)


def test_a_text_of_another_type_is_wrong_usage(run):
    for flags in (("--window", "4,4"), ("--n-steps", "many")):
        done = run("--method", "occlusion", *flags)
        assert done.exit_code == 2
        assert flags[0] in done.stderr

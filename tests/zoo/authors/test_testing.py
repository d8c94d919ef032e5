"""Conformance: a plugin that keeps the contract passes every check, and each fault fails the check that is for it."""

from __future__ import annotations

import hashlib
import json
import unittest
from textwrap import dedent

import pytest
import torch
from safetensors.torch import save_file

import zoo
from zoo import cli
from zoo.authors import testing
from zoo.entries.recipes import Recipe
from zoo.errors import ConformanceError, PluginWarning, UnknownNameError
from zoo.publishing import cards

FAULTS = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self, fault=""):
            super().__init__()
            self.fault = fault
            self.linear = nn.Linear(256, 3)
            if fault == "meta":
                self.linear.weight.sum().item()
            if fault == "attribute":
                self.scale = float(1) + self.linear.weight.mean().detach() * 0
                self.register_buffer("kept", self.linear.weight.detach()[:1] * 1, persistent=False)
            if fault == "shared":
                self.other = nn.Linear(256, 3)
                self.other.weight = self.linear.weight
            if fault == "hidden":
                self.hidden = torch.rand(3)

        def forward(self, x):
            y = self.linear(x.flatten(1))
            if self.fault == "random":
                y = y + torch.rand_like(y)
            if self.fault == "detached":
                y = y.detach() + 0 * self.linear.bias
            if self.fault == "root":
                y = y + (x.flatten(1)[:, :3] * 0).sqrt()
            if self.fault == "infinite":
                y = y / 0
            if self.fault == "attribute":
                y = y + self.kept.sum()
            if self.fault == "hidden":
                y = y + self.hidden
            if self.fault.startswith("clip "):
                y = y.sum() + torch.zeros([int(size) for size in self.fault[5:].split(",")])
            return {"shape": y, "more": y} if self.fault == "heads" else y

    def build_model(fault=""):
        return Model(fault)

    def evaluate(network, device, clips=None, kind=""):
        return {}
"""


@pytest.fixture
def plugin(installed, tiny, monkeypatch, tmp_path):
    """Install a plugin whose one entry has these fields, with a card; gives outcomes by check.

    A fresh process is started only where that is asked for.
    """

    def install(code="", carded=True, fresh=False, **fields):
        fields = {"card": repr(str(tmp_path / "tiny.md")), **fields}
        (installed.folder / "faults.py").write_text(dedent(FAULTS))
        given = ", ".join(f"{name}={value}" for name, value in fields.items())
        installed.add("mine", dedent(tiny).replace("[entry()]", f"[entry({given})]") + dedent(code))
        installed.use(monkeypatch)
        if carded and zoo.list_models():
            cards.write("tiny")
        cases = [case for case in testing.cases("mine") if fresh or case.check is not testing.imports_no_torch]
        return {outcome.check: outcome for outcome in testing.run(cases)}

    return install


def results(outcomes):
    return {check: outcome.result for check, outcome in outcomes.items()}


def failed(outcomes):
    return {check for check, outcome in outcomes.items() if outcome.result == "failed"}


def test_a_plugin_that_keeps_the_contract_passes_every_check(plugin):
    outcomes = plugin(fresh=True)
    assert len(outcomes) == len(testing.PLUGIN_CHECKS) + len(testing.MODEL_CHECKS)
    assert set(results(outcomes).values()) == {"passed"}, outcomes
    assert outcomes["parameters are as declared"].detail == "69; operations are not given"
    assert outcomes["outputs are as declared"].detail == "shape 1 x 3"


@pytest.mark.parametrize(
    ("fields", "check", "said"),
    [
        ({"parameters": 70}, "parameters are as declared", "it has 69 parameters; its entry says 70"),
        ({"builder": "'nowhere:build'"}, "builder resolves", "nowhere"),
        ({"arguments": "{'colour': 3}"}, "builder resolves", "colour"),
        ({"outputs": "(OutputSpec(argument='kinds'),)"}, "builder resolves", "kinds"),
        ({"flops": 5}, "parameters are as declared", "its entry says 5"),
        ({"summary": "' '"}, "entry is complete", "summary is one line"),
        ({"license": "''"}, "entry is complete", "license is one line"),
        ({"arguments": "{'meta': False}"}, "builds on meta", "meta=False"),
        ({"outputs": "(OutputSpec(labels=('a', 'b')),)"}, "outputs are as declared", "gives 1 x 2"),
        ({"outputs": "(OutputSpec(kind='value'),)"}, "outputs are as declared", "gives 1 x 1; give each number of"),
        ({"outputs": "(OutputSpec(kind='clip'),)"}, "outputs are as declared", "gives 1 x C x T x H x W"),
        (
            {"outputs": "(OutputSpec(name='a'), OutputSpec(name='b'))"},
            "outputs are as declared",
            "lacks the heads ['a', 'b']",
        ),
    ],
)
def test_a_wrong_entry_fails_its_check(plugin, fields, check, said):
    outcomes = plugin(**fields)
    assert outcomes[check].result == "failed"
    assert said in outcomes[check].detail


@pytest.mark.parametrize(
    ("fault", "checks", "said"),
    [
        ("", set(), ""),
        ("meta", {"builds on meta"}, "meta=False"),
        ("attribute", {"builds on meta"}, ""),
        ("random", {"evaluates deterministically"}, "the second time"),
        ("detached", {"gradients are finite"}, "no gradient reaches"),
        ("root", {"gradients are finite"}, "with respect to the batch is not finite"),
        ("infinite", {"outputs are as declared"}, "not finite"),
        ("shared", {"survives safetensors"}, "safetensors does not take its state"),
        ("hidden", {"survives safetensors"}, "read from safetensors"),
    ],
)
def test_a_faulty_model_fails_its_check(plugin, fault, checks, said):
    outcomes = plugin(builder="'faults:build_model'", arguments={"fault": fault}, parameters=256 * 3 + 3)
    assert checks <= failed(outcomes), outcomes
    assert not checks or any(said in outcomes[check].detail for check in checks)
    if not checks:
        assert not failed(outcomes), outcomes


@pytest.mark.parametrize(
    ("shape", "follows", "said"),
    [
        ("1, 2, 8, 8", False, ""),
        ("1, 5, 2, 3, 7", False, ""),
        ("1, 2, 8", False, "gives 1 x C x T x H x W, or 1 x C x H x W of one frame"),
        ("2, 1, 4, 8, 8", False, "gives 1 x C"),
        ("1, 1, 8, 8", True, ""),
        ("1, 1, 2, 8, 8", True, ""),
        (
            "1, 3, 2, 8, 8",
            True,
            "a head of clip that follows the input's frames gives 1 x 1 x T x 8 x 8, or 1 x 1 x 8 x 8",
        ),
        ("1, 1, 8, 7", True, "follows the input's frames gives 1 x 1 x T x 8 x 8"),
    ],
)
def test_an_output_clip_has_frames_or_is_one(plugin, shape, follows, said):
    outcomes = plugin(
        builder="'faults:build_model'",
        arguments={"fault": f"clip {shape}"},
        parameters=256 * 3 + 3,
        outputs=f"(OutputSpec(kind='clip', follows={follows}),)",
        input="InputSpec(channels='L', frames=4, size=(8, 8), sampling='consecutive')",
    )
    assert failed(outcomes) == ({"outputs are as declared"} if said else set()), outcomes
    assert said in outcomes["outputs are as declared"].detail


@pytest.mark.parametrize("kind", ["clip", "value"])
def test_what_follows_is_a_clip_behind_consecutive_frames(plugin, kind):
    sampling = "uniform" if kind == "clip" else "consecutive"
    outcomes = plugin(
        outputs=f"(OutputSpec(kind={kind!r}, follows=True),)",
        input=f"InputSpec(channels='L', frames=4, size=(8, 8), sampling={sampling!r})",
    )
    assert outcomes["entry is complete"].result == "failed"
    assert f"not {kind} and {sampling}" in outcomes["entry is complete"].detail


RECIPES = """
    @hookimpl
    def zoo_recipes():
        from zoo.entries.recipes import Recipe, Search, Span, Stage

        space = {"arguments.fault": Span(choices=("", "meta")), "all.batch_size": Span(low=1, high=4)}
        texts = {name: "faults:build_model" for name in ("build", "export", "example")}
        texts["evaluate"] = "faults:evaluate"
        stage = {"data": "faults:build_model", "loss": "faults:build_model", "optimizer": "Adam"}
        search = {"space": space, "metrics": ("accuracy",), "compared": "arguments.fault"}
        name, arguments = "tiny.a", {}
        CHANGE
        made = Stage(name="all", steps=1, batch_size=1, learning_rate=1.0, **stage)
        return [Recipe(name=name, arguments=arguments, stages=(made,), search=Search(**search), **texts)]
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", "1 recipe, 0 methods"),
        (
            "texts['example'] = 'faults:exmaple'",
            "'faults:exmaple' of plugin 'mine' (dist-mine 1.0) names no function",
        ),
        (
            "stage['loss'] = 'nowhere:loss'",
            "'nowhere:loss' of plugin 'mine' (dist-mine 1.0) names no function",
        ),
        ("stage['optimizer'] = 'Adma'", "unknown optimizer of stage 'all' 'Adma'; did you mean 'Adamax' or 'Adam'"),
        ("name = 'tny.a'", "unknown model 'tny'; did you mean 'tiny'"),
        ("arguments = {'colour': 3}", "recipe tiny.a: faults:build_model does not take {'colour': 3}"),
        ("texts['evaluate_arguments'] = {'kin': 3}", "recipe tiny.a: faults:evaluate does not take {'kin': 3}"),
        ("texts['evaluate'] = 'faults:build_model'", "recipe tiny.a: faults:build_model does not take {}"),
        ("texts['example_arguments'] = {'kind': 3}", "recipe tiny.a: faults:build_model does not take {'kind': 3}"),
        ("del texts['example']", "recipe tiny.a names no `example`, and no sample comes with tiny"),
        ("space['arguments.width'] = Span(low=1, high=2)", "does not take {'width': 1}"),
        ("space['all.rate'] = Span(low=1, high=2)", "unknown setting of stage 'all' 'rate'"),
        ("space['one.steps'] = Span(low=1, high=2)", "unknown place of a setting 'one.steps'"),
    ],
)
def test_recipes_are_looked_at_before_anything_is_trained(plugin, change, said):
    outcomes = plugin(RECIPES.replace("CHANGE", change))
    assert failed(outcomes) == ({"recipes and methods resolve"} if change else set())
    assert said in outcomes["recipes and methods resolve"].detail


def test_recipes_may_give_arguments_and_keep_what_was_trained(plugin):
    change = "texts |= {'export': '', 'evaluate_arguments': {'kind': 'zoom'}, 'example_arguments': {'fault': ''}}"
    assert failed(plugin(RECIPES.replace("CHANGE", change))) == set()


def test_methods_are_looked_at_too(plugin):
    method = "type('Method', (), {'run': 'faults:build', 'check': ''})()"
    outcomes = plugin(f"\n@hookimpl\ndef explain_methods():\n    return [{method}]\n")
    assert failed(outcomes) == {"recipes and methods resolve"}
    assert "'faults:build' names no function" in outcomes["recipes and methods resolve"].detail


def test_a_model_that_says_so_may_do_without_meta(plugin):
    outcomes = plugin(arguments={"meta": False}, meta=False)
    assert (outcomes["builds on meta"].result, failed(outcomes)) == ("skipped", set())
    assert zoo.load("tiny", weights=None) is not None


def test_a_plugin_that_imports_torch_fails_with_the_line_to_blame(plugin, installed):
    outcomes = plugin("\nimport torch\n", fresh=True)
    assert failed(outcomes) == {"imports no torch"}
    assert f"torch is imported at {installed.folder}/mine.py:" in outcomes["imports no torch"].detail


def test_hooks_that_import_torch_are_seen_too(plugin, installed):
    code = "\n@hookimpl\ndef zoo_recipes():\n    import torch\n    return []\n"
    assert failed(plugin(code, fresh=True)) == {"imports no torch"}


def test_a_plugin_that_does_not_load_is_one_failure(installed, monkeypatch):
    installed.add("bad", "raise RuntimeError('on purpose')")
    with pytest.warns(PluginWarning):
        installed.use(monkeypatch)
    outcomes = {outcome.check: outcome for outcome in testing.run(testing.cases("bad"))}
    assert failed(outcomes) == {"loads", "imports no torch"}
    assert "on purpose" in outcomes["loads"].detail


def test_a_model_without_card_and_one_with_an_old_card_fail(plugin):
    outcomes = plugin(carded=False)
    assert failed(outcomes) == {"card is true"}
    assert "tiny has no card" in outcomes["card is true"].detail


@pytest.mark.parametrize(
    ("shape", "labels", "said"),
    [((2, 4, 8, 8, 1), 2, ""), ((2, 4, 8, 8, 1), 3, "holds 2 clips, and there are 3"), ((2, 4, 8, 8), 2, "no uint8")],
)
def test_samples_are_looked_at(plugin, tmp_path, shape, labels, said):
    save_file({"clips": torch.zeros(shape, dtype=torch.uint8)}, tmp_path / "clips.safetensors")
    sample = (
        f"__import__('zoo').Sample(name='s', resource={str(tmp_path / 'clips.safetensors')!r}, "
        f"labels=tuple('abcd'[:{labels}]), license='MIT', source='made')"
    )
    outcomes = plugin(samples=f"({sample},)")
    assert failed(outcomes) == ({"entry is complete"} if said else set())
    assert said in outcomes["entry is complete"].detail


@pytest.fixture
def trained(plugin, tmp_path):
    """As `plugin`, with a weights file, golden tensors, record and recipe; `change` alters what lies on disk."""

    def install(change=lambda folder: None, metadata=None, **fields):
        plugin()
        model = zoo.load("tiny", weights=None)
        batch = torch.rand(1, 1, 4, 8, 8)
        save_file(model.state_dict(), tmp_path / "w.safetensors", metadata=metadata)
        save_file({"input": batch, "shape": model(batch).detach()}, tmp_path / "golden.safetensors")
        made = dict.fromkeys(("build", "export", "example"), "faults:build_model")
        recipe = {"name": "tiny.a", "stages": (), "evaluate": "faults:evaluate", **made}
        metric = {"dataset": "shapes", "split": "test", "name": "accuracy", "value": 0.5}
        record = {"metrics": [metric], "recipe": json.loads(json.dumps(Recipe(**recipe).to_dict()))}
        (tmp_path / "w.json").write_text(json.dumps(record))
        digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
        size = (tmp_path / "w.safetensors").stat().st_size
        change(tmp_path)
        given = {
            "tag": "a",
            "source": str(tmp_path / "w.safetensors"),
            "bytes": size,
            "sha256": digest,
            "golden": str(tmp_path / "golden.safetensors"),
            "record": str(tmp_path / "w.json"),
            "recipe": "tiny.a",
            **fields,
        }
        weights = f"WeightsEntry(**{given!r}, metrics=(__import__('zoo').Metric(**{metric!r}),))"
        code = f"""
        @hookimpl
        def zoo_recipes():
            from zoo import Recipe
            return [Recipe(**{recipe!r})]
        """
        return plugin(code, weights=f"({weights},)")

    return install


def test_a_weights_file_that_is_as_declared_passes(trained):
    outcomes = trained()
    assert {check.__name__.replace("_", " ") for check in testing.WEIGHTS_CHECKS} <= set(outcomes)
    assert set(results(outcomes).values()) == {"passed"}, outcomes


def another_golden(folder):
    save_file({"input": torch.rand(1, 1, 4, 8, 8), "shape": torch.ones(1, 3)}, folder / "golden.safetensors")


def headless_golden(folder):
    save_file({"input": torch.rand(1, 1, 4, 8, 8), "other": torch.ones(1, 3)}, folder / "golden.safetensors")


def other_metrics(folder):
    record = json.loads((folder / "w.json").read_text())
    record["metrics"][0]["value"] = 0.6
    (folder / "w.json").write_text(json.dumps(record))


def other_recipe(folder):
    record = json.loads((folder / "w.json").read_text())
    record["recipe"]["seed"] = 7
    (folder / "w.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("given", "check", "said"),
    [
        ({"bytes": 5}, "weights are as declared", "the entry says 5"),
        ({"sha256": "0" * 64}, "weights are as declared", "sha256"),
        ({"license": " "}, "weights are as declared", "SPDX"),
        ({"metadata": {"zoo": '{"arguments": {"classes": 3}}'}}, "weights are as declared", "header gives arguments"),
        ({"change": another_golden}, "golden outputs are recomputed", "largest difference"),
        ({"change": headless_golden}, "golden outputs are recomputed", "no such output"),
        ({"change": other_metrics}, "record and recipe agree", "0.6"),
        ({"change": other_recipe}, "record and recipe agree", "another recipe"),
        ({"recipe": "tiny.b"}, "record and recipe agree", "unknown recipe"),
    ],
)
def test_weights_that_are_not_as_declared_fail_their_check(trained, given, check, said):
    outcomes = trained(**given)
    assert check in failed(outcomes)
    assert said in outcomes[check].detail


def test_fast_leaves_out_what_takes_long_and_says_so(plugin, monkeypatch):
    plugin()
    monkeypatch.setattr(testing, "FAST_OPERATIONS", 0)
    outcomes = {outcome.check: outcome for outcome in testing.run(testing.cases("mine", fast=True))}
    skipped = {check for check, outcome in outcomes.items() if outcome.result == "skipped"}
    assert skipped == {
        "builds on meta",
        "evaluates deterministically",
        "gradients are finite",
        "survives safetensors",
    }
    assert "billion operations" in outcomes["gradients are finite"].detail
    assert outcomes["outputs are as declared"].detail == "shape 1 x 3"
    assert not failed(outcomes)


def test_in_pytest_a_case_raises_or_skips(plugin):
    plugin(parameters=70, arguments={"meta": False}, meta=False)
    cases = {str(case): case for case in testing.cases("mine")}
    with pytest.raises(ConformanceError, match="its entry says 70"):
        cases["tiny-parameters_are_as_declared"].run()
    with pytest.raises(unittest.SkipTest, match="meta=False"):
        cases["tiny-builds_on_meta"].run()


def test_checks_leave_the_random_state_as_it_was(plugin):
    before = torch.random.get_rng_state()
    plugin(builder="'faults:build_model'", arguments={"fault": "random"})
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_plugin_that_is_not_installed_is_named(plugin):
    plugin()
    with pytest.raises(UnknownNameError, match="did you mean 'mine'"):
        testing.cases("mien")
    with pytest.raises(UnknownNameError, match="it is a model: `zoo check mine --models tiny`"):
        testing.cases("tiny")
    with pytest.raises(UnknownNameError, match=r"no model of mine matches 'x\*'"):
        testing.cases("mine", models="x*")


@pytest.mark.parametrize(("fields", "status"), [({}, 0), ({"parameters": 70}, 1)])
def test_the_command_prints_a_table_and_ends_with_1_where_a_check_fails(plugin, capsys, monkeypatch, fields, status):
    plugin(**fields)
    monkeypatch.setattr("sys.argv", ["zoo", "check", "mine", "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == status
    data = json.loads(capsys.readouterr().out)
    assert [row["result"] for row in data].count("failed") == status
    assert {"subject", "check", "result", "detail", "seconds"} == set(data[0])
    monkeypatch.setattr("sys.argv", ["zoo", "check", "mine"])
    with pytest.raises(SystemExit):
        cli.main()
    captured = capsys.readouterr()
    assert ("FAILED" in captured.out) == bool(status)
    assert captured.err.endswith(f"passed, {status} failed, 0 skipped\n")

"""The page for authors of plugins says what the code says."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import zoo
from explain.attribution import Job, Raw
from zoo.authors import testing
from zoo.entries import recipes
from zoo.registry import hookspecs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
HOOKS = {
    name: function
    for name, function in vars(hookspecs).items()
    if inspect.isfunction(function) and function.__module__ == hookspecs.__name__
}


def test_every_hook_is_there_with_its_exact_arguments_and_nothing_else():
    written = dict(re.findall(r"^### `(\w+)\((.*?)\) -> list", PAGE, flags=re.MULTILINE))
    assert written == {name: ", ".join(inspect.signature(hook).parameters) for name, hook in HOOKS.items()}
    assert {"zoo_models", "explain_sections"} <= set(written)


def test_what_hooks_return_is_named_as_the_specifications_say():
    written = dict(re.findall(r"^### `(\w+)\(.*?\) -> list\[(\w+)\]`", PAGE, flags=re.MULTILINE))
    for name, hook in HOOKS.items():
        said = inspect.signature(hook).return_annotation
        assert said in (f"list[{written[name]}]", "list[Any]")
        assert "Any" not in said or re.search(rf"explain\.(authoring\.)?{written[name]}\b", inspect.getdoc(hook))


def test_every_check_is_there():
    written = re.findall(r"^\| (\w+) \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    groups = {"plugin": testing.PLUGIN_CHECKS, "model": testing.MODEL_CHECKS, "weights": testing.WEIGHTS_CHECKS}
    assert written == [(group, check.__name__) for group, checks in groups.items() for check in checks]


@pytest.mark.parametrize("kind", ["ModelEntry", "WeightsEntry", "Sample", "InputSpec", "OutputSpec", "Recipe"])
def test_fields_of_entries_exist(kind):
    tree = [
        node for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) for node in ast.walk(ast.parse(code))
    ]
    inline = re.findall(rf"`(zoo\.{kind}\(.*?\))`", PAGE, flags=re.DOTALL)
    tree += [node for code in inline for node in ast.walk(ast.parse(code))]
    calls = [node for node in tree if isinstance(node, ast.Call) and ast.unparse(node.func) == f"zoo.{kind}"]
    assert calls
    fields = set(inspect.signature(getattr(zoo, kind)).parameters)
    for call in calls:
        assert {keyword.arg for keyword in call.keywords} <= fields


def test_the_attribution_method_runs():
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "def run(job)" in code]
    scope = {"torch": torch, "Raw": Raw}
    exec(code, scope)
    batch = torch.rand(2, 1, 3, 4, 4)
    given = dict.fromkeys(inspect.signature(Job).parameters)
    job = Job(**{**given, "batch": batch, "samples": torch.arange(2), "score": lambda x, _: (x**2).flatten(1).sum(1)})
    torch.testing.assert_close(scope["run"](job).values, 2 * batch**2)


def test_the_section_is_built(tmp_path, monkeypatch):
    (code,) = [
        code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "def build(context)" in code
    ]
    (template,) = re.findall(r"```jinja\n(.*?)```", PAGE, flags=re.DOTALL)
    folder = tmp_path / "zoo_my_models" / "templates"
    folder.mkdir(parents=True)
    (folder / "next.html").write_text(template)
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    scope = {}
    exec(code, scope)
    spec = zoo.InputSpec(frames=4, size=(8, 8), channels="L")
    output = torch.stack((torch.full((8, 8), 0.5), torch.ones(8, 8)))[None, None]
    context = SimpleNamespace(
        outputs={"output": output}, batch=torch.zeros(1, 1, 4, 8, 8), entry=SimpleNamespace(input=spec)
    )
    content = scope["build"](context)
    assert content.data == {"change": [0.5, 1.0]}
    assert [sprite.frames for sprite in content.sprites] == [2]
    assert content.html.count("<td>") == 4
    assert "sprite-next" in content.html


def test_the_recipe_is_one_and_its_functions_are_called_as_written():
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "def zoo_recipes" in code]
    scope = {"zoo": zoo}
    exec(code, scope)
    (recipe,) = scope["zoo_recipes"]()
    assert recipe.steps == 300
    source = re.sub(r"\n +#: ?", " ", inspect.getsource(recipes))
    for call in re.findall(r"# (\w+\(.*?\)) ->", code):
        assert call.removesuffix(")") in source, call


def test_fields_of_the_table_of_inputs_exist_with_their_values():
    fields = inspect.signature(zoo.InputSpec).parameters
    for row in re.findall(r"^  \| (`.*?) \| (.*) \|$", PAGE, flags=re.MULTILINE):
        (name, *others), values = re.findall(r"`(\w+)`", row[0]), re.findall(r"`\"(\w+)\"", row[1])
        assert {name, *others} <= set(fields)
        assert not values or values[0] == fields[name].default
        for value in values:
            extra = {"other_channels": 2} if value == "other" else {}
            zoo.InputSpec(frames=1, size=(4, 4), **{name: value}, **extra)


def test_the_interface_is_the_one_of_the_code():
    assert f"`zoo_interface = {hookspecs.INTERFACES[-1]}`" in PAGE


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "plugins" / target).exists(), target

"""References by text ("package.module:name") exist, and point down the layers that `lint-imports` holds for imports."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = re.compile(r"(explain|zoo)(\.[a-z_]\w*)+(:\w+)?")
#: Tables whose purpose is to point up: results name what draws them, packages and former paths what they hand out.
UP = {"explain.results", "zoo.moved"}
#: Texts of that form that are no modules: the entry-point group, loggers and metadata keys.
NO_MODULES = {"zoo.plugins"}


@functools.cache
def layers():
    """Of each module or folder directly in a package, how high it is."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    heights = {}
    for contract in contracts:
        if contract["type"] == "layers" and "containers" in contract:
            (package,) = contract["containers"]
            for height, row in enumerate(reversed(contract["layers"])):
                heights |= {f"{package}.{name.strip()}": height for name in re.split(r"[|:]", row)}
    return heights


def references():
    """Every text in a module that has the form of a reference."""
    for path in sorted([*ROOT.glob("explain/**/*.py"), *ROOT.glob("zoo/**/*.py")]):
        if "templates" in path.parts:
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and REFERENCE.fullmatch(text) and text not in NO_MODULES:
                yield module, text


FOUND = sorted(set(references()))


def top(name):
    return ".".join(name.split(".")[:2])


def test_there_are_references():
    assert len(FOUND) > 100


@pytest.mark.parametrize(("module", "text"), [one for one in FOUND if one[0] != "zoo.moved"])
def test_a_reference_exists(module, text):
    name, _, attribute = text.partition(":")
    assert not attribute or hasattr(importlib.import_module(name), attribute)
    importlib.import_module(name)


@pytest.mark.parametrize(("module", "text"), [one for one in FOUND if one[0] not in UP and "." in one[0]])
def test_a_reference_points_down(module, text):
    heights = layers()
    here, there = top(module), top(text.partition(":")[0])
    if here in heights and there in heights and here.split(".")[0] == there.split(".")[0]:
        assert heights[there] <= heights[here]
    assert not (here.startswith("zoo") and there.startswith("explain") and here not in {"zoo.authors", "zoo.registry"})


def test_every_module_has_its_layer():
    heights = layers()
    for package in ("explain", "zoo"):
        inside = {
            path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
        }
        free = {"__init__", "__main__", "moved", "testing"}
        assert {name for name in inside - free if f"{package}.{name}" not in heights} == set()


def test_few_modules_lie_flat_in_zoo():
    assert len(list((ROOT / "zoo").glob("*.py"))) <= 12

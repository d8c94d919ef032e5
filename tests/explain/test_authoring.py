"""The door for plugins: complete, without torch, and the only way in for ours."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from explain import authoring

PLUGINS = Path(__file__).parents[2] / "plugins"


@pytest.mark.parametrize("name", authoring.__all__)
def test_every_name_is_handed_out(name):
    assert getattr(authoring, name) is not None


def test_importing_it_imports_no_torch():
    code = "import sys; from explain import authoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_our_plugins_use_nothing_else_of_explain():
    for path in PLUGINS.glob("*/zoo_*/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "explain":
                assert node.module in {"explain", "explain.authoring"}, path
            if isinstance(node, ast.Import):
                assert all(one.name.partition(".")[0] != "explain" or one.name == "explain" for one in node.names), path


def test_the_readme_names_no_inner_module():
    text = (PLUGINS / "README.md").read_text()
    assert set(re.findall(r"from (explain[\w.]*) import", text)) <= {"explain", "explain.authoring"}

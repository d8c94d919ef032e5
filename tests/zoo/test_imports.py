"""What must not cost an import of torch, seen in fresh processes."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imports_torch(code):
    tail = "\nimport sys; print({'torch', 'captum', 'numpy'} & set(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return not done.stderr.strip().endswith("set()")


@pytest.mark.parametrize(
    "code",
    [
        "import zoo",
        "import explain",
        "import zoo; zoo.list_models(); zoo.list_models(pretrained=True); zoo.info('conv3d')",
        "from zoo import Recipe, ModelEntry, hookimpl",
        "from explain import Method, Section",
        "from zoo.training.evaluation import stored; stored('conv3d')",
    ],
)
def test_importing_and_listing_do_not_import_torch(code):
    assert not imports_torch(code)


@pytest.mark.parametrize(
    "command",
    ["zoo list --json", "zoo info conv3d", "zoo plugins", "explain --help", "explain report --help", "explain methods"],
)
def test_light_commands_do_not_import_torch(command):
    name, *arguments = command.split()
    assert not imports_torch(f"from {name}.cli import commands; commands({arguments}, standalone_mode=False)")


def test_the_check_itself_sees_torch():
    assert imports_torch("import zoo; zoo.load")

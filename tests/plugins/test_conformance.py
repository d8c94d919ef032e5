"""Our own plugins keep what every plugin must keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.authors import testing
from zoo.registry.plugins import registry

OWN = [plugin.key for plugin in registry().plugins if plugin.distribution.startswith("motion-zoo-")]


@pytest.mark.parametrize("case", [case for plugin in OWN for case in testing.cases(plugin, fast=True)], ids=str)
def test_conforms(case):
    case.run()


def test_all_our_plugins_are_checked():
    projects = Path(__file__).parents[2].glob("plugins/*/pyproject.toml")
    folders = {path.parent.name for path in projects if '"zoo.plugins"' in path.read_text(encoding="utf-8")}
    assert {key.partition(":")[2] for key in OWN} == folders, "`make .venv/installed` installs every plugin"

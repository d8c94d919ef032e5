"""Plugins are found one by one, and a broken one changes nobody else's result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from textwrap import dedent

import pytest

from zoo import plugins
from zoo.entries import ModelEntry
from zoo.errors import PluginError, PluginWarning


def names(registry):
    return [item.name for _, item in registry.collect("zoo_models", ModelEntry)]


def status(registry):
    return {plugin.name: plugin.status for plugin in registry.plugins}


def test_a_working_plugin_gives_its_models_and_names_its_hooks(installed, tiny):
    installed.add("good", tiny)
    registry = installed.registry()
    assert names(registry) == ["tiny"]
    assert registry.plugins[0].hooks == ["zoo_models"]
    assert registry.plugins[0].key == "dist-good:good"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def (", "SyntaxError"),
        ("from zoo import hookimpl\n@hookimpl\ndef zoo_modells(): return []", "unknown hook 'zoo_modells'"),
        ("from zoo import hookimpl\n@hookimpl\ndef zoo_models(color): return []", "color"),
    ],
)
def test_a_plugin_that_cannot_be_registered_is_reported_once_and_left_out(installed, tiny, code, reason):
    installed.add("bad", code)
    installed.add("good", tiny)
    with pytest.warns(PluginWarning) as caught:
        registry = installed.registry()
        assert names(registry) == ["tiny"]
        assert names(registry) == ["tiny"]
    assert len(caught) == 1
    assert "dist-bad" in str(caught[0].message)
    assert status(registry) == {"bad": "failed", "good": "ready"}
    assert reason in registry.plugins[0].reason


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('no')",
        "return [1, 2]",
        "return 7",
        "raise SystemExit",
        "pass",
        "return 'ab'",
        "return {}",
        "yield 1",
    ],
)
def test_a_hook_that_raises_or_returns_junk_fails_alone(installed, tiny, body):
    installed.add("bad", f"from zoo import hookimpl\n@hookimpl\ndef zoo_models():\n    {body}")
    installed.add("good", tiny)
    registry = installed.registry()
    with pytest.warns(PluginWarning, match="dist-bad") as caught:
        assert names(registry) == ["tiny"]
        assert names(registry) == ["tiny"]
    assert len(caught) == 1


@pytest.mark.parametrize("content", [b"[zoo.plugins]\nno value here\n", b"[zoo.plugins]\n\xe9 = x\n"])
def test_entry_points_that_cannot_be_read_leave_the_others(installed, tiny, content):
    installed.add("good", tiny)
    broken = installed.folder / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_bytes(content)
    with pytest.warns(PluginWarning, match="broken"):
        assert ("dist-good", "1.0") in [found[:2] for found in plugins.installed()]


def test_two_distributions_may_use_one_entry_point_name(installed, tiny):
    installed.add("same", tiny, distribution="one", module="first")
    installed.add("same", tiny, distribution="two", module="second")
    assert [plugin.key for plugin in installed.registry().plugins] == ["one:same", "two:same"]
    assert names(installed.registry()) == ["tiny", "tiny"]


def test_entry_points_are_those_that_importlib_finds(installed, tiny):
    installed.add("good", tiny)
    (installed.folder / "more-2.0.egg-info").mkdir()
    (installed.folder / "more-2.0.egg-info" / "PKG-INFO").write_text("Name: More\nVersion: 2.0\n\nName: no\n")
    (installed.folder / "more-2.0.egg-info" / "entry_points.txt").write_text(
        "[other]\na = b\n\n[zoo.plugins]\n# a comment\nx.y = good:zoo_models [extra]\n[more]\nc = d\n"
    )
    found = {(dist, version, point.name) for dist, version, point in plugins.installed()}
    expected = {
        (point.dist.name, point.dist.version, point.name) for point in metadata.entry_points(group="zoo.plugins")
    }
    assert found == expected
    assert ("More", "2.0", "x.y") in found
    (point,) = [point for _, _, point in plugins.installed() if point.name == "x.y"]
    assert point.load().__name__ == "zoo_models"


def test_plugins_in_an_archive_are_found(tmp_path, monkeypatch, tiny):
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped.py", dedent(tiny))
        file.writestr("zipped-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: zipped\nVersion: 1.0\n")
        file.writestr("zipped-1.0.dist-info/entry_points.txt", "[zoo.plugins]\nzipped = zipped\n")
    before = {dist for dist, _, _ in plugins.installed()}
    monkeypatch.syspath_prepend(str(archive))
    assert {dist for dist, _, _ in plugins.installed()} == before | {"zipped"}


def test_a_plugin_for_another_interface_is_left_out_with_what_to_do(installed, tiny):
    installed.add("new", "zoo_interface = 2\n" + dedent(tiny))
    installed.add("odd", "zoo_interface = 'one'\n" + dedent(tiny))
    installed.add("good", "zoo_interface = 1\n" + dedent(tiny))
    with pytest.warns(PluginWarning):
        registry = installed.registry()
    assert status(registry) == {"new": "failed", "odd": "failed", "good": "ready"}
    assert "zoo_interface is 2, and this motion-zoo offers version 1" in registry.plugins[0].reason
    assert "install a release of dist-new" in registry.plugins[0].reason
    assert names(registry) == ["tiny"]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"heavy.py": "import math\nimport torch\n"}, "heavy.py:2"),
        ({"heavy.py": "import math\nimport other\n", "other.py": "import torch\n"}, "heavy.py:2"),
        ({"heavy.py": "from zoo import load\n"}, "heavy.py:1"),
        ({"heavy/__init__.py": "import heavy.inner\n", "heavy/inner.py": "\n\nimport torch\n"}, "heavy/inner.py:3"),
    ],
)
def test_a_plugin_that_imports_torch_is_named_with_the_line_to_blame(installed, tiny, files, line):
    installed.add("light", tiny)
    installed.add("heavy", "")
    (installed.folder / "heavy.py").unlink()
    (installed.folder / "heavy").mkdir()
    for name, code in files.items():
        (installed.folder / name).write_text(code)
    code = (
        "import json, sys; from zoo.plugins import registry;"
        "print(json.dumps({p.name: [p.status, p.slow] for p in registry().plugins}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed.folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["light"] == ["ready", ""]
    assert found["heavy"][0] == "ready"
    assert found["heavy"][1].startswith(f"imports torch at {installed.folder}/{line} (")


def test_a_plugin_that_takes_long_to_import_is_named(installed, tiny, monkeypatch):
    monkeypatch.setattr(plugins, "SLOW", -1.0)
    installed.add("good", tiny)
    assert installed.registry().plugins[0].slow.startswith("importing good takes ")


@pytest.mark.parametrize("name", ["good", "dist-good", "dist-good:good"])
def test_a_plugin_is_switched_off_by_each_of_its_names(installed, tiny, name):
    installed.add("good", tiny)
    registry = installed.registry({name})
    assert status(registry) == {"good": "disabled"}
    assert names(registry) == []


def test_hooks_receive_only_the_arguments_they_ask_for(installed):
    installed.add("some", "from zoo import hookimpl\n@hookimpl\ndef explain_sections(): return ['a section']")
    assert [item for _, item in installed.registry().collect("explain_sections", str, context=1)] == ["a section"]


def test_resolve_gives_the_function_or_says_why_not():
    assert plugins.resolve("os.path:join") is __import__("os").path.join
    for reference in ("os.path", "os.path:joint", "no_such_module:f"):
        with pytest.raises(PluginError, match=reference.split(":")[0]):
            plugins.resolve(reference)
    with pytest.raises(PluginError, match="not callable"):
        plugins.resolve("os:sep")

"""Plugins are found one by one, and a broken one changes nobody else's result."""

from __future__ import annotations

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


@pytest.mark.parametrize("body", ["raise RuntimeError('no')", "return [1, 2]", "return 7", "raise SystemExit"])
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

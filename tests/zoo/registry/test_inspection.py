"""`zoo plugins --isolate` names the plugin that ends the process, and reports all others."""

from __future__ import annotations

import json
import sys
from textwrap import dedent

import pytest

from zoo.registry import catalog, entry_points, inspection, plugins

HOOK = "from zoo import hookimpl\n@hookimpl\ndef zoo_models():\n    import ctypes, os, signal, time\n    {}"
ENDINGS = {
    "os._exit(0)": "exit status 0",
    "os._exit(7)": "exit status 7",
    "os.abort()": "SIGABRT",
    "os.kill(os.getpid(), signal.SIGKILL)": "SIGKILL",
    "os.killpg(0, signal.SIGKILL)": "SIGKILL",
    "ctypes.string_at(0)": "SIGSEGV",
    "time.sleep(60)": "does not end within 4 s",
}


@pytest.fixture
def alone(installed, monkeypatch):
    """The plugins of the test are the only ones installed."""
    monkeypatch.setattr(entry_points, "installed", lambda: installed.entry_points)
    return installed


@pytest.mark.parametrize("where", ["import of bad", "hook zoo_models"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_plugin_that_ends_the_process_is_named_with_where_and_how(alone, ending, where):
    code = f"import ctypes, os, signal, time\n{ending}" if where.startswith("import") else HOOK.format(ending)
    alone.add("bad", code)
    (state,) = inspection.isolated_states(longest=4)
    assert state["status"] == "failed"
    assert ENDINGS[ending] in state["reason"]
    assert state["reason"].endswith(f"during {where}")


def test_a_plugin_that_ends_the_process_later_is_named(alone):
    alone.add("bad", "import atexit, os\natexit.register(os._exit, 9)")
    (state,) = inspection.isolated_states()
    assert (state["status"], state["hooks"]) == ("failed", [])
    assert "exit status 9" in state["reason"]


def test_states_are_those_of_this_process(alone, tiny, monkeypatch):
    alone.add("good", tiny)
    alone.add("other", tiny)
    alone.add("bad", "raise ValueError('no')")
    alone.add("loud", "print('{'); import sys; print('{', file=sys.stderr)")
    alone.entry_points.append(("renamed", "1.0", plugins.EntryPoint("good", "good", plugins.GROUP)))
    monkeypatch.setenv(plugins.DISABLE, "other")
    isolated = inspection.isolated_states()
    with pytest.warns(plugins.PluginWarning, match="dist-bad"):
        registry = plugins.Registry(alone.entry_points, {"other"})
    monkeypatch.setattr(plugins, "registry", lambda: registry)
    catalog.listings.cache_clear()
    states = inspection.states()
    measured = ("import_ms", "slow")
    assert [{**state, **dict.fromkeys(measured)} for state in isolated] == [
        {**state, **dict.fromkeys(measured)} for state in states
    ]
    assert [state["status"] for state in isolated] == ["ready", "disabled", "failed", "ready"]
    assert isolated[0]["also"] == ["renamed:good"]
    assert isolated[0]["models"] == ["tiny"]


def test_the_command_goes_on_past_a_plugin_that_ends_every_other(alone, tiny, monkeypatch, capfd):
    from zoo import cli

    alone.add("bad", "import os; os._exit(0)")
    alone.add("good", dedent(tiny))
    monkeypatch.setattr(sys, "argv", ["zoo", "plugins", "--isolate", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    states = {state["name"]: state for state in json.loads(capfd.readouterr().out)}
    assert states["bad"]["reason"] == "ends the process (exit status 0) during import of bad"
    assert states["good"]["models"] == ["tiny"]

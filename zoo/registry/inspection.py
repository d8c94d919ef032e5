"""The state of every plugin, in this process or each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from zoo.errors import one_line
from zoo.registry import catalog, entry_points, plugins

#: Seconds after which a plugin that is examined in a process of its own is taken to hang.
LONGEST = 60.0

_CHILD = "import sys; from zoo.registry.inspection import _examine; _examine(*sys.argv[1:])"


def states() -> list[dict[str, Any]]:
    """Return each plugin of this process as plain data: its names, status, reason, hooks and models."""
    models = catalog.listings()  # a broken entry shows only when its hook is called
    return _with_shared_names([_state(plugin, models) for plugin in plugins.registry().plugins])


def isolated_states(longest: float = LONGEST) -> list[dict[str, Any]]:
    """Return the same, importing each plugin and calling its hooks in a separate process.

    A plugin that ends that process (`os._exit`, `abort`, a crash) or hangs has failed, and its reason says so.

    Args:
        longest: Seconds that a plugin may take.
    """
    disabled = plugins.disabled()
    states = []
    for plugin in plugins.one_each(entry_points.installed()):
        if any(plugin.is_called(name) for name in disabled):
            plugin.status = "disabled"
            states.append(_state(plugin, ()))
        else:
            states.append(_isolated(plugin, longest))
    return _with_shared_names(states)


def _state(plugin: plugins.Plugin, models: tuple[catalog.Listing, ...]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "also": plugin.also,
        "status": plugin.status,
        "reason": plugin.reason,
        "slow": plugin.slow,
        "import_ms": round(1000 * plugin.import_seconds, 1),
        "hooks": plugin.hooks,
        "models": [listing.entry.name for listing in models if listing.plugin is plugin],
    }


def _with_shared_names(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each the names of models that another plugin gives as well."""
    names = [name for state in states for name in state["models"]]
    return [{**state, "shared_names": [name for name in state["models"] if names.count(name) > 1]} for state in states]


def _isolated(plugin: plugins.Plugin, longest: float) -> dict[str, Any]:
    """Return the state of a plugin after another process imported it."""
    point = plugin.entry_point
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        notes.touch()
        ended = _run([str(notes), plugin.distribution, plugin.version, point.name, point.value], longest)
        last = ["the start of Python", *notes.read_text("utf-8").splitlines()][-1]
    if not last.startswith("{"):
        plugin.status, plugin.reason = "failed", f"{_ending(ended, longest)} during {last}"
        return _state(plugin, ())
    state = {**json.loads(last), "also": plugin.also}
    if ended != 0:
        state |= {"status": "failed", "reason": f"{_ending(ended, longest)} after its hooks were called"}
    return state


def _run(arguments: list[str], longest: float) -> int | None:
    """Run `_examine` in a process of its own; its exit status, None where it had to be killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(  # noqa: S603 - imports an installed plugin, as every command does
        [sys.executable, "-P", "-c", _CHILD, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a plugin that kills its process group does not kill this process
    )
    try:
        return process.wait(longest)
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()
        process.wait()


def _ending(status: int | None, longest: float) -> str:
    if status is None:
        return f"does not end within {longest:g} s"
    if status < 0:
        return f"ends the process ({signal.Signals(-status).name})"
    return f"ends the process (exit status {status})"


def _examine(notes: str, distribution: str, version: str, name: str, value: str) -> None:
    """Import one plugin, call its hooks, and write to the file `notes` what is being done, then its state."""

    def note(text: str) -> None:
        with Path(notes).open("a", encoding="utf-8") as file:
            file.write(f"{one_line(text)}\n")

    note(f"import of {value}")
    registry = plugins.Registry(
        [(distribution, version, entry_points.EntryPoint(name, value, entry_points.GROUP))], set()
    )
    note("hook zoo_models")
    models = catalog.listings_of(registry)
    for hook in (
        "zoo_recipes",
        "explain_methods",
        "explain_measures",
        "explain_perturbations",
    ):  # the others need a model
        note(f"hook {hook}")
        registry.collect(hook, object)
    (plugin,) = registry.plugins
    note(json.dumps(_state(plugin, models)))

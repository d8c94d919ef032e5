"""Discovery of plugins through the entry-point group `zoo.plugins`, each one isolated from the others.

Entry points are loaded one by one, keyed by (distribution, name): a plugin that fails to import, to register
or inside a hook is reported once and changes no other plugin's result.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from zoo import hookspecs
from zoo.discovery import GROUP, EntryPoint, installed
from zoo.errors import PluginError, PluginWarning, UnknownNameError, WeightsError
from zoo.importing import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DISABLE", "GROUP", "EntryPoint", "Plugin", "Registry", "check_names", "collect", "installed", "registry"]

#: Environment variable with the names of plugins to leave out, separated by commas.
DISABLE = "ZOO_DISABLE_PLUGINS"
#: Seconds of CPU time from which the import of a plugin counts as slow.
SLOW = 0.1


@dataclass
class Plugin:
    """One entry point of the group, working or not."""

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint
    #: "ready", "failed" or "disabled".
    status: str = "ready"
    #: Why it failed; one line.
    reason: str = ""
    #: Names of the hooks it implements.
    hooks: list[str] = field(default_factory=list)
    #: CPU time that importing it took.
    import_seconds: float = 0.0
    #: Why it makes every command slow; empty where it does not.
    slow: str = ""

    @property
    def key(self) -> str:
        """Distribution and entry-point name, unique among installed plugins."""
        return f"{self.distribution}:{self.name}"

    def fail(self, during: str, error: BaseException) -> None:
        """Note and report a failure; only the first of a plugin is reported."""
        reported = self.status == "failed"
        self.status = "failed"
        if not reported:
            self.reason = f"{during}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            warnings.warn(
                f"plugin {self.name!r} of {self.distribution} {self.version} failed at {self.reason}; "
                f"everything else goes on (switch it off with {DISABLE}={self.name})",
                PluginWarning,
                stacklevel=3,
            )


class Registry:
    """Every plugin found, and the calls to their hooks."""

    def __init__(self, entry_points: list[tuple[str, str, EntryPoint]], disabled: set[str]) -> None:
        self.plugins: list[Plugin] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        seen: set[str] = set()
        for distribution, version, entry_point in entry_points:
            plugin = Plugin(entry_point.name, distribution, version, entry_point)
            if plugin.key in seen:
                continue
            seen.add(plugin.key)
            self.plugins.append(plugin)
            if disabled & {plugin.name, plugin.distribution, plugin.key}:
                plugin.status = "disabled"
            else:
                self._register(plugin)

    def _register(self, plugin: Plugin) -> None:
        during = f"import of {plugin.entry_point.value}"
        began = time.process_time()
        try:
            watch = Watch("torch", plugin.entry_point.value.partition(":")[0].partition(".")[0])
            with redirect_stdout(sys.stderr), watch:  # what a plugin prints is no result of ours
                module = plugin.entry_point.load()
            plugin.import_seconds = time.process_time() - began
            if watch.importer:
                plugin.slow = f"imports torch at {watch.importer} ({plugin.import_seconds:.1f} s)"
            elif plugin.import_seconds > SLOW:
                plugin.slow = f"importing {plugin.entry_point.value} takes {plugin.import_seconds:.1f} s"
            during = "registration"
            _check_interface(plugin, module)
            self._manager.register(module, name=plugin.key)
            self._manager.check_pending()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module may raise anything
            plugin.fail(during, error)
            if self._manager.has_plugin(plugin.key):
                self._manager.unregister(name=plugin.key)
            return
        callers = self._manager.get_hookcallers(module) or []
        plugin.hooks = sorted(caller.name for caller in callers)

    def collect(self, hook: str, expected: type, **arguments: Any) -> list[tuple[Plugin, Any]]:
        """Call one hook plugin by plugin; each item of each returned list, beside the plugin that gave it.

        A plugin whose hook raises, or returns anything but a list of `expected`, fails alone; but a hook with arguments
        may raise WeightsError where these hold something damaged.
        """
        items: list[tuple[Plugin, Any]] = []
        for plugin in self.plugins:
            if plugin.status == "disabled" or hook not in plugin.hooks:
                continue
            others = [module for name, module in self._manager.list_name_plugin() if name != plugin.key]
            try:
                with redirect_stdout(sys.stderr):
                    returned = self._manager.subset_hook_caller(hook, others)(**arguments)
                if not returned:  # pluggy leaves None out
                    raise TypeError("expected a list, got None")
                given = [item for result in returned for item in _listed(result)]
                for item in given:
                    if not isinstance(item, expected):
                        raise TypeError(f"expected {expected.__name__}, got {type(item).__name__}")
            except (Exception, SystemExit) as error:
                if arguments and isinstance(error, WeightsError):
                    raise  # what the hook was shown is damaged, not the plugin
                plugin.fail(f"hook {hook}", error)
            else:
                items += [(plugin, item) for item in given]
        return items


def _check_interface(plugin: Plugin, module: Any) -> None:
    """Raise PluginError where a plugin was written for other hooks than these."""
    asked = getattr(module, "zoo_interface", hookspecs.INTERFACES[0])
    if asked not in hookspecs.INTERFACES:
        offered = " and ".join(map(str, hookspecs.INTERFACES))
        raise PluginError(
            f"zoo_interface is {asked!r}, and this motion-zoo offers version {offered} of its hooks; install a release "
            f"of {plugin.distribution} for it, or the motion-zoo that it was written for"
        )


def _listed(result: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(result, list | tuple):
        raise TypeError(f"expected a list, got {type(result).__name__}")
    return result


def check_names(names: Iterable[str]) -> None:
    """Raise UnknownNameError for a name that no installed plugin answers to."""
    known = {
        name: None
        for distribution, _, entry_point in installed()
        for name in (entry_point.name, distribution, f"{distribution}:{entry_point.name}")
    }
    for name in names:
        if name not in known:
            raise UnknownNameError("plugin", name, known, "`zoo plugins` shows all")


@functools.cache
def registry() -> Registry:
    """The plugins of this process, discovered once."""
    disabled = {name for name in re.split(r"[,\s]+", os.environ.get(DISABLE, "")) if name}
    return Registry(installed(), disabled)


def collect(hook: str, expected: type, **arguments: Any) -> list[tuple[Plugin, Any]]:
    """`Registry.collect` on the plugins of this process."""
    return registry().collect(hook, expected, **arguments)


def resolve(reference: str) -> Callable[..., Any]:
    """The function that "package.module:function" names.

    Raises:
        PluginError: where there is no such module or function.
    """
    import importlib

    module, colon, function = reference.partition(":")
    try:
        if not colon:
            raise ValueError("expected 'package.module:function'")
        resolved = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise PluginError(f"{reference!r} names no function: {error}") from error
    if not callable(resolved):
        raise PluginError(f"{reference!r} is not callable")
    return resolved  # type: ignore[no-any-return]  # getattr of a module is Any

"""The registry of plugins: each entry point is imported and registered isolated from the others.

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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import pluggy

from zoo.errors import PluginError, PluginWarning, UnknownNameError, WeightsError, describe
from zoo.isolation import contained, guarded
from zoo.registry import hookspecs
from zoo.registry.entry_points import GROUP, EntryPoint, Watch, canonical, installed

__all__ = ["DISABLE", "GROUP", "EntryPoint", "Plugin", "Registry", "check_names", "collect", "installed", "registry"]

#: Environment variable with the names of plugins to leave out, separated by commas.
DISABLE = "ZOO_DISABLE_PLUGINS"

#: Seconds of CPU time, and on the clock, from which importing a plugin, or a hook that every command calls, is slow.
SLOW = 0.1

SLOW_WALL = 1.0


@dataclass
class Plugin:
    """One plugin: an entry point of the group, working or not."""

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
    #: Why it makes every command slow; empty if it does not.
    slow: str = ""
    #: Further entry points ("DISTRIBUTION:NAME") that give the same plugin, as after a distribution was renamed.
    also: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Return distribution and entry-point name, unique among installed plugins."""
        return f"{self.distribution}:{self.name}"

    def is_called(self, name: str) -> bool:
        """Check whether a name is that of this plugin, its distribution, or "DISTRIBUTION:NAME", however spelled."""
        return canonical(name) in {
            canonical(known) for key in (self.key, *self.also) for known in (key, *key.rsplit(":", 1))
        }

    def comes_from(self, distribution: str) -> bool:
        """Check whether a distribution of this name, however spelled, provides this plugin."""
        return canonical(distribution) in {canonical(key.rpartition(":")[0]) for key in (self.key, *self.also)}

    def fail(self, during: str, error: BaseException) -> None:
        """Note and report a failure; only the first of a plugin is reported."""
        reported = self.status == "failed"
        self.status = "failed"
        if not reported:
            self.reason = f"{during}: {describe(error)}"
            warnings.warn(
                f"plugin {self.name!r} of {self.distribution} {self.version} failed at {self.reason}; "
                f"everything else goes on (switch it off with {DISABLE}={self.name})",
                PluginWarning,
                stacklevel=3,
            )


class Registry:
    """Every plugin found, and the calls to their hooks."""

    def __init__(self, entry_points: list[tuple[str, str, EntryPoint]], disabled: set[str]) -> None:
        self.plugins = one_each(entry_points)
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        #: Last results of each plugin's hook, to name the plugin of a reference that does not resolve.
        self._given: dict[tuple[str, str], list[Any]] = {}
        for plugin in list(self.plugins):
            if any(plugin.is_called(name) for name in disabled):
                plugin.status = "disabled"
            else:
                self._register(plugin)

    def _register(self, plugin: Plugin) -> None:
        module = self._import(plugin)
        if module is None:
            return
        try:
            with contained():
                _check_interface(plugin, module)
                twin = self._manager.get_name(module)
                if twin is None:
                    self._manager.register(module, name=plugin.key)
                    self._manager.check_pending()
                    twin = self._twin(plugin)
        except Exception as error:  # noqa: BLE001 - a plugin's module may raise anything
            plugin.fail("registration", error)
            if self._manager.has_plugin(plugin.key):
                self._manager.unregister(name=plugin.key)
            return
        if twin is not None:
            if self._manager.has_plugin(plugin.key):
                self._manager.unregister(name=plugin.key)
            next(one for one in self.plugins if one.key == twin).also.append(plugin.key)
            self.plugins.remove(plugin)
            return
        plugin.hooks = sorted(self._implementations(plugin.key))

    def _import(self, plugin: Plugin) -> Any:
        """Return the plugin's module; None if it cannot be imported."""
        began, began_wall = time.process_time(), time.perf_counter()
        watch = Watch("torch", plugin.entry_point.module.partition(".")[0])
        try:
            with contained(), watch:
                module = plugin.entry_point.load()
        except Exception as error:  # noqa: BLE001 - a plugin's module may raise anything
            plugin.fail(f"import of {plugin.entry_point.value}", error)
            return None
        plugin.import_seconds = time.process_time() - began
        if watch.importer:
            plugin.slow = f"imports torch at {watch.importer} ({plugin.import_seconds:.1f} s)"
        else:
            self._time(plugin, f"importing {plugin.entry_point.value}", began, began_wall)
        return module

    def _time(self, plugin: Plugin, what: str, began: float, began_wall: float) -> None:
        """Note that a plugin makes every command slow, where what began then did."""
        cpu, wall = time.process_time() - began, time.perf_counter() - began_wall
        if not plugin.slow and (cpu > SLOW or wall > SLOW_WALL):
            plugin.slow = f"{what} takes {wall:.1f} s" + (f", {cpu:.1f} s of it computing" if wall > 2 * cpu else "")

    def _implementations(self, key: str) -> dict[str, Any]:
        """Return the hook implementations of a registered plugin, by name."""
        callers = self._manager.get_hookcallers(self._manager.get_plugin(key)) or []
        return {
            caller.name: found.function
            for caller in callers
            for found in caller.get_hookimpls()
            if found.plugin_name == key
        }

    def _twin(self, plugin: Plugin) -> str | None:
        """Return the key of a plugin with the same hook functions, as for a renamed module; or None."""
        own = self._implementations(plugin.key)
        others = [key for key, _ in self._manager.list_name_plugin() if key != plugin.key]
        return next((key for key in others if own and self._implementations(key) == own), None)

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
            began, began_wall = time.process_time(), time.perf_counter()
            try:
                with contained():
                    returned = self._manager.subset_hook_caller(hook, others)(**arguments)
                    if not returned:  # pluggy leaves None out
                        raise TypeError("expected a list, got None")
                    given = [item for result in returned for item in _listed(result)]
                    for item in given:
                        if not isinstance(item, expected):
                            raise TypeError(f"expected {expected.__name__}, got {type(item).__name__}")
            except Exception as error:
                if arguments and issubclass(type(error), WeightsError):
                    raise  # what the hook was shown is damaged, not the plugin
                plugin.fail(f"hook {hook}", error)
            else:
                items += [(plugin, item) for item in given]
                self._given[plugin.key, hook] = given
                if hook == "zoo_models":  # which nearly every command calls
                    self._time(plugin, f"hook {hook}", began, began_wall)
        return items

    def giver(self, reference: str) -> Plugin | None:
        """Return the plugin that gave "package.module:function" in an entry, recipe, method or section, or None.

        If no plugin gave it, return the plugin whose package contains it.
        """
        package = reference.partition(":")[0].partition(".")[0]
        givers = {key for (key, _), given in self._given.items() if _holds(given, reference)}
        owners = {one.key for one in self.plugins if one.entry_point.module.partition(".")[0] == package}
        return next((one for one in self.plugins if one.key in (givers or owners)), None)


def one_each(entry_points: list[tuple[str, str, EntryPoint]]) -> list[Plugin]:
    """Return the plugins of the entry points; several for one module, in any spelling, are one plugin."""
    plugins: dict[tuple[str, str], Plugin] = {}
    seen: set[tuple[str, str]] = set()
    for distribution, version, entry_point in entry_points:
        key = canonical(distribution), entry_point.name
        if key in seen:
            continue
        seen.add(key)
        plugin = Plugin(entry_point.name, distribution, version, entry_point)
        first = plugins.setdefault((entry_point.module, entry_point.attr), plugin)
        if first is not plugin:
            first.also.append(plugin.key)
    return list(plugins.values())


def _holds(item: Any, reference: str) -> bool:
    """Check whether a text occurs among the fields of plain data."""
    if is_dataclass(item):
        return any(_holds(getattr(item, one.name), reference) for one in fields(item))
    if isinstance(item, tuple | list):
        return any(_holds(one, reference) for one in item)
    return isinstance(item, str) and item == reference


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
    found = one_each(installed())
    known = dict.fromkeys(known for one in found for known in (one.name, one.distribution, one.key, *one.also))
    for name in names:
        if not any(one.is_called(name) for one in found):
            raise UnknownNameError("plugin", name, known, "`zoo plugins` shows all")


@functools.cache
def registry() -> Registry:
    """Return the plugins of this process, discovered once."""
    return Registry(installed(), disabled())


def disabled() -> set[str]:
    """Return the names of plugins disabled by the environment."""
    return {name for name in re.split(r"[,\s]+", os.environ.get(DISABLE, "")) if name}


def collect(hook: str, expected: type, **arguments: Any) -> list[tuple[Plugin, Any]]:
    """`Registry.collect` on the plugins of this process."""
    return registry().collect(hook, expected, **arguments)


def resolve(reference: str) -> Callable[..., Any]:
    """Return the function that "package.module:function" names.

    Raises:
        PluginError: if there is no such module or function, or the import fails with any error; the message
            names the plugin that gave the reference.
    """
    import importlib

    module, colon, function = reference.partition(":")
    if not (colon and module and function):
        raise PluginError(f"{_named(reference)} names no function: expected 'package.module:function'")
    imported = None
    try:
        with guarded() if module in sys.modules else contained():
            imported = importlib.import_module(module)
            resolved = getattr(imported, function)
            works = callable(resolved)
    except Exception as error:
        absent = type(error) is ModuleNotFoundError and f"{module}.".startswith(f"{error.name}.")
        if absent or (imported and type(error) is AttributeError):
            raise PluginError(f"{_named(reference)} names no function: {describe(error)}") from error
        raise PluginError(f"{_named(reference)} cannot be imported: {describe(error)}") from error
    if not works:
        raise PluginError(f"{_named(reference)} is not callable")
    return resolved  # type: ignore[no-any-return]  # getattr of a module is Any


def _named(reference: str) -> str:
    """Format a reference for messages, with its plugin if known."""
    plugin = registry().giver(reference)
    if plugin is None:
        return repr(reference)
    return f"{reference!r} of plugin {plugin.name!r} ({plugin.distribution} {plugin.version})"

"""Assembly of sections into written pages, shared by reports and comparisons. Does not import torch."""

from __future__ import annotations

import datetime
import json
import platform
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explain.drawing import templates
from explain.reporting import writing
from explain.reporting.sections import Content, Page, Section, select
from zoo.errors import describe
from zoo.isolation import contained
from zoo.plain import plain
from zoo.registry import plugins

if TYPE_CHECKING:
    from torch import Tensor

    from explain.drawing.sprites import Sprite

TENSORS = "tensors.safetensors"

#: Maximum size in bytes of a page that a notebook embeds.
_SHOWN = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A written report or comparison."""

    #: The folder that contains it.
    folder: Path
    #: Contents of its JSON file.
    data: dict[str, Any] = field(repr=False)
    #: "report" or "comparison": base name of its files.
    kind: str = "report"

    @property
    def page(self) -> Path:
        """Return the path of the page."""
        return self.folder / f"{self.kind}.html"

    def _repr_html_(self) -> str:
        """Show the page in a notebook or, if it is too large, its path."""
        html = self.page.read_text(encoding="utf-8") if self.page.stat().st_size <= _SHOWN else ""
        return str(templates.render("in_notebook.html", report=self, html=html))

    @property
    def problems(self) -> list[dict[str, str]]:
        """Return sections and plugins that failed, each with its reason."""
        return list(self.data["problems"])

    @property
    def warnings(self) -> list[str]:
        """Return the warnings for the reader."""
        return list(self.data["warnings"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One section, built or failed."""

    name: str
    title: str
    content: Content | None = None
    problem: str = ""

    @property
    def html(self) -> str:
        """Return its markup; empty if it failed."""
        return self.content.html if self.content else ""


def build(
    page: Page,
    given: Any,
    names: Iterable[str] | None,
    taken: Iterable[str],
    timed: Callable[[str], AbstractContextManager[Any]],
    built_in: Sequence[Section],
    added: Sequence[tuple[str, Section]] = (),
) -> tuple[list[Part], list[dict[str, str]]]:
    """Build every section, in order; a plugin's failure is reported and does not affect other sections.

    Args:
        page: The kind of page.
        given: Argument of the sections' functions.
        names: Names of sections to build; None builds all.
        taken: Names of sprites already on the page.
        timed: Returns a context manager for a step, in which a plugin's section is built.
        built_in: The built-in sections; those of plugins come before the last of them, or where they request.
        added: Those of plugins, each preceded by its plugin's key.
    """
    kept, problems = _under_own_names(built_in, added)
    owners = {section.name: key for key, section in kept}
    ordered = _in_order(built_in, [section for _, section in kept])
    parts: list[Part] = []
    sprites = set(taken)
    for section in select(ordered, names):
        key, run, title = owners.get(section.name), section.builder(page), section.heading(page)
        if key is None:
            content = plugins.resolve(run)(given)
            problems += [{"section": section.name, **problem} for problem in content.problems]
        else:
            try:
                with timed(section.name), contained():
                    content = _checked(plugins.resolve(run)(given), sprites)
            except Exception as error:  # noqa: BLE001 - no exception of a plugin may abort the report
                reason = describe(error) + _place(error.__cause__ or error, run)
                problems.append({"section": section.name, "plugin": key, "reason": reason})
                parts.append(Part(name=section.name, title=title, problem=f"Plugin {key}: {reason}"))
                continue
        parts.append(Part(name=section.name, title=title, content=content))
        sprites |= {sprite.name for sprite in content.sprites}
    return parts, problems


def of_plugins(page: Page, hook: str, without: Iterable[str] = (), **given: Any) -> list[tuple[str, Section]]:
    """Collect the sections that plugins provide for one kind of page, each preceded by its plugin's key.

    Args:
        page: The kind of page.
        hook: Name of the hook.
        without: Requirements that the page lacks; sections that need them are omitted.
        given: Arguments of the hook.
    """
    missing, found = set(without), plugins.collect(hook, Section, **given)
    return [(plugin.key, one) for plugin, one in found if one.builder(page) and not missing & set(one.needs)]


def _place(error: BaseException, reference: str) -> str:
    """Return where in the package of `reference` an error was raised, " (views.py:12)"; else ""."""
    package = reference.partition(":")[0].partition(".")[0]
    frames = [
        (Path(frame.f_code.co_filename).name, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return " ({}:{})".format(*frames[-1]) if frames else ""


def write(
    folder: Path,
    kind: str,
    parts: Sequence[Part],
    data: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
    pictures: Iterable[Sprite] = (),
    more: Mapping[str, bytes] | None = None,
    template: str = "",
    **page: Any,
) -> Report:
    """Write KIND.html from a template, KIND.json and, if there are any, the raw tensors.

    Args:
        folder: Output folder, checked by `writing.check`.
        kind: "report", "comparison" or "maximization".
        parts: The sections.
        data: Contents of the JSON file besides the sections' numbers and the date.
        tensors: Raw results besides those of the sections.
        about: Metadata of the file of tensors.
        pictures: Sprites besides those of the sections.
        more: Further files, by name.
        template: The template's file; by default named like the kind.
        page: Values of the template.
    """
    built = {part.name: part.content for part in parts if part.content}
    created = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    told = plain(
        {
            "format": 1,
            "created": created,
            **data,
            "notices": page.get("notices", []),
            "sections": {name: content.data for name, content in built.items()},
        }
    )
    stored = dict(tensors)
    for name, content in built.items():
        stored |= {f"{name}/{key}": tensor for key, tensor in content.tensors.items()}
    script = templates.asset("report.js")
    sprites = [*pictures, *(sprite for content in built.values() for sprite in content.sprites)]
    html = templates.render(
        template or f"{kind}.html",
        parts=parts,
        sprites=sprites,
        times=_shared_times(sprites, page.get("frames", 0)),
        versions=versions(),
        has_tensors=bool(stored),
        style=templates.asset("report.css"),
        script=script,
        script_hash=templates.source_hash(script),
        created=created,
        **page,
    )
    files = {f"{kind}.html": html.encode(), **(more or {})}
    if stored:
        # A single key: safetensors writes several in an order that changes from run to run.
        files[TENSORS] = _file(stored, {kind: json.dumps(about)})
    return Report(folder=writing.write(folder, kind, told, files), data=told, kind=kind)


def _shared_times(sprites: Iterable[Sprite], frames: int) -> tuple[float, ...] | None:
    """Return the frame times for the player of a page, shared by all its clips; None if clips differ."""
    found = {sprite.times for sprite in sprites if sprite.times is not None}
    (times,) = found if len(found) == 1 else (None,)
    return times if times is not None and len(times) == frames else None


def broken(problems: Iterable[Mapping[str, str]]) -> list[str]:
    """Return notices on plugins that failed to load."""
    return [
        f"The plugin {problem['plugin']} does not work and adds nothing here: {problem['reason']}"
        for problem in problems
        if not problem["section"]
    ]


def _in_order(built_in: Sequence[Section], others: Sequence[Section]) -> list[Section]:
    """Order the sections: built-in ones, each followed by those that request it; others before the last, provenance."""
    names = {section.name for section in built_in[:-1]}
    ordered = []
    for section in built_in[:-1]:
        ordered += [section, *(other for other in others if other.after == section.name)]
    return [*ordered, *(other for other in others if other.after not in names), built_in[-1]]


def _under_own_names(
    built_in: Iterable[Section], added: Iterable[tuple[str, Section]]
) -> tuple[list[tuple[str, Section]], list[dict[str, str]]]:
    """Keep plugins' sections with unique names; report what is wrong with the others."""
    problems: list[dict[str, str]] = []
    kept: list[tuple[str, Section]] = []
    names = {section.name for section in built_in}
    for key, section in added:
        if section.name in names or not re.fullmatch(r"[a-z][a-z0-9_]*", section.name):
            reason = f"the section name {section.name!r} is taken, or not in snake_case"
            problems.append({"section": section.name, "plugin": key, "reason": reason})
            continue
        names.add(section.name)
        kept.append((key, section))
    return kept, problems + failed_plugins()


def failed_plugins() -> list[dict[str, str]]:
    """Return plugins that failed to load, as problems of a report."""
    return [
        {"section": "", "plugin": plugin.key, "reason": plugin.reason}
        for plugin in plugins.registry().plugins
        if plugin.status == "failed"
    ]


def _checked(content: Any, taken: set[str]) -> Content:
    """Return the result of a plugin's section, validated for writing.

    Raises:
        TypeError, ValueError: if it cannot be written.
    """
    if not isinstance(content, Content):
        raise TypeError(f"expected explain.reporting.sections.Content, got {type(content).__name__}")
    plain(content.data)
    if content.tensors:
        _file(content.tensors, {})
    double = taken & {sprite.name for sprite in content.sprites}
    if double:
        raise ValueError(f"sprite names are taken: {', '.join(sorted(double))}")
    return content


def _file(tensors: Mapping[str, Tensor], about: dict[str, str]) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, metadata=about)


_PACKAGES = ("motion-zoo", "torch", "captum", "numpy", "pillow", "av", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found

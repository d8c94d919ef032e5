"""From sections to a written page: what reports on one model and comparisons of several share. Imports no torch."""

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

#: Bytes of a page up to which a notebook, which keeps it, shows it.
_SHOWN = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A written report, or comparison."""

    #: The folder that holds it.
    folder: Path
    #: What its JSON file says.
    data: dict[str, Any] = field(repr=False)
    #: "report" or "comparison": what its files are called.
    kind: str = "report"

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.folder / f"{self.kind}.html"

    def _repr_html_(self) -> str:
        """Show the page in a notebook, or, where it is large, where it is."""
        html = self.page.read_text(encoding="utf-8") if self.page.stat().st_size <= _SHOWN else ""
        return str(templates.render("in_notebook.html", report=self, html=html))

    @property
    def problems(self) -> list[dict[str, str]]:
        """Sections and plugins that did not work, each with its reason."""
        return list(self.data["problems"])

    @property
    def warnings(self) -> list[str]:
        """What a reader should know first."""
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
        """Its markup; empty where it failed."""
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
    """Build every section, in order; one of a plugin that fails is reported and changes no other.

    Args:
        page: Which kind of page.
        given: What the sections' functions are called with.
        names: Which to build; None builds all.
        taken: Names of sprites that the page holds already.
        timed: Within what it gives for a step, a plugin's section is built.
        built_in: The sections of explain itself; those of plugins come before the last of them, or where they ask to.
        added: Those of plugins, each behind its plugin's key.
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
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises must not end the report
                reason = describe(error) + _place(error.__cause__ or error, run)
                problems.append({"section": section.name, "plugin": key, "reason": reason})
                parts.append(Part(name=section.name, title=title, problem=f"Plugin {key}: {reason}"))
                continue
        parts.append(Part(name=section.name, title=title, content=content))
        sprites |= {sprite.name for sprite in content.sprites}
    return parts, problems


def of_plugins(page: Page, hook: str, without: Iterable[str] = (), **given: Any) -> list[tuple[str, Section]]:
    """Collect the sections that plugins give for one kind of page, each behind its plugin's key.

    Args:
        page: Which kind of page.
        hook: What asks the plugins.
        without: What the page lacks; sections that need it are left out.
        given: Arguments of the hook.
    """
    missing, found = set(without), plugins.collect(hook, Section, **given)
    return [(plugin.key, one) for plugin, one in found if one.builder(page) and not missing & set(one.needs)]


def _place(error: BaseException, reference: str) -> str:
    """Where in the package that `reference` names a function of an error was raised, " (views.py:12)"; else nothing."""
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
    """Write KIND.html from a template, KIND.json and, where there are any, the raw tensors.

    Args:
        folder: Where to; `writing.check` has seen it.
        kind: "report", "comparison" or "maximization".
        parts: The sections.
        data: What the JSON file says beside the sections' numbers and when it was made.
        tensors: Raw results beside those of the sections.
        about: What the file of tensors says of itself.
        pictures: Sprites beside those of the sections.
        more: Further files, by their names.
        template: The template's file; none is that called like the kind.
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
        # One key alone: safetensors writes several in an order that changes from run to run.
        files[TENSORS] = _file(stored, {kind: json.dumps(about)})
    return Report(folder=writing.write(folder, kind, told, files), data=told, kind=kind)


def _shared_times(sprites: Iterable[Sprite], frames: int) -> tuple[float, ...] | None:
    """Seconds of the frames that the player of a page counts: those of all its clips; None where clips differ."""
    found = {sprite.times for sprite in sprites if sprite.times is not None}
    (times,) = found if len(found) == 1 else (None,)
    return times if times is not None and len(times) == frames else None


def broken(problems: Iterable[Mapping[str, str]]) -> list[str]:
    """What a reader must know of plugins that do not work at all."""
    return [
        f"The plugin {problem['plugin']} does not work and adds nothing here: {problem['reason']}"
        for problem in problems
        if not problem["section"]
    ]


def _in_order(built_in: Sequence[Section], others: Sequence[Section]) -> list[Section]:
    """Built-in sections, each followed by those that ask to; the others before the last, which tells what was run."""
    names = {section.name for section in built_in[:-1]}
    ordered = []
    for section in built_in[:-1]:
        ordered += [section, *(other for other in others if other.after == section.name)]
    return [*ordered, *(other for other in others if other.after not in names), built_in[-1]]


def _under_own_names(
    built_in: Iterable[Section], added: Iterable[tuple[str, Section]]
) -> tuple[list[tuple[str, Section]], list[dict[str, str]]]:
    """Keep the sections of plugins that have names of their own; say what is wrong with the others."""
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
    """Plugins that do not work at all, as problems of a report."""
    return [
        {"section": "", "plugin": plugin.key, "reason": plugin.reason}
        for plugin in plugins.registry().plugins
        if plugin.status == "failed"
    ]


def _checked(content: Any, taken: set[str]) -> Content:
    """What a plugin's section returned, if it can be written.

    Raises:
        TypeError, ValueError: where it cannot.
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
    """Versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found

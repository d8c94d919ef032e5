"""Sections of pages, built-in or from plugins, as plain data without torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    import torch

    from explain.drawing.sprites import Sprite


#: Kinds of pages: one model on one clip, several models, many clips.
Page = Literal["one", "models", "clips"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of pages: up to three functions ("package.module:function") that return `Content`.

    Plugins add sections through the hooks `explain_sections(context)` and `explain_comparisons(contexts)`.

    Raises:
        UsageError: No function is named.
    """

    #: Short name in snake_case, unique in a page: the key in its JSON file and the anchor in the page.
    name: str
    #: Heading.
    title: str
    #: Heading in comparisons of several models; if empty, `title`.
    title_of_models: str = ""
    #: Builds the section for one model and clip; called with a `Context`.
    one: str = ""
    #: Builds the section of a comparison; called with a list of one `Subject` per model, each a `Context` if there is a
    #: clip.
    models: str = ""
    #: Builds the section for many clips; called with their `Collection`.
    clips: str = ""
    #: Deprecated alias of `one` and, through `explain_comparisons`, of `models`.
    build: str = ""
    #: For plugins: the built-in section that it follows; "" places it before "provenance".
    after: str = ""
    #: Requirements: "clip" (of a comparison), "training" (no random weights), and, for many clips, "maps" and "tests"
    #: of each.
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise for a section that no page can build."""
        if not (self.one or self.models or self.clips or self.build):
            raise UsageError(f"the section {self.name} names no function; give one, models or clips")
        if self.build:
            warnings.warn("Section(build=...) is now Section(one=...) or models=", DeprecationWarning, stacklevel=3)

    def builder(self, page: Page) -> str:
        """Return the function for one kind of page; empty if there is none."""
        return str(getattr(self, page)) or (self.build if page != "clips" else "")

    def heading(self, page: Page) -> str:
        """Return the heading on one kind of page."""
        return (self.title_of_models if page == "models" else "") or self.title


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Return value of a section's `build` function."""

    #: Inner HTML, without the heading. A `str` is escaped as text; markup is passed as `markupsafe.Markup` (as returned
    #: by `explain.drawing.templates.render`).
    html: str
    #: Every number that the HTML shows; written to report.json under the section's name.
    data: Mapping[str, Any] = field(default_factory=dict)
    #: Raw results, written to tensors.safetensors as "section/key".
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    #: Sprites that the HTML refers to by name.
    sprites: tuple[Sprite, ...] = ()
    #: Problems of plugins, listed beside failed sections: "plugin" and "reason".
    problems: Sequence[Mapping[str, str]] = ()


#: Built-in sections, in the order of every page.
BUILT_IN: tuple[Section, ...] = (
    Section(
        name="measurements",
        title="What was measured",
        models="explain.reporting.topics.measurements:build_models",
    ),
    Section(
        name="prediction",
        title="What the model says",
        one="explain.reporting.topics.prediction:build_one",
    ),
    Section(
        name="predictions",
        title="What the model says",
        title_of_models="What each says",
        models="explain.reporting.topics.prediction:build_models",
        clips="explain.reporting.topics.prediction:build_clips",
        needs=("clip",),
    ),
    Section(
        name="examples",
        title="The best and the worst clips",
        clips="explain.reporting.topics.clips:build_examples",
        needs=("maps",),
    ),
    Section(
        name="attributions",
        title="Where and when it looked",
        title_of_models="Where and when each looked",
        one="explain.reporting.topics.attributions:build_one",
        models="explain.reporting.topics.attributions:build_models",
        needs=("clip",),
    ),
    Section(
        name="time",
        title="When it looked",
        clips="explain.reporting.topics.when_and_where:build_when",
        needs=("maps",),
    ),
    Section(
        name="space",
        title="Where it looked",
        clips="explain.reporting.topics.when_and_where:build_where",
        needs=("maps",),
    ),
    Section(
        name="agreement",
        title="Whether the methods agree",
        clips="explain.reporting.topics.attributions:build_clips",
        needs=("maps",),
    ),
    Section(
        name="faithfulness",
        title="Whether the maps can be trusted",
        clips="explain.reporting.topics.faithfulness:build_clips",
        needs=("maps", "tests", "training"),
    ),
    Section(
        name="robustness",
        title="How much it bears",
        one="explain.reporting.topics.robustness:build_one",
    ),
    Section(
        name="units",
        title="What its units want to see",
        one="explain.reporting.topics.units:build_one",
        needs=("training",),
    ),
    Section(
        name="motion",
        title="Motion in the filters",
        one="explain.reporting.topics.motion:build_one",
        models="explain.reporting.topics.motion:build_models",
        needs=("clip", "training"),
    ),
    Section(
        name="fields",
        title="How far it can see",
        title_of_models="How far each can see",
        one="explain.reporting.topics.fields:build_one",
        models="explain.reporting.topics.fields:build_models",
        needs=("clip",),
    ),
    Section(
        name="clips",
        title="Every clip",
        clips="explain.reporting.topics.clips:build_table",
    ),
    Section(
        name="conversion",
        title="How the clip was converted",
        one="explain.reporting.topics.clips:build_one",
    ),
    Section(
        name="provenance",
        title="What was run",
        one="explain.reporting.topics.provenance:build_one",
        models="explain.reporting.topics.provenance:build_models",
        clips="explain.reporting.topics.provenance:build_clips",
    ),
)


def of_page(page: Page, without: Iterable[str] = ()) -> list[Section]:
    """Return the built-in sections of one kind of page, except those with unmet requirements."""
    missing = set(without)
    return [section for section in BUILT_IN if section.builder(page) and not missing & set(section.needs)]


def left_out(reason: str) -> Content:
    """Return a section that only states why it is empty."""
    from explain.drawing.templates import render

    return Content(html=render("left_out.html", reason=reason), data={"left_out": reason})


def select(sections: Iterable[Section], names: Iterable[str] | None) -> list[Section]:
    """Return the named sections, in their own order; all if `names` is None.

    Raises:
        UnknownNameError: for an unknown section.
    """
    sections = list(sections)
    if names is None:
        return sections
    wanted = list(names)
    known = [section.name for section in sections]
    for name in wanted:
        if name not in known:
            raise UnknownNameError("section", name, known)
    return [section for section in sections if section.name in wanted]

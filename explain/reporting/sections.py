"""What a report is made of: sections, built in or from plugins, as plain data without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch

    from explain.drawing.sprites import Sprite


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of a report.

    A plugin gives its own through the hooks `explain_sections(context)` and `explain_comparisons(contexts)`.
    """

    #: Short name in snake_case, unique in a report: the key in report.json and the anchor in the page.
    name: str
    #: Heading.
    title: str
    #: "package.module:function", called with the report's `Context` (in a comparison, with the list of one `Subject` a
    #: model, each a `Context` where there is a clip); returns `Content`.
    build: str
    #: Of a plugin's: the built-in section that it follows; "" is the last but "provenance".
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a section's `build` function returns."""

    #: Inner HTML, without the heading. A `str` is text and gets escaped; markup comes as `markupsafe.Markup`
    #: (`explain.drawing.templates.render` gives it).
    html: str
    #: Every number that the HTML shows; goes into report.json under the section's name.
    data: Mapping[str, Any] = field(default_factory=dict)
    #: Raw results, written to tensors.safetensors as "section/key".
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    #: Pictures that the HTML shows by their names.
    sprites: tuple[Sprite, ...] = ()
    #: What of plugins did not work here, told beside failed sections: "plugin" and "reason".
    problems: Sequence[Mapping[str, str]] = ()


#: The built-in sections, in the order of the page.
BUILT_IN: tuple[Section, ...] = (
    Section(name="prediction", title="What the model says", build="explain.reporting.topics.prediction:build_one"),
    Section(
        name="attributions", title="Where and when it looked", build="explain.reporting.topics.attributions:build_one"
    ),
    Section(name="robustness", title="How much it bears", build="explain.reporting.topics.robustness:build_one"),
    Section(name="units", title="What its units want to see", build="explain.reporting.topics.units:build_one"),
    Section(name="motion", title="Motion in the filters", build="explain.reporting.topics.motion:build_one"),
    Section(name="fields", title="How far it can see", build="explain.reporting.topics.fields:build_one"),
    Section(
        name="conversion", title="How the clip was converted", build="explain.reporting.topics.conversion:build_one"
    ),
    Section(name="provenance", title="What was run", build="explain.reporting.topics.provenance:build_one"),
)

#: Those of them that show what was learned: left out where weights are random, unless asked for.
OF_LEARNED = ("units", "motion")

#: The sections of a comparison, in the order of the page.
COMPARED: tuple[Section, ...] = (
    Section(name="measurements", title="What was measured", build="explain.reporting.topics.measurements:build_models"),
    Section(name="predictions", title="What each says", build="explain.reporting.topics.prediction:build_models"),
    Section(
        name="attributions",
        title="Where and when each looked",
        build="explain.reporting.topics.attributions:build_models",
    ),
    Section(name="motion", title="Motion in the filters", build="explain.reporting.topics.motion:build_models"),
    Section(name="fields", title="How far each can see", build="explain.reporting.topics.fields:build_models"),
    Section(name="provenance", title="What was run", build="explain.reporting.topics.provenance:build_models"),
)
#: Those of them that need a clip.
ON_A_CLIP = ("predictions", "attributions", "motion", "fields")

#: The sections of a report on many clips, in the order of the page.
COLLECTED: tuple[Section, ...] = (
    Section(name="predictions", title="What the model says", build="explain.reporting.topics.prediction:build_clips"),
    Section(
        name="examples", title="The best and the worst clips", build="explain.reporting.topics.clips:build_examples"
    ),
    Section(name="time", title="When it looked", build="explain.reporting.topics.when_and_where:build_when"),
    Section(name="space", title="Where it looked", build="explain.reporting.topics.when_and_where:build_where"),
    Section(
        name="agreement", title="Whether the methods agree", build="explain.reporting.topics.attributions:build_clips"
    ),
    Section(
        name="faithfulness",
        title="Whether the maps can be trusted",
        build="explain.reporting.topics.faithfulness:build_clips",
    ),
    Section(name="clips", title="Every clip", build="explain.reporting.topics.clips:build_table"),
    Section(name="provenance", title="What was run", build="explain.reporting.topics.provenance:build_clips"),
)
#: Those of them that show maps, and those that need maps tested.
WITH_MAPS = ("examples", "time", "space", "agreement", "faithfulness")
WITH_TESTS = ("faithfulness",)


def left_out(reason: str) -> Content:
    """A section that says why it shows nothing."""
    from explain.drawing.templates import render

    return Content(html=render("left_out.html", reason=reason), data={"left_out": reason})


def select(sections: Iterable[Section], names: Iterable[str] | None) -> list[Section]:
    """The sections named, in their own order; all of them where `names` is None.

    Raises:
        UnknownNameError: for a name that no section has.
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

"""Pages in docs that are generated from help, docstrings and entries: `python tests/test_reference.py` writes them."""

import ast
import dataclasses
import inspect
import textwrap
import typing
from pathlib import Path

import click
import pytest

from explain import Content, Method, Section
from explain.attribution import Job, Raw
from explain.attribution.methods import BUILT_IN
from explain.attribution.options import built_in, options_of
from explain.authoring import Perturbation, Test, Trial
from explain.cli import commands as explain
from explain.reporting.context import Context, Subject
from zoo import InputSpec, Metric, ModelEntry, OutputSpec, Recipe, Sample, WeightsEntry
from zoo.cli import commands as zoo
from zoo.entries.recipes import Search, Span, Stage
from zoo.publishing import cards
from zoo.registry import catalog

DOCS = Path(__file__).parents[1] / "docs"
#: What a plugin's hooks give and get, and where each is imported from.
CLASSES = {
    "zoo": (ModelEntry, InputSpec, OutputSpec, WeightsEntry, Metric, Sample, Recipe),
    "zoo.entries.recipes": (Stage, Search, Span),
    "explain": (Method, Section, Content),
    "explain.attribution": (Job, Raw),
    "explain.authoring": (Test, Trial, Perturbation),
    "explain.reporting.context": (Subject, Context),
}


def commands_page():
    """Every command's help, in the order in which they are listed."""
    lines = ["# Commands", "", "What `--help` says of each, on one page."]
    for name, program in (("zoo", zoo), ("explain", explain)):
        group = click.Context(program, info_name=name, terminal_width=100, **program.context_settings)
        for command in [program, *program.commands.values()]:
            context = group if command is program else click.Context(command, group, info_name=command.name)
            title = context.command_path
            lines += ["", f"{'##' if command is program else '###'} {title}", "", "```text"]
            lines += [line.rstrip() for line in command.get_help(context).splitlines()] + ["```"]
    return "\n".join(lines) + "\n"


def comments(kind):
    """What the lines `#:` above each field of a class say."""
    lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
    said = {}
    for node in ast.parse("\n".join(lines)).body[0].body:
        if isinstance(node, ast.AnnAssign):
            above = []
            while lines[node.lineno - 2 - len(above)].strip().startswith("#:"):
                above.insert(0, lines[node.lineno - 2 - len(above)].strip().removeprefix("#:").strip())
            said[node.target.id] = " ".join(above)
    return said


def default(field):
    """What a field is where nothing is said, as text; empty where something must be."""
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}`" if field.default_factory in (dict, list) else ""
    return "" if field.default is dataclasses.MISSING or callable(field.default) else f"`{field.default!r}`"


def in_words(kind, field):
    """The type of a field, with the choices that there are."""
    choices = typing.get_args(getattr(inspect.getmodule(kind), field.type.removesuffix(" | None"), None))
    named = " | ".join(f'"{choice}"' for choice in choices if isinstance(choice, str))
    return field.type.replace(field.type.removesuffix(" | None"), named) if named else field.type


def fields_page():
    """Every field of the classes that plugins deal with, with type, default and what it means."""
    lines = ["# Fields", "", "What [hooks of plugins](../plugins/README.md) give and get, field by field."]
    lines += ["A field without default must be given; all are given by name."]
    for module, kinds in CLASSES.items():
        for kind in kinds:
            said = {name: text for one in reversed(kind.__mro__[:-1]) for name, text in comments(one).items() if text}
            lines += ["", f"## {module}.{kind.__name__}", "", inspect.getdoc(kind), ""]
            above = {base.__name__: base for base in kind.__bases__ if dataclasses.is_dataclass(base)}
            lines += [line for name in above for line in (f"The fields of {name}, all of them given, and:", "")]
            known = {field.name for base in above.values() for field in dataclasses.fields(base)}
            lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
            for field in dataclasses.fields(kind):
                if field.name in known:
                    continue
                cells = f"`{field.name}`", f"`{in_words(kind, field)}`", default(field), said.get(field.name, "")
                lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def metrics_of(weights):
    """The metrics of a weights entry in one cell."""
    written = []
    for metric in weights.metrics:
        share = metric.name.endswith("accuracy")
        written.append(f"{metric.name} {cards.percent(metric.value) if share else f'{metric.value:.4g}'}")
    return "; ".join(written)


def models_page():
    """All models of our plugins: one table for each plugin, one row for each weights file."""
    lines = ["# Models", "", "All registered models by plugin, with the metrics of each weights file on its test set."]
    lines += [
        "Cards say how each was trained, how it was measured and what its paper reports. `zoo list` prints the same"
    ]
    lines += ['for all installed plugins; `zoo.load("MODEL.TAG")` loads a row, `zoo.load("MODEL")` its first tag.']
    listings = catalog.listings()
    for plugin in sorted({listing.plugin.name for listing in listings}):
        mine = [listing for listing in listings if listing.plugin.name == plugin]
        lines += ["", f"## {plugin}", ""]
        lines += [f"[`{mine[0].plugin.distribution}`](../plugins/{plugin})."]
        for paper in dict.fromkeys(listing.entry.paper for listing in mine if listing.entry.paper):
            lines += ["", f"- {paper}"]
        lines += ["", "| model | description | parameters | weights | metrics |", "|---|---|---:|---|---|"]
        for entry in (listing.entry for listing in mine):
            named = f"[`{entry.name}`](../cards/{entry.name}.md) | {entry.summary}"
            for weights in entry.weights or (None,):
                parameters = (weights and weights.parameters) or entry.parameters
                tag = f"`{weights.tag}`" if weights else "random only"
                lines.append(f"| {named} | {parameters:,} | {tag} | {metrics_of(weights) if weights else ''} |")
                named = " | "
    return "\n".join(lines) + "\n"


#: What Captum calls an option that is the same.
CAPTUM = {
    "baseline": "`baselines`",
    "n_steps": "`n_steps`",
    "integration": "`method`",
    "window": "`sliding_window_shapes` (with channels, in the batch's order of axes)",
    "stride": "`strides` (as above)",
    "n_samples": "`n_samples`; `nt_samples` of NoiseTunnel",
    "feature_mask": "`feature_mask`",
}


def options_table():
    """Every option of the built-in methods: its methods, with the default of each, and what is possible."""
    lines = ["| option | Captum's name | methods, with their default | expected | meaning |", "|---|---|---|---|---|"]
    for name, one in built_in().items():
        own = [(method.name, options_of(method)[name]) for method in BUILT_IN if name in options_of(method)]
        texts = {has.default_text for _, has in own}
        given = ", ".join(f"`{method}`" + ("" if has.default_text else f" {has.default}") for method, has in own)
        given += "".join(f" (default: {text})" for text in texts if text)
        lines.append(f"| `{name}` | {CAPTUM.get(name, '')} | {given} | {one.expected} | {one.text} |")
    return "\n".join(lines)


def methods_page():
    """docs/methods.md with the table of options as it is now."""
    before, heading, rest = (DOCS / "methods.md").read_text(encoding="utf-8").partition("## Options\n")
    _, following, after = rest.partition("\n## ")
    said = (
        "Keywords of `explain.attribute`, and flags of `explain attribute` (`n_steps` is `--n-steps`). `smooth_grad` "
        "takes the options of the method\nthat it smooths, too. `batch_size` is Captum's `internal_batch_size` and "
        "`perturbations_per_eval`, and limits every method. `steps`,\n`draws` and `features`, the former names of "
        "`n_steps`, `n_samples` and `feature_mask`, are deprecated."
    )
    return f"{before}{heading}\n{said}\n\n{options_table()}\n{following}{after}"


PAGES = {
    "commands.md": commands_page,
    "fields.md": fields_page,
    "methods.md": methods_page,
    "models.md": models_page,
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_what_commands_and_classes_say(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `python tests/test_reference.py`"


def test_the_page_of_fields_takes_what_stands_above_a_field():
    @dataclasses.dataclass
    class Two:
        #: One: a | b,
        #: and on.
        first: int | None = None
        second: dict = dataclasses.field(default_factory=dict)  #: not this

    assert comments(Two) == {"first": "One: a | b, and on.", "second": ""}
    assert [default(field) for field in dataclasses.fields(Two)] == ["`None`", "`{}`"]


@pytest.mark.parametrize(("name", "program"), [("zoo", zoo), ("explain", explain)])
def test_every_command_prints_json_where_asked_and_shows_an_example(name, program):
    assert len(program.commands) > 8
    for title, command in program.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, title
        assert f"{name} {title}" in command.epilog, title


if __name__ == "__main__":
    for name, made in PAGES.items():
        (DOCS / name).write_text(made(), encoding="utf-8")

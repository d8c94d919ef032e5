"""Helpers shared by several commands of `explain`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explain.attribution.methods import with_layer
from explain.attribution.options import FORMER, accepted, built_in, options_for, parsed
from zoo.commands.shared import options, output
from zoo.errors import ModelError

if TYPE_CHECKING:
    from explain.attribution import Attribution
    from explain.attribution.options import Option
    from explain.progress import Line
    from explain.reporting.pages import Report

out = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the results; new, empty, or an earlier result."
)
target = click.option(
    "--target",
    metavar="HEAD|HEAD:CLASS|HEAD[T,Y,X]|LAYER/UNIT|LAYER/UNIT:max|all",
    help="What to explain. Of an output that is a clip, the mean of a region: 'output[3]' is frame 3, "
    "'output[3, 10:18, 4:12]' rows 10 to 17 and columns 4 to 11 of it, 'output[y=5, x=7]' a pixel in all frames. Of a "
    "unit, :max is the highest activation, else the mean. `explain attribute` and `explain report` take `all` for "
    "every output. [default: the first output's predicted class, its value, or the part of a clip that is farthest "
    "from what it should be]",
)
layer = click.option("--layer", help="Layer for the methods that look at one (see `explain fields MODEL`).")


class _Value(click.ParamType):  # type: ignore[type-arg]  # generic in some versions
    """A value of a method's option."""

    name = "value"

    def __init__(self, of: Option) -> None:
        self.of = of

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the user's text."""
        try:
            return self.of.parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _flags(names: Sequence[str]) -> Iterator[Callable[[Any], Any]]:
    """Make a flag of each option of these names of built-in methods, and a hidden one of its deprecated name."""
    former, known = {now: name for name, now in FORMER.items()}, built_in()
    for name in names:
        one = known[name]
        given: dict[str, Any] = {"type": _Value(one), "multiple": name == "baseline"}
        text = f"{one.text} [default: {one.default_text or one.default}]"
        yield click.option(f"--{name.replace('_', '-')}", name, metavar=one.metavar, help=text, **given)
        if name in former:
            yield click.option(f"--{former[name]}", former[name], hidden=True, **given)


def method_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of attribution methods to a command, which receives those that are set as `options`.

    Args:
        names: Options that become flags; empty means all. If the command has `--method`, `--option NAME=VALUE` sets any
            other.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(*arguments: Any, texts: Sequence[str] = (), **given: Any) -> None:
            asked = {name: given.pop(name) for name in taken}
            chosen = {name: value for name, value in asked.items() if value not in (None, ())}
            if "baseline" in chosen:
                chosen["baseline"] = chosen["baseline"][0] if len(chosen["baseline"]) == 1 else list(chosen["baseline"])
            for name in chosen.keys() & FORMER.keys():
                now = FORMER[name]
                output.note(f"warning: --{name} is deprecated; it is now --{now.replace('_', '-')}")
                chosen.setdefault(now, chosen.pop(name))
            methods = [with_layer(name)[0] for name in given.get("methods", ())]
            chosen |= parsed(methods, texts)
            if methods:
                options_for(methods, chosen)
            command(*arguments, options=chosen, **given)

        known = names or tuple(built_in())
        taken = (*known, *(name for name, now in FORMER.items() if now in known))
        flags = list(_flags(known))
        if not names or "baseline" in names:
            flags.append(
                click.option(
                    "--option",
                    "texts",
                    multiple=True,
                    metavar="NAME=VALUE",
                    help="An option of a method by its name, as of a plugin's; may be given again.",
                )
            )
        for flag in reversed(flags):
            run = flag(run)
        return run

    return add


def opened(
    model: str,
    clip: str,
    weights: str,
    device: str,
    seed: int,
    dtype: str | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
    **numbers: Any,
) -> tuple[Any, Any, Any]:
    """Return the model, the decoded clip, and the preprocessed batch.

    Args:
        model: A name of the zoo.
        clip: Path or name of the clip.
        weights: As for `--weights`.
        device: As in `zoo.load`.
        seed: Random seed.
        dtype: As in `zoo.load`.
        start: Seconds of the clip at which to begin.
        end: Seconds at which to stop; None goes to the end.
        numbers: `num_classes` and `in_channels`, as in `zoo.load`.
    """
    import zoo
    from zoo import clips

    asked: dict[str, Any] = {"weights": options.resolve_weights(weights), "seed": seed, **numbers}
    loaded = zoo.load(model, device=device, dtype=dtype, **asked)
    decoded = clips.decode(clip, start=start, end=end, spec=clips.spec_of(loaded))
    if dtype is not None:
        from explain.reporting.reading import changed

        told = changed(loaded, decoded, model, **asked)
        decoded = dataclasses.replace(decoded, warnings=(*decoded.warnings, *filter(None, [told])))
    return loaded, decoded, zoo.preprocess(decoded, loaded)


def warn(written: Report) -> None:
    """Print failures of a page and notices for its reader."""
    for problem in written.problems:
        output.note("warning: " + ": ".join(filter(None, (problem[key] for key in ("section", "plugin", "reason")))))
    for warning in written.warnings:
        output.note(f"warning: {warning}")


def targets_of(model: Any, batch: Any, asked: str | None) -> dict[str, Any]:
    """Return the targets by head; "" is the key of a single target, as requested."""
    if asked != "all":
        return {"": asked}
    from explain.model.targets import resolve
    from zoo.models.heads import output_specs
    from zoo.models.prediction import outputs

    heads = output_specs(model, outputs(model, batch))
    return {head if heads.keys() - {head} else "": resolve(model, batch, head=head) for head in heads}


def attributed(
    model: Any,
    batch: Any,
    methods: Sequence[str],
    line: Line,
    *,
    target: Any,
    options: Mapping[str, Any],
    **common: Any,
) -> list[Attribution]:
    """Compute each method's attribution, in order; single-pass methods share one pass, and the target is kept."""
    from explain.attribution import attribute

    sharing = [name for name in methods if with_layer(name)[0].reads]
    found: dict[str, Attribution] = {}
    for names in ([sharing] if sharing else []) + [[name] for name in methods if name not in sharing]:
        progress = line.step(", ".join(names))
        own: dict[str, Any] = {}
        for name in names:
            own |= accepted(with_layer(name)[0], options)
        try:
            results = attribute(model, batch, method=names, target=target, progress=progress, **common, **own)
        except ModelError as error:
            raise ModelError(f"{error}; `explain methods MODEL` says which methods apply") from error
        found |= zip(names, results, strict=True)
        target = results[0].target
    return [found[name] for name in methods]

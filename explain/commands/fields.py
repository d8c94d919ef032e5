"""`explain fields`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from explain.commands import shared
from zoo.commands.shared import options, output
from zoo.names import is_pattern


@click.command(
    cls=options.Examples,
    epilog="explain fields conv3d --weights none --layers 'body.res?_?' --figure conv3d.svg\n"
    "explain fields conv3d sample:blinking_mnist/3 --effective --layers 'body.res?_1' --figure effective.svg",
)
@click.argument("model")
@click.argument("clip", required=False)
@click.option(
    "--layers",
    "pattern",
    metavar="PATTERN",
    help="Only layers of this name, wildcards allowed; blocks made of several layers are among them.",
)
@click.option(
    "--figure",
    type=click.Path(path_type=Path),
    metavar="FILE.svg",
    help="Draw which frames one unit depends on, layer by layer; with --effective, where units look in the clip.",
)
@click.option(
    "--effective",
    is_flag=True,
    help="Measure by gradients how far the middle unit of each layer does look: on CLIP, else on noise.",
)
@click.option(
    "--draws",
    default=4,
    show_default=True,
    type=options.Count(min=1),
    help="With --effective: draws of the signs by which a layer's channels are added.",
)
@click.option(
    "--unit",
    metavar="LAYER/POSITION",
    help="The unit drawn: its layer or block, and its position in time from 0. [default: one of the deepest layer]",
)
@options.cut
@options.weights
@options.num_classes
@options.in_channels
@options.device
@options.seed
@options.as_json
def fields(
    model: str,
    clip: str | None,
    pattern: str | None,
    figure: Path | None,
    unit: str | None,
    draws: int,
    start: float,
    end: float | None,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    seed: int,
    *,
    effective: bool,
    as_json: bool,
) -> None:
    """Show the receptive field of each layer of MODEL in frames and pixels and, with --effective, the effective one."""
    import dataclasses
    from fnmatch import fnmatchcase

    from zoo import writing
    from zoo.errors import ModelError, UnknownNameError, UsageError

    if figure is not None:
        if figure.suffix.lower() != ".svg":
            raise UsageError(f"--figure {figure}: the drawing is an SVG; give a name that ends in .svg")
        writing.check_writable(figure)
    layer, _, at = (unit or "").rpartition("/")
    if unit is not None and not (layer and at.isascii() and at.isdigit()):
        raise UsageError(f"--unit {unit}: expected LAYER/POSITION, for example lstm/0")

    if effective and unit is not None:
        raise UsageError("--unit goes with the drawing of frames; --effective takes the middle unit of each layer")
    if clip is None and (start or end is not None):
        raise UsageError("--start and --end cut a CLIP; name one")
    if clip is not None and not effective:
        raise UsageError("a CLIP goes with --effective; what a layer can see does not depend on it")

    import zoo
    from explain.fields.theoretical import trace
    from explain.progress import Line

    batch = None
    if clip is None:
        loaded: Any = zoo.load(
            model,
            weights=options.resolve_weights(weights),
            num_classes=num_classes,
            in_channels=in_channels,
            device=device,
            seed=seed,
        )
    else:
        loaded, decoded, batch = shared.opened(
            model,
            clip,
            weights,
            device,
            seed,
            start=start,
            end=end,
            num_classes=num_classes,
            in_channels=in_channels,
        )
        for warning in decoded.warnings:
            output.note(f"warning: {warning}")
    spec = loaded.zoo_entry
    modules = dict(loaded.named_modules(remove_duplicate=False))  # fail on a wrong name before the trace
    if layer and layer not in modules:
        raise UnknownNameError("layer", layer, filter(None, modules), f"`explain fields {model}` lists layers")
    wildcards = is_pattern(pattern or "")
    if pattern is not None and not any(fnmatchcase(name, pattern) for name in modules):
        hint = f"`explain fields {model} --layers '*'` lists them"
        raise UnknownNameError("layer", pattern, filter(None, modules), hint, pattern=wildcards)
    block = bool(layer) and next(modules[layer].children(), None) is not None
    with Line() as line:
        follow = line.step("following frames")
        traced = trace(loaded, spec.input.shape, blocks=block or pattern is not None, progress=follow)
    found = [row for row in traced.rows if fnmatchcase(row.layer, pattern or "*")]
    if pattern is None:
        found = [row for row in found if row.kind != "block"]  # traced only for the drawing
    elif not found:
        raise UnknownNameError("layer with a field", pattern, [row.layer for row in traced.rows], pattern=wildcards)
    measured = _effective(loaded, batch, found, traced, draws, seed, figure) if effective else {}
    drawn = None
    if not effective and (figure is not None or unit is not None or as_json):
        from explain.drawing.fields import temporal_field, write_temporal

        drawn = temporal_field(traced, layer or None, int(at) if unit else None)
        if drawn is None and (figure is not None or unit is not None):
            raise ModelError(
                f"{model} has no layer whose units could be followed through several frames; none is drawn"
            )
        if drawn is not None and figure is not None:
            writing.write(figure, write_temporal(drawn))
            output.note(f"wrote {figure}: {drawn.sentence}")
    differ = any(row.frame_field != row.field[1:] for row in found)
    rows = [
        [
            row.layer,
            row.kind,
            _product(row.kernel),
            ("" if row.exact else ">=") + (f"all {row.field[0]}" if row.whole[0] else str(row.field[0])),
            "all" if all(row.whole[1:]) else _product(row.field[1:]),
            *([_product(row.frame_field)] if differ else []),
            _product(row.stride),
            *([_looked(measured.get(row.layer))] if effective else []),
        ]
        for row in found
    ]
    if not all(row.exact for row in found):
        output.note(
            "note: of layers marked >=, gradients show no more than this, or could not be taken; they may see further"
        )
    sees = ["sees frames", "sees H x W", *(["of its own frame"] if differ else [])]
    header = ["layer", "kind", "kernel T x H x W", *sees, "stride T x H x W"]
    data: dict[str, Any] = {
        "layers": [dataclasses.asdict(row) for row in found],
        "temporal_field": drawn and drawn.data,
    }
    if effective:
        header.append("looks at T x H x W (95 % each)")
        data["effective"] = [one.record() for one in measured.values()]
    text = output.table(header, rows)
    if drawn is not None and figure is None:
        text = f"{text}\n\n{drawn.sentence}"
    output.emit(data, text, as_json=as_json)


def _effective(
    loaded: Any, batch: Any, rows: list[Any], traced: Any, draws: int, seed: int, figure: Path | None
) -> dict[str, Any]:
    """Measure the effective fields of some layers by name, drawn if requested."""
    from explain.drawing import fields as drawing
    from explain.drawing.numbers import evenly
    from explain.drawing.sprites import as_frames
    from explain.fields.effective import effective_fields, noise
    from explain.progress import Line
    from explain.robustness.perturbed_clips import Spoiled
    from zoo import writing

    layers = list(dict.fromkeys(row.layer for row in rows if row.layer))
    batch = noise(loaded, seed) if batch is None else batch
    missing: dict[str, str] = {}
    with Line() as line:
        found = effective_fields(
            loaded,
            layers,
            batch,
            draws=draws,
            seed=seed,
            traced=traced,
            missing=missing,
            progress=line.step("effective fields"),
        )
    for reason in missing.values():
        output.note(f"note: {reason}")
    if figure is not None and found:
        chosen = [found[at] for at in evenly(len(found), drawing.MOST)]
        frames = as_frames(Spoiled(loaded, batch, fill="grey", seed=seed).clips[0])
        writing.write(figure, drawing.write_effective(chosen, frames))
        output.note(f"wrote {figure}: {', '.join(one.layer for one in chosen)}")
    return {one.layer: one for one in found}


def _looked(field: Any) -> str:
    if field is None:
        return "-"
    return _product(field.extent) if field.box is not None else "nothing"


def _product(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)

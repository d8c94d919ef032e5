"""The command `explain`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import devices, options, output

if TYPE_CHECKING:
    from explain.attribution import Attribution

_out = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the results; new, empty, or an earlier result."
)
_target = click.option(
    "--target",
    metavar="HEAD|HEAD:CLASS|LAYER/UNIT|LAYER/UNIT:max",
    help="What to explain; :max is a unit's highest activation, else its mean. [default: the first output's predicted "
    "class]",
)
_layer = click.option("--layer", help="Layer for the methods that look at one (see `explain fields MODEL`).")
_steps = click.option(
    "--steps", default=32, show_default=True, type=options.Count(min=1), help="Steps of integrated gradients."
)


commands = options.program(
    "explain",
    "See what video models learned: attributions, maximised units, receptive fields, and reports of them all.",
)


@commands.command(epilog="explain report conv3d sample:blinking_mnist/3 --out report")
@click.argument("model")
@click.argument("clip")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write: a new one, an empty one, or an earlier report, which is replaced.",
)
@click.option(
    "--method", "methods", multiple=True, help="Attribution method; may be given again. [default: six usual ones]"
)
@click.option("--section", "sections", multiple=True, help="Section to write; may be given again. [default: all]")
@_target
@_layer
@_steps
@click.option(
    "--unit-layer",
    "unit_layers",
    multiple=True,
    help="Layer whose units are maximised; may be given again. [default: 3]",
)
@click.option("--units", default=2, show_default=True, type=options.Count(min=1), help="Units maximised in each layer.")
@click.option(
    "--unit-steps", default=64, show_default=True, type=options.Count(min=1), help="Steps of each maximisation."
)
@click.option("--thorough", is_flag=True, help="Test at length whether maps can be trusted; takes many times as long.")
@options.weights
@options.device
@options.seed
@options.as_json
def report(
    model: str,
    clip: str,
    out: Path,
    methods: tuple[str, ...],
    sections: tuple[str, ...],
    target: str | None,
    layer: str | None,
    steps: int,
    unit_layers: tuple[str, ...],
    units: int,
    unit_steps: int,
    weights: str,
    device: str,
    seed: int,
    *,
    thorough: bool,
    as_json: bool,
) -> None:
    """Write a report on what MODEL looks at in CLIP: a video, an image, a folder of images, or sample:NAME."""
    import explain
    from explain.progress import Line

    with Line() as line:
        written = explain.report(
            model,
            clip,
            out,
            methods=methods or None,
            sections=sections or None,
            target=target,
            device=device,
            weights=options.resolve_weights(weights),
            layer=layer,
            steps=steps,
            unit_layers=unit_layers or 3,
            units=units,
            unit_steps=unit_steps,
            thorough=thorough,
            seed=seed,
            progress=line.show,
        )
    for problem in written.problems:
        output.note(f"warning: {problem['plugin']}: {problem['reason']}")
    for warning in written.warnings:
        output.note(f"warning: {warning}")
    data = {
        "page": str(written.page),
        "model": written.data["model"],
        "clip": written.data["clip"],
        "target": written.data["target"],
        "seconds": written.data["run"]["total_seconds"],
        "warnings": written.warnings,
        "problems": written.problems,
    }
    output.emit(data, f"wrote {written.page}: {written.data['summary']}".strip(), as_json=as_json)


@commands.command(epilog="explain attribute conv3d sample:blinking_mnist/3 --method saliency --out maps")
@click.argument("model")
@click.argument("clip")
@click.option("--method", "methods", multiple=True, required=True, help="Attribution method; may be given again.")
@_out
@_target
@_layer
@_steps
@click.option("--draws", type=options.Count(min=1), help="How often methods that draw do so. [default: each its own]")
@click.option(
    "--features",
    metavar="grid|supervoxels",
    help="What is removed at once, for the methods that choose. [default: own]",
)
@click.option(
    "--fill",
    default="freeze",
    show_default=True,
    metavar="freeze|drop|repeat|cover",
    help="What temporal_occlusion puts in the place of frames.",
)
@click.option(
    "--order",
    default="reverse",
    show_default=True,
    metavar="reverse|shuffle",
    help="The order that frame_order plays frames in.",
)
@click.option(
    "--smooth", default="saliency", show_default=True, metavar="METHOD", help="The method that smooth_grad smooths."
)
@options.weights
@options.device
@options.seed
@options.as_json
def attribute(
    model: str,
    clip: str,
    methods: tuple[str, ...],
    out: Path | None,
    target: str | None,
    layer: str | None,
    steps: int,
    draws: int | None,
    features: str | None,
    fill: str,
    order: str,
    smooth: str,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Attribute what MODEL says about CLIP to its frames and pixels; --out keeps the maps as safetensors.

    With --target LAYER/UNIT:max, the frame that adds most to the unit's highest activation is named; --out keeps it,
    and each map in it, as pictures.
    """
    from explain.attribution.methods import find_method
    from explain.reporting import writing

    methods = tuple(dict.fromkeys(methods))
    for name in methods:
        find_method(name)
    if out is not None:
        writing.check(out, "attribution")

    from explain.attribution import attribute
    from explain.progress import Line

    loaded, decoded, batch = _opened(model, clip, weights, device, seed)
    results: list[Attribution] = []
    with Line() as line:
        for name in methods:
            progress = line.step(name)
            chosen = layer if find_method(name).needs_layer else None
            results.append(
                attribute(
                    loaded,
                    batch,
                    method=name,
                    target=target,
                    layer=chosen,
                    steps=steps,
                    draws=draws,
                    features=features,
                    fill=fill,
                    order=order,
                    smooth=smooth,
                    seed=seed,
                    progress=progress,
                )
            )
    data: list[dict[str, Any]] = [
        {
            "method": result.method,
            "target": str(result.target),
            "layer": result.layer,
            "settings": dict(result.settings),
            "delta": None if result.delta is None else float(result.delta[0]),
            "time": result.time[0].tolist(),
            "peak": int(result.time[0].argmax()),
            "position": None if result.target.positions is None else result.target.positions[0].tolist(),
            "frame": None if result.frame is None else int(result.frame[0]),
        }
        for result in results
    ]
    frame = data[0]["frame"]
    for warning in decoded.warnings:
        output.note(f"warning: {warning}")
    if out is not None:
        import safetensors.torch

        tensors = {}
        for result in results:
            tensors[f"{result.method}/raw"] = result.raw.cpu().contiguous()
            tensors[f"{result.method}/map"] = result.map.cpu().contiguous()
        files = {"tensors.safetensors": safetensors.torch.save(tensors)}
        if frame is not None:
            files |= _stills(loaded, batch, results)
        writing.write(
            out, "attribution", {"model": model, "clip": decoded.source, "seed": seed, "methods": data}, files
        )
        output.note(f"wrote {out}: {', '.join(files)}")
    rows = [
        [row["method"], row["target"], row["layer"] or "-", row["peak"], f"{row['time'][row['peak']]:.3g}"]
        for row in data
    ]
    text = output.table(["method", "target", "layer", "strongest frame", "there"], rows)
    if frame is not None:
        step, row, column = data[0]["position"]
        text += (
            f"\n\n{results[0].target} is {float(results[0].target.value[0]):.3g}, at time step {step}, row {row}, "
            f"column {column} of the layer; frame {frame} of the clip adds most to it"
        )
    output.emit(data, text, as_json=as_json)


@commands.command(epilog="explain maximize conv3d --layer body.res4_4 --unit 3 --unit 7 --out units")
@click.argument("model")
@click.option("--layer", required=True, help="Layer of the units (see `explain fields MODEL`).")
@click.option(
    "--unit", "units", multiple=True, required=True, type=options.Count(min=0), help="Unit; may be given again."
)
@click.option("--steps", default=256, show_default=True, type=options.Count(min=1), help="Steps of the optimisation.")
@click.option(
    "--parametrization",
    default="fourier3d",
    show_default=True,
    metavar="fourier3d|fourier2d|pixel",
    help="What is optimised: a clip's spectrum, that of one image shown in every frame, or a clip's pixels.",
)
@_out
@options.weights
@options.device
@options.seed
@options.as_json
def maximize(
    model: str,
    layer: str,
    units: tuple[int, ...],
    steps: int,
    parametrization: str,
    out: Path | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Make up clips that excite single units of MODEL; --out keeps them as animations and safetensors."""
    from explain.reporting import writing

    if out is not None:
        writing.check(out, "maximization")

    import zoo
    from explain.maximization import maximize
    from explain.maximization.parametrizations import find_parametrization
    from explain.progress import Line

    find_parametrization(parametrization)
    loaded = zoo.load(model, weights=options.resolve_weights(weights), device=device, seed=seed)
    with Line() as line:
        result = maximize(
            loaded,
            layer,
            list(units),
            steps=steps,
            parametrization=parametrization,
            seed=seed,
            progress=line.step(f"maximising {layer}"),
        )
    data: list[dict[str, Any]] = [
        {
            "layer": layer,
            "unit": unit,
            "initial": float(result.initial[index]),
            "activation": float(result.activation[index]),
            "history": result.history[:, index].tolist(),
        }
        for index, unit in enumerate(units)
    ]
    if out is not None:
        import safetensors.torch

        from explain.reporting.media import animation, as_frames

        # A still is one picture: an animation of equal frames.
        shown = result.clips[:, :, :1] if parametrization == "fourier2d" else result.clips
        files = {
            f"unit-{unit}.webp": animation(as_frames(shown[index]), frames_per_second=12, scale=4)
            for index, unit in enumerate(units)
        }
        files["tensors.safetensors"] = safetensors.torch.save({"clips": result.clips.cpu().contiguous()})
        about = {"model": model, "steps": steps, "parametrization": parametrization, "seed": seed, "units": data}
        writing.write(out, "maximization", about, files)
        output.note(f"wrote {out}: {', '.join(files)}")
    rows = [[row["layer"], row["unit"], f"{row['initial']:.3g}", f"{row['activation']:.3g}"] for row in data]
    output.emit(data, output.table(["layer", "unit", "activation at the start", "at the end"], rows), as_json=as_json)


@commands.command(epilog="explain fields conv3d --weights none --layers 'body.res?_?' --figure conv3d.svg")
@click.argument("model")
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
    help="Draw which frames one unit depends on, layer by layer.",
)
@click.option(
    "--unit",
    metavar="LAYER/POSITION",
    help="The unit drawn: its layer or block, and its position in time from 0. [default: one of the deepest layer]",
)
@options.weights
@options.device
@options.seed
@options.as_json
def fields(
    model: str,
    pattern: str | None,
    figure: Path | None,
    unit: str | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Show how many frames and pixels each layer of MODEL can see."""
    import dataclasses
    from fnmatch import fnmatchcase

    from zoo import catalog, writing
    from zoo.errors import ModelError, UnknownNameError, UsageError

    if figure is not None:
        if figure.suffix.lower() != ".svg":
            raise UsageError(f"--figure {figure}: the drawing is an SVG; give a name that ends in .svg")
        writing.check_writable(figure)
    layer, _, at = (unit or "").rpartition("/")
    if unit is not None and not (layer and at.isascii() and at.isdigit()):
        raise UsageError(f"--unit {unit}: expected LAYER/POSITION, for example lstm/0")

    import zoo
    from explain.fields import trace

    loaded = zoo.load(model, weights=options.resolve_weights(weights), device=device, seed=seed)
    spec: Any = loaded.zoo_entry
    modules = dict(loaded.named_modules(remove_duplicate=False))  # a wrong name need not wait for the trace
    if layer and layer not in modules:
        raise UnknownNameError("layer", layer, filter(None, modules), f"`explain fields {model}` lists layers")
    wildcards = catalog.is_pattern(pattern or "")
    if pattern is not None and not any(fnmatchcase(name, pattern) for name in modules):
        raise UnknownNameError("layer", pattern, filter(None, modules), pattern=wildcards)
    block = bool(layer) and next(modules[layer].children(), None) is not None
    traced = trace(loaded, _batch_shape(spec.input), blocks=block or pattern is not None)
    found = [row for row in traced.rows if fnmatchcase(row.layer, pattern or "*")]
    if pattern is None:
        found = [row for row in found if row.kind != "block"]  # traced for the drawing alone
    elif not found:
        raise UnknownNameError("layer with a field", pattern, [row.layer for row in traced.rows], pattern=wildcards)
    drawn = None
    if figure is not None or unit is not None or as_json:
        from explain.reporting.temporal_fields import temporal_field, write

        drawn = temporal_field(traced, layer or None, int(at) if unit else None)
        if drawn is None and (figure is not None or unit is not None):
            raise ModelError(
                f"{model} has no layer whose units could be followed through several frames; none is drawn"
            )
        if drawn is not None and figure is not None:
            writing.write(figure, write(drawn))
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
        ]
        for row in found
    ]
    if not all(row.exact for row in found):
        output.note(
            "note: something that is no layer mixes or leaves out frames; behind it, at least so many frames are seen"
        )
    sees = ["sees frames", "sees H x W", *(["of its own frame"] if differ else [])]
    header = ["layer", "kind", "kernel T x H x W", *sees, "stride T x H x W"]
    data = {"layers": [dataclasses.asdict(row) for row in found], "temporal_field": drawn and drawn.data}
    text = output.table(header, rows)
    if drawn is not None and figure is None:
        text = f"{text}\n\n{drawn.sentence}"
    output.emit(data, text, as_json=as_json)


@commands.command(
    epilog="explain compare conv2d conv3d --out comparison\n"
    "explain compare conv2d conv3d --clip sample:blinking_mnist/3 --out comparison"
)
@click.argument("models", nargs=-1, metavar="MODEL MODEL...")
@click.option("--clip", help="Compare on this clip, too: a video, an image, a folder of images, or sample:NAME.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write: a new one, an empty one, or an earlier comparison, which is replaced.",
)
@click.option(
    "--method", "methods", multiple=True, help="Attribution method; may be given again. [default: three usual ones]"
)
@click.option("--section", "sections", multiple=True, help="Section to write; may be given again. [default: all]")
@_target
@_steps
@options.weights
@options.device
@options.seed
@options.as_json
def compare(
    models: tuple[str, ...],
    clip: str | None,
    out: Path,
    methods: tuple[str, ...],
    sections: tuple[str, ...],
    target: str | None,
    steps: int,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Compare two or more models: what was measured of each, and with --clip what each sees in CLIP.

    MODEL is a name of the zoo, or a FILE.json that `zoo evaluate NAME --out FILE.json` or a training run wrote.
    """
    import explain
    from explain.progress import Line

    with Line() as line:
        written = explain.compare(
            models,
            out,
            clip=clip,
            methods=methods or None,
            sections=sections or None,
            target=target,
            device=device,
            weights=options.resolve_weights(weights),
            steps=steps,
            seed=seed,
            progress=line.show,
        )
    for problem in written.problems:
        output.note(f"warning: {problem['plugin']}: {problem['reason']}")
    for warning in written.warnings:
        output.note(f"warning: {warning}")
    data = {
        "page": str(written.page),
        "models": written.data["models"],
        "clip": written.data["clip"],
        "seconds": written.data["run"]["total_seconds"],
        "warnings": written.warnings,
        "problems": written.problems,
    }
    output.emit(data, f"wrote {written.page}: {written.data['summary']}".rstrip(": "), as_json=as_json)


@commands.command(
    epilog="explain temporal conv3d\nexplain temporal 3t_resnet18_w16.rotation 3t_resnet18_w16.translation --out motion"
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL [MODEL...]")
@click.option("--layers", "pattern", metavar="PATTERN", help="Only layers of this name, wildcards allowed.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for every parameter and the drawings; new, empty, or an earlier result.",
)
@options.weights
@options.device
@options.seed
@options.as_json
def temporal(
    models: tuple[str, ...],
    pattern: str | None,
    out: Path | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Show how the filters of each MODEL move in time: how they scale, turn and shift from slice to slice.

    Layers that say it (3TConv) are read; to other 3D filters motion is fitted. Parameters are those of the layer
    (s > 1 shrinks its pattern); what is said of patterns is what one sees. --out keeps every parameter.
    """
    from explain.reporting import writing
    from zoo import catalog
    from zoo.errors import ModelError, UnknownNameError

    models = tuple(dict.fromkeys(models))
    for name in models:
        catalog.find(name)  # a wrong name need not wait for the models before it
    if out is not None:
        writing.check(out, "temporal")

    import zoo
    from explain.progress import Line
    from explain.temporal import kernel_of, tables, temporal_parameters

    found, kernels = {}, {}
    with Line() as line:
        for name in models:
            loaded = zoo.load(name, weights=options.resolve_weights(weights), device=device, seed=seed)
            try:
                found[name] = temporal_parameters(loaded, pattern, progress=line.step(name))
            except (ModelError, UnknownNameError) as error:
                error.args = (f"{name}: {error}",)
                raise
            if out is not None:
                known = {layer: kernel_of(loaded.get_submodule(layer)) for layer in found[name].layers}
                kernels[name] = {layer: kernel.detach() for layer, kernel in known.items() if kernel is not None}
    if out is not None:
        from explain.reporting.motion_files import drawings

        files = drawings(found, kernels)
        record = {"seed": seed, "models": {name: tables.record(one) for name, one in found.items()}}
        writing.write(out, "temporal", record, files)
        output.note(f"wrote {out}: {', '.join(['temporal.json', *files])}")
    parts = []
    for name, one in found.items():
        absolute, signed = output.table(*tables.absolute_table(one)), output.table(*tables.signed_table(one))
        parts.append(f"{name}\n\n{tables.ABSOLUTE}\n{absolute}\n\n{tables.SIGNED}\n{signed}")
    data = {"models": {name: tables.summary(one) for name, one in found.items()}}
    output.emit(data, "\n\n".join(parts), as_json=as_json)


@commands.command(
    epilog="explain faithfulness conv3d sample:blinking_mnist/3 --method saliency --method grad_cam --steps 16 "
    "--depths 4"
)
@click.argument("model")
@click.argument("clip")
@click.option("--method", "methods", multiple=True, required=True, help="Attribution method; may be given again.")
@_out
@_target
@_layer
@click.option("--steps", default=64, show_default=True, type=options.Count(min=1), help="Points of each curve.")
@click.option(
    "--draws", default=8, show_default=True, type=options.Count(min=2), help="Random orders that maps compete with."
)
@click.option(
    "--depths",
    type=options.Count(min=1),
    help="Depths at which the model is randomised; 1 is the last layer alone. [default: every layer]",
)
@options.weights
@options.device
@options.seed
@options.as_json
def faithfulness(
    model: str,
    clip: str,
    methods: tuple[str, ...],
    out: Path | None,
    target: str | None,
    layer: str | None,
    steps: int,
    draws: int,
    depths: int | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Tell whether maps of what MODEL says about CLIP can be trusted.

    That is, whether they depend on the model at all, and find what its output rests on better than chance does.
    Shares: 1 is the unchanged output, and one unit the change that removing the whole clip makes. --out keeps all
    curves.
    """
    from explain.attribution.methods import find_method
    from explain.reporting import writing

    methods = tuple(dict.fromkeys(methods))
    for name in methods:
        find_method(name)
    if out is not None:
        writing.check(out, "faithfulness")

    from explain.attribution import attribute
    from explain.faithfulness.checking import Effort, check_all
    from explain.faithfulness.records import record
    from explain.progress import Line

    loaded, decoded, batch = _opened(model, clip, weights, device, seed)
    maps: list[Attribution] = []
    with Line() as line:
        for name in methods:
            chosen = layer if find_method(name).needs_layer else None
            what = maps[0].target if maps else target
            maps.append(
                attribute(loaded, batch, method=name, target=what, layer=chosen, seed=seed, progress=line.step(name))
            )
        effort = Effort(steps=steps, draws=draws, depths=depths)
        results = check_all(loaded, batch, maps, effort, seed=seed, progress=line.show)
    data = [record(result) for result in results]
    for warning in decoded.warnings:
        output.note(f"warning: {warning}")
    if out is not None:
        writing.write(out, "faithfulness", {"model": model, "clip": decoded.source, "seed": seed, "methods": data}, {})
        output.note(f"wrote {out}: faithfulness.json")
    rows, sentences = [], []
    for row in data:
        main = list(row["curves"].values())[-1] if row["curves"] else None
        areas = [
            [_share(main[f"{order}{kind}"]["area"]) if main else "-" for order in ("", "random_", "centre_")]
            for kind in ("deletion", "insertion")
        ]
        first = row["randomization"][0]["correlation"] if row["randomization"] else None
        rows.append(
            [
                row["method"],
                row["verdict"],
                *(f"{own} ({random}, {middle})" for own, random, middle in areas),
                _share(row["infidelity"]),
                _share(row["sensitivity"]),
                _share(first),
            ]
        )
        sentences += [f"{row['method']}: {reason['text']}" for reason in row["reasons"].values()]
    header = ["method", "verdict", "deletion (random, centre)", "insertion (random, centre)", "infidelity"]
    text = output.table([*header, "sensitivity", "rank correlation, last layer random"], rows)
    output.emit(data, "\n\n".join([text, "\n".join(sentences)]), as_json=as_json)


@commands.command(epilog="explain methods --json\nexplain methods conv3d")
@click.argument("model", required=False)
@_target
@options.as_json
def methods(model: str | None, target: str | None, *, as_json: bool) -> None:
    """List the attribution methods; with MODEL, say which of them apply to it, and why the others do not."""
    from explain.attribution.methods import all_methods

    if model is not None:
        _applicable(model, target, as_json=as_json)
        return
    found = all_methods().values()
    data = [
        {"name": one.name, "summary": one.summary, "needs_layer": one.needs_layer, "source": one.source}
        for one in found
    ]
    output.emit(
        data, output.table(["method", "shows"], [[row["name"], row["summary"]] for row in data]), as_json=as_json
    )


def _applicable(model: str, target: str | None, *, as_json: bool) -> None:
    import torch

    import zoo
    from explain.attribution import applicability

    loaded = zoo.load(model, weights=None)
    spec: Any = loaded.zoo_entry
    noise = torch.rand(_batch_shape(spec.input), generator=torch.Generator().manual_seed(0))
    reasons = applicability(loaded, noise, target)
    data = [{"name": name, "applies": not reason, "reason": reason} for name, reason in reasons.items()]
    rows = [[row["name"], "yes" if row["applies"] else "no", row["reason"]] for row in data]
    output.emit(data, output.table(["method", "applies", "reason"], rows), as_json=as_json)


def _opened(model: str, clip: str, weights: str, device: str, seed: int) -> tuple[Any, Any, Any]:
    """The model, the clip as it was read, and the batch that the model takes of it."""
    import zoo
    from zoo import clips

    loaded = zoo.load(model, weights=options.resolve_weights(weights), device=device, seed=seed)
    decoded = clips.decode(clip, spec=clips.spec_of(loaded))
    return loaded, decoded, zoo.preprocess(decoded, loaded)


def _stills(model: Any, batch: Any, results: list[Attribution]) -> dict[str, bytes]:
    """The frame that adds most to a unit's highest activation, and each method's map over it, as PNG files."""
    from explain.display import to_display
    from explain.layouts import input_of, layout_of
    from explain.reporting import colour
    from explain.reporting.media import as_frames, still

    at = int(results[0].frame[0])  # type: ignore[index]  # called where there is one
    frame = as_frames(to_display(batch, input_of(model), layout_of(model, batch))[0])[at]
    files = {"frame.png": still(frame)}
    for result in results:
        values = result.map[0, at].float().cpu().numpy()
        colours = colour.signed() if values.min() < 0 else colour.magnitude()
        files[f"{result.method}.png"] = still(frame, values / max(abs(values).max(), 1e-30), colours)
    return files


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _batch_shape(spec: Any) -> tuple[int, ...]:
    """Shape of a batch of one sample."""
    channels, frames, size = spec.channel_count, spec.frames, spec.size
    if spec.layout == "NCHW":
        return (1, channels, *size)
    return (1, channels, frames, *size) if spec.layout == "NCTHW" else (1, frames, channels, *size)


def _product(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def main() -> None:
    """Run the command line; the signal that ends processes cleans up like Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    devices.keep_freed_memory()  # all that takes long here runs one network over and over
    output.run(commands)

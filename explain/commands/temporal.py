"""`explain temporal`."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.commands.shared import options, output


@click.command(
    cls=options.Examples,
    epilog="explain temporal conv3d\n"
    "explain temporal 3t_resnet18_w16.rotation 3t_resnet18_w16.translation --out motion",
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL [MODEL...]")
@click.option("--layers", "pattern", metavar="PATTERN", help="Only layers of this name, wildcards allowed.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for every parameter and the drawings; new, empty, or an earlier result.",
)
@options.weights
@options.num_classes
@options.in_channels
@options.device
@options.seed
@options.as_json
def temporal(
    models: tuple[str, ...],
    pattern: str | None,
    out: Path | None,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Show the motion of the filters of each MODEL: how they scale, rotate and shift from slice to slice.

    Layers with temporal parameters (3TConv) are read; for other 3D filters motion is fitted. Parameters are those of
    the layer (s > 1 shrinks its pattern); descriptions of patterns refer to what is visible. --out saves every
    parameter; `explain.TemporalParameters.load` reads them.
    """
    from explain.reporting import writing
    from zoo.errors import ModelError, UnknownNameError
    from zoo.registry import catalog

    models = tuple(dict.fromkeys(models))
    for name in models:
        catalog.find(name)  # fail on a wrong name before loading the models
    if out is not None:
        writing.check(out, "temporal")

    import zoo
    from explain.progress import Line
    from explain.temporal import kernel_of, tables, temporal_parameters

    found, kernels = {}, {}
    with Line() as line:
        for name in models:
            loaded = zoo.load(
                name,
                weights=options.resolve_weights(weights),
                num_classes=num_classes,
                in_channels=in_channels,
                device=device,
                seed=seed,
            )
            try:
                found[name] = temporal_parameters(loaded, pattern, progress=line.step(name))
            except (ModelError, UnknownNameError) as error:
                error.args = (f"{name}: {error}",)
                raise
            if out is not None:
                known = {layer: kernel_of(loaded.get_submodule(layer)) for layer in found[name].layers}
                kernels[name] = {layer: kernel.detach() for layer, kernel in known.items() if kernel is not None}
    if out is not None:
        from explain.drawing.motion import drawings, file_stem
        from explain.results import packed

        files = {f"{file_stem(name)}.safetensors": packed(one) for name, one in found.items()}
        files |= drawings(found, kernels)
        record = {"seed": seed, "models": {name: tables.record(one) for name, one in found.items()}}
        writing.write(out, "temporal", record, files)
        output.note(f"wrote {out}: {', '.join(['temporal.json', *files])}")
    parts = []
    for name, one in found.items():
        absolute, signed = output.table(*tables.absolute_table(one)), output.table(*tables.signed_table(one))
        parts.append(f"{name}\n\n{tables.ABSOLUTE}\n{absolute}\n\n{tables.SIGNED}\n{signed}")
    data = {"models": {name: tables.summary(one) for name, one in found.items()}}
    output.emit(data, "\n\n".join(parts), as_json=as_json)

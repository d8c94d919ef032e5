"""`explain attribute`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explain.attribution.methods import with_layer
from explain.commands import shared
from zoo.commands.shared import options as cli
from zoo.commands.shared import output

if TYPE_CHECKING:
    from explain.attribution import Attribution


@click.command(cls=cli.Examples, epilog="explain attribute conv3d sample:blinking_mnist/3 --method saliency --out maps")
@click.argument("model")
@click.argument("clip")
@click.option(
    "--method", "methods", multiple=True, required=True, help="Attribution method, or METHOD@LAYER; may be given again."
)
@shared.out
@shared.target
@shared.layer
@shared.method_options()
@click.option(
    "--batch-size", type=cli.Count(min=1), help="Most evaluations at once. [default: what fits into the free memory]"
)
@cli.cut
@cli.weights
@cli.num_classes
@cli.in_channels
@cli.device
@cli.dtype
@cli.seed
@cli.as_json
def attribute(
    model: str,
    clip: str,
    methods: tuple[str, ...],
    out: Path | None,
    target: str | None,
    layer: str | None,
    options: dict[str, Any],
    batch_size: int | None,
    start: float,
    end: float | None,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    dtype: str | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Attribute the prediction of MODEL for CLIP to its frames and pixels; --out saves the maps as safetensors.

    `explain.Attribution.load` reads them. With --target LAYER/UNIT:max, the frame that contributes most to the unit's
    highest activation is printed; --out saves it, overlaid with each map, as images.
    """
    from explain.reporting import writing

    found = [with_layer(name) for name in methods]  # files are named after methods, not after user input
    methods = tuple(dict.fromkeys(one.name + (f"@{looked}" if looked else "") for one, looked in found))
    if out is not None:
        writing.check(out, "attribution")

    from explain.attribution.results import TOLERATED
    from explain.progress import Line
    from zoo.clips import instant

    loaded, decoded, batch = shared.opened(
        model,
        clip,
        weights,
        device,
        seed,
        dtype,
        start=start,
        end=end,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    with Line() as line:
        named = {
            f"{head}.{name}" if head else name: result
            for head, one in shared.targets_of(loaded, batch, target).items()
            for name, result in zip(
                methods,
                shared.attributed(
                    loaded,
                    batch,
                    methods,
                    line,
                    target=one,
                    options=options,
                    layer=layer,
                    batch_size=batch_size,
                    seed=seed,
                ),
                strict=True,
            )
        }
        results = list(named.values())
    data: list[dict[str, Any]] = [
        {
            "method": result.method,
            "target": str(result.target),
            "layer": result.layer,
            "settings": dict(result.settings),
            "note": result.note,
            "delta": None if result.delta is None else float(result.delta[0]),
            "time": result.time[0].tolist(),
            "time_unit": result.time_unit,
            "times": None if result.times is None else list(result.times),
            "peak": int(result.peak[0]),
            "peak_seconds": None if result.times is None else result.times[int(result.peak[0])],
            "position": None if result.target.positions is None else result.target.positions[0].tolist(),
            "frame": None if result.frame is None else int(result.frame[0]),
            "frame_seconds": None
            if result.frame is None or result.times is None
            else result.times[int(result.frame[0])],
        }
        for result in results
    ]
    frame = data[0]["frame"]
    for warning in decoded.warnings:
        output.note(f"warning: {warning}")
    for result in results:
        if not bool(result.map.any()):
            output.note(f"warning: {result.method}: {result.note}")
        elif float(result.missed[0]) > TOLERATED:
            output.note(f"warning: {_incomplete(result)}")
    if out is not None:
        from explain.results import packed

        files = {f"{name}.safetensors": packed(result) for name, result in named.items()}
        if frame is not None:
            files |= _stills(loaded, batch, named)
        writing.write(
            out, "attribution", {"model": model, "clip": decoded.source, "seed": seed, "methods": data}, files
        )
        output.note(f"wrote {out}: {', '.join(files)}")
    rows = [
        [
            row["method"],
            row["target"],
            row["layer"] or "-",
            instant(row["peak"], row["times"]),
            _there(row["time"][row["peak"]], row["time_unit"]),
        ]
        for row in data
    ]
    text = output.table(["method", "target", "layer", "largest at", "there"], rows)
    if frame is not None:
        step, row, column = data[0]["position"]
        text += (
            f"\n\n{results[0].target} is {float(results[0].target.value[0]):.3g}, at time step {step}, row {row}, "
            f"column {column} of the layer; {instant(frame, data[0]['times'])} of the clip adds most to it"
        )
    output.emit(data, text, as_json=as_json)


def _there(value: float, unit: str) -> str:
    """Format a frame's value with its unit: "-0.0079 (change)", "34 % (share)"."""
    return f"{100 * value:.0f} % ({unit})" if unit == "share" else f"{value:.3g} ({unit})"


def _incomplete(result: Attribution) -> str:
    """Describe that a map is incomplete, and possible remedies."""
    assert result.delta is not None  # noqa: S101 - only complete methods have one
    total = float(result.raw[0].double().sum())
    option = next((name for name in ("n_steps", "n_samples") if name in result.settings), None)
    more = f"; more than --{option.replace('_', '-')} {result.settings[option]} may help" if option else ""
    return (
        f"{result.method}: the map adds up to {total:.3g}, and the output changes by "
        f"{total - float(result.delta[0]):.3g} from the baseline to the clip: take it with care{more}"
    )


def _stills(model: Any, batch: Any, results: dict[str, Attribution]) -> dict[str, bytes]:
    """Write the frame that contributes most to a unit's highest activation, with each map over it, as PNG files."""
    from explain.drawing import colours as colour
    from explain.drawing.sprites import as_frames, still
    from explain.model.layouts import input_of, layout_of, to_display

    at = int(next(iter(results.values())).frame[0])  # type: ignore[index]  # called where there is one
    frame = as_frames(to_display(batch, input_of(model), layout_of(model, batch))[0])[at]
    files = {"frame.png": still(frame)}
    for name, result in results.items():
        values = result.map[0, at].float().cpu().numpy()
        colours = colour.signed() if values.min() < 0 else colour.magnitude()
        files[f"{name}.png"] = still(frame, values / max(abs(values).max(), 1e-30), colours)
    return files

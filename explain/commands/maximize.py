"""`explain maximize`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from explain.commands import shared
from zoo import options, output

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=options.Examples, epilog="explain maximize conv3d --layer body.res4_4 --unit 3 --unit 7 --out units")
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
@shared.out
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

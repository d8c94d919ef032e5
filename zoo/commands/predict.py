"""`zoo predict`."""

from __future__ import annotations

from typing import Any

import click

from zoo import options, output


@click.command(cls=options.Examples, epilog="zoo predict conv3d sample:blinking_mnist/3")
@click.argument("model")
@click.argument("clip")
@click.option("--top", default=5, show_default=True, type=options.Count(min=1), help="Classes to show for each head.")
@click.option("--start", default=0.0, help="Seconds into the video at which to begin.")
@click.option("--end", type=float, help="Seconds into the video at which to stop.")
@options.weights
@options.device
@options.seed
@options.as_json
def predict(
    model: str,
    clip: str,
    top: int,
    start: float,
    end: float | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Say what MODEL sees in CLIP: a video, an image, a folder of images, or sample:NAME."""
    from zoo import clips, loading, prediction

    loaded = loading.load(model, weights=options.resolve_weights(weights), device=device, seed=seed)
    decoded = clips.decode(clip, start=start, end=end, spec=clips.spec_of(loaded))
    predicted = prediction.predict(loaded, clips.preprocess(decoded, loaded), top=top)[0]
    report: Any = loaded.zoo_load_report
    data = {
        "model": report.name,
        "clip": decoded.source,
        "label": decoded.label,
        "conversion": clips.describe(decoded, clips.spec_of(loaded)),
        "warnings": list(decoded.warnings),
        "prediction": predicted,
    }
    lines = [f"{report.name} on {decoded.source}" + (f" ({decoded.label})" if decoded.label else "")]
    width = max((len(name) for name in predicted), default=0) + 2
    for name, head in predicted.items():
        if head["kind"] == "classes":
            best = ", ".join(f"{one['label']} {one['probability']:.1%}" for one in head["top"])
            lines.append(f"{name:<{width}}{best}")
        elif head["kind"] == "value":
            lines.append(f"{name:<{width}}{head['value']:.3f} {head['unit']}")
    for warning in decoded.warnings:
        output.note(f"warning: {warning}")
    output.emit(data, "\n".join(lines), as_json=as_json)

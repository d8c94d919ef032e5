"""`zoo predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.commands.shared import options, output


@click.command(cls=options.Examples, epilog="zoo predict conv3d sample:blinking_mnist/3")
@click.argument("model")
@click.argument("clip")
@click.option("--top", default=5, show_default=True, type=options.Count(min=1), help="Classes to show for each head.")
@options.cut
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.safetensors",
    help="Keep outputs that are clips; every command reads the file as a clip.",
)
@options.weights
@options.num_classes
@options.in_channels
@options.device
@options.seed
@options.as_json
def predict(
    model: str,
    clip: str,
    top: int,
    start: float,
    end: float | None,
    out: Path | None,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Print MODEL's predictions for CLIP: a video, an image, a folder of images, or sample:NAME."""
    from zoo import clips, writing
    from zoo.errors import UsageError
    from zoo.models import loading, prediction

    clips.check_exists(clip)
    if out is not None:
        if out.suffix != ".safetensors":
            raise UsageError(f"--out {out}: a clip is kept as safetensors; call the file {out.stem}.safetensors")
        writing.check_writable(out)
    loaded = loading.load(
        model,
        weights=options.resolve_weights(weights),
        num_classes=num_classes,
        in_channels=in_channels,
        device=device,
        seed=seed,
    )
    decoded = clips.decode(clip, start=start, end=end, spec=clips.spec_of(loaded))
    batch = clips.preprocess(decoded, loaded)
    given = prediction.outputs(loaded, batch)
    predicted = prediction.describe(loaded, batch, given, top=top)[0]
    report: Any = loaded.zoo_load_report
    truths = prediction.following(loaded, given, clip, start=start, end=end)
    for name, truth in truths.items():
        far = prediction.missed(given[name], truth, prediction.like_output(loaded, batch))
        predicted[name] |= dict(zip(("following_squared_error", "repeated_squared_error"), far, strict=True))
    films = [name for name, head in predicted.items() if head["kind"] == "clip"]
    if out is not None and not films:
        raise UsageError(f"{report.name} gives no clip that --out could keep; leave it out")
    data = {
        "model": report.name,
        "clip": decoded.source,
        "label": decoded.label,
        "times": clips.times_of(batch),
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
        else:
            lines.append(f"{name:<{width}}{_in_words(head)}")
    if out is not None:
        # The first one can be looked at: a file read as a clip holds one tensor of bytes.
        frames = prediction.to_frames(given[films[0]][0], clips.spec_of(loaded))
        kept = {"frames": frames, **{f"output/{name}": given[name] for name in films}}
        writing.write_tensors(out, kept, {"model": report.name, "clip": decoded.source})
        output.note(f"wrote {out}: {', '.join(kept)}")
    for warning in decoded.warnings:
        output.note(f"warning: {warning}")
    output.emit(data, lines, as_json=as_json)


def _in_words(head: dict[str, Any]) -> str:
    """Format an output clip: its size, its values, and its error against the clip, or against the following frames."""
    error = head["squared_error"]
    far = "" if error is None else f"; mean squared error from the input {error:.3g}"
    if "following_squared_error" in head:
        far = f"; mean squared error from what follows in the clip {head['following_squared_error']:.3g}"
        far += f" (the last frame read, again: {head['repeated_squared_error']:.3g})"
    return f"a clip of {' x '.join(map(str, head['shape']))}, {head['lowest']:.3g} to {head['highest']:.3g}{far}"

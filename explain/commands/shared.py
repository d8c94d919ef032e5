"""What several commands of `explain` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo import options

out = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the results; new, empty, or an earlier result."
)
target = click.option(
    "--target",
    metavar="HEAD|HEAD:CLASS|LAYER/UNIT|LAYER/UNIT:max",
    help="What to explain; :max is a unit's highest activation, else its mean. [default: the first output's predicted "
    "class]",
)
layer = click.option("--layer", help="Layer for the methods that look at one (see `explain fields MODEL`).")
steps = click.option(
    "--steps", default=32, show_default=True, type=options.Count(min=1), help="Steps of integrated gradients."
)


def opened(model: str, clip: str, weights: str, device: str, seed: int) -> tuple[Any, Any, Any]:
    """The model, the clip as it was read, and the batch that the model takes of it."""
    import zoo
    from zoo import clips

    loaded = zoo.load(model, weights=options.resolve_weights(weights), device=device, seed=seed)
    decoded = clips.decode(clip, spec=clips.spec_of(loaded))
    return loaded, decoded, zoo.preprocess(decoded, loaded)


def batch_shape(spec: Any) -> tuple[int, ...]:
    """Shape of a batch of one sample."""
    channels, frames, size = spec.channel_count, spec.frames, spec.size
    if spec.layout == "NCHW":
        return (1, channels, *size)
    return (1, channels, frames, *size) if spec.layout == "NCTHW" else (1, frames, channels, *size)

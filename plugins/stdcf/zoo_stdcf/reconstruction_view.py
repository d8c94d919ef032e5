"""A section of reports: what both autoencoders make of the clip, frame by frame (figure A of the paper's appendix)."""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

import zoo
from explain.authoring import Content, Context, Sprite, clip_sprite, input_of, render
from zoo.errors import ZooError
from zoo.models.prediction import outputs, to_frames
from zoo_stdcf.networks import Autoencoder

#: In the order of the figure, beneath the clip.
NETWORKS: Final = ("rank1_autoencoder", "stdcf_autoencoder")


def available(context: Context) -> bool:
    """Check whether the model is one of the two, and known by name."""
    return isinstance(context.model, Autoencoder) and context.entry is not None and context.entry.name in NETWORKS


def build(context: Context) -> Content:
    """Show a row for the clip and one for each network: the report's own, and the other with its trained weights."""
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    sprites: list[Sprite] = []
    tensors: dict[str, Tensor] = {}
    for place, name in enumerate(NETWORKS):
        try:
            row, output, frames = _row(context, name)
        except ZooError as error:
            left_out.append({"network": name, "reason": str(error)})
            continue
        rows.append(row)
        sprites.append(clip_sprite(f"reconstruction-{place}", frames))
        tensors[name] = output
    counts = {row["network"]: row["parameters"] for row in rows}
    more = counts[NETWORKS[1]] / counts[NETWORKS[0]] - 1 if len(counts) == len(NETWORKS) else None
    data = {"rows": rows, "more_parameters": more, "left_out": left_out}
    html = render(
        "reconstruction.html", "zoo_stdcf", context=context, shown=list(zip(rows, sprites, strict=True)), **data
    )
    return Content(html=html, data=data, tensors=tensors, sprites=tuple(sprites))


def _row(context: Context, name: str) -> tuple[dict[str, Any], Tensor, Any]:
    """Return a network's reconstruction of the clip."""
    own = context.entry is not None and context.entry.name == name
    network = context.model if own else zoo.load(name, device=context.device)
    entry = context.entry if own else zoo.info(name)
    head, given = next(iter((context.outputs if own else outputs(network, context.batch)).items()))
    clip = context.batch.cpu().double()
    error = (given.cpu().double() - clip).square().mean()
    weights = entry.weights[:1] if entry else ()
    metric = weights[0].metrics[0] if weights and weights[0].metrics else None
    row = {
        "network": name,
        "weights": weights[0].tag if weights else None,
        "head": head,
        "parameters": sum(value.numel() for value in network.parameters()),
        "squared_error": float(error),
        "measured": None
        if metric is None
        else {"dataset": metric.dataset, "split": metric.split, "value": metric.value},
    }
    return row, given, to_frames(given[0], input_of(network)).numpy()

"""How the patterns of each model's 3D filters move: distributions on the same axes, and one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import explain
from explain.layouts import has_random_weights
from explain.reporting import motion
from explain.reporting.builtin.motion import ENOUGH, raw, row, summary
from explain.reporting.rendering import render
from explain.reporting.sections import Content
from zoo.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from explain.reporting.context import Context
    from explain.temporal import TemporalParameters


def build(contexts: Sequence[Context]) -> Content:
    """Read or fit the motion of every model's 3D filters; of a model without any the reason is told."""
    found: dict[str, TemporalParameters] = {}
    data: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for context in contexts:
        if has_random_weights(context.model):
            data.append(
                {"name": context.name, "reason": "its weights are random, so that its filters follow no motion"}
            )
            continue
        try:
            with context.timed(f"motion in the filters: {context.name}") as progress:
                parameters = explain.temporal_parameters(
                    context.model, input_shape=tuple(context.batch.shape), progress=progress
                )
        except ModelError as error:
            data.append({"name": context.name, "reason": str(error)})
            continue
        found[context.name] = parameters
        data.append({"name": context.name, "reason": "", **summary(parameters)})
        tensors |= {f"{context.name}/{key}": tensor for key, tensor in raw(parameters).items()}
    told = {name: values for name, one in found.items() if len((values := motion.spreads(one)).size) >= ENOUGH}
    shared = motion.limits(told.values())
    html = render(
        "compared_motion.html",
        data=data,
        rows=[row(name, one.statistics()) for name, one in found.items()],
        drawn=[
            (
                name,
                motion.counted(len(values.size), found[name].statistics().motions),
                motion.distributions(name, values, shared, f"motion-{place}"),
            )
            for place, (name, values) in enumerate(told.items())
        ],
        fitted=any("fit" in one.get("kinds", ()) for one in data),
        enough=ENOUGH,
        convention=motion.CONVENTION,
    )
    return Content(html=html, data={"convention": motion.CONVENTION, "models": data}, tensors=tensors)

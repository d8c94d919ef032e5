"""Where in the frame methods point on average, and whether they favour its middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from explain.reporting import colour
from explain.reporting.builtin.attributions import title
from explain.reporting.collected import intervals
from explain.reporting.media import overlay_sprite
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from torch import Tensor

    from explain.reporting.collected.collection import Collection

#: Longer side of the picture of a mean map.
_SIDE = 192


def build(collection: Collection) -> Content:
    """The mean map of each method over the frame, each clip counting the same, and the share in its middle."""
    shown: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for method in collection.methods:
        if method not in collection.places:
            continue
        total, count = collection.places[method]
        mean = total / count
        tensors[method] = mean.float()
        shown.append(
            {
                "method": method,
                "clips": count,
                "centre": intervals.mean(
                    (
                        one.record["methods"][method]["centre"]
                        for one in collection.entries
                        if method in one.record["methods"]
                    ),
                    0,
                    1,
                ),
                "densest": float(mean.max() * mean.numel()),
                "picture": _picture(method, mean),
            }
        )
    html = render("collected_space.html", shown=shown, title=title, gradient=colour.magnitude().gradient())
    data = {"methods": [{key: value for key, value in one.items() if key != "picture"} for one in shown]}
    return Content(html=html, data=data, tensors=tensors, sprites=tuple(one["picture"] for one in shown))


def _picture(method: str, mean: Tensor) -> Any:
    """A mean map, smoothly enlarged, from nothing to its densest place."""
    scale = max(1, round(_SIDE / max(mean.shape)))
    size = [length * scale for length in mean.shape]
    large = F.interpolate(mean[None, None], size=size, mode="bilinear", align_corners=False)[0]
    share = large / large.max().clamp_min(torch.finfo(large.dtype).tiny)
    return overlay_sprite(f"mean-{method.replace('_', '-')}", share.numpy(), colour.magnitude())

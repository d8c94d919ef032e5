"""The attribution methods there are: one table, extended by plugins. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from zoo.errors import UnknownNameError

#: How raw values become a map N x T x H x W (`explain.attribution.maps`).
Reduction = Literal["sum", "mean", "magnitude", "positive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One attribution method.

    Raises:
        ValueError: The name is not in snake_case.
    """

    #: In snake_case: files, pages and sprites are named after it.
    name: str
    #: What a map shows, in one sentence for readers of reports.
    summary: str
    #: "package.module:function", called with an `explain.attribution.Job`, returning an `explain.attribution.Raw`.
    run: str
    #: Where it comes from: authors, title, identifier, equation.
    source: str
    #: Over the channels of the raw values: "sum" and "mean" keep signs, "magnitude" sums absolute values; "positive" is
    #: for maps at a layer's size: negative values cut off, then resized to the input.
    reduction: Reduction
    #: Whether it looks at a layer; without one given, `default_layer` chooses.
    needs_layer: bool = False
    #: Options of `attribute` that change its result.
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that no page could hold."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"the method name {self.name!r} is not in snake_case")


#: The methods of this package.
BUILT_IN: tuple[Method, ...] = (
    Method(
        name="saliency",
        summary="How strongly the output would change with a small change of each pixel, in either direction.",
        run="explain.attribution.gradients:saliency",
        source="Simonyan, Vedaldi & Zisserman, Deep Inside Convolutional Networks, arXiv 1312.6034, section 3",
        reduction="magnitude",
    ),
    Method(
        name="input_x_gradient",
        summary="What each pixel's own value adds to the output or takes from it, to first order.",
        run="explain.attribution.gradients:input_x_gradient",
        source="Shrikumar et al., Not Just a Black Box, arXiv 1605.01713, section 3.3",
        reduction="sum",
    ),
    Method(
        name="integrated_gradients",
        summary="How the difference between the output for this clip and for the baseline divides among the pixels.",
        run="explain.attribution.integrated_gradients:integrated_gradients",
        source="Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks, arXiv 1703.01365, equation 1",
        reduction="sum",
        options=("baseline", "steps", "integration"),
    ),
    Method(
        name="occlusion",
        summary="How much the output falls (or rises) when a block of pixels and frames is covered by the baseline.",
        run="explain.attribution.occlusion:occlusion",
        source="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901, section 2.2",
        reduction="mean",
        options=("baseline", "window", "stride"),
    ),
    Method(
        name="grad_cam",
        summary="Where the features of one layer speak for the output; one weight per feature for the whole clip.",
        run="explain.attribution.grad_cam:grad_cam",
        source="Selvaraju et al., Grad-CAM, arXiv 1610.02391, equations 1 and 2, averaged over time and space",
        reduction="positive",
        needs_layer=True,
    ),
    Method(
        name="grad_cam_per_frame",
        summary="Where the features of one layer speak for the output; one weight per feature and time step.",
        run="explain.attribution.grad_cam:grad_cam_per_frame",
        source="Selvaraju et al., Grad-CAM, arXiv 1610.02391, equations 1 and 2, averaged over space at each time step",
        reduction="positive",
        needs_layer=True,
    ),
)


def all_methods() -> dict[str, Method]:
    """Every method by name: the built-in ones, then those of plugins; a built-in name is not taken over."""
    from zoo.plugins import collect

    methods = {method.name: method for method in BUILT_IN}
    for _, method in collect("explain_methods", Method):
        methods.setdefault(method.name, method)
    return methods


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        UnknownNameError: There is none; near names are offered.
    """
    for method in BUILT_IN:
        if method.name == name:
            return method
    methods = all_methods()
    if name not in methods:
        raise UnknownNameError("method", name, methods)
    return methods[name]

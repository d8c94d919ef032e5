"""The attribution methods there are: one table, extended by plugins. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from zoo.errors import UnknownNameError, UsageError

#: How raw values become a map N x T x H x W (`explain.attribution.maps`).
Reduction = Literal["sum", "mean", "magnitude", "positive"]

#: How a map becomes one number for each frame (`explain.attribution.maps`).
TimeUnit = Literal["change", "sum", "mean", "share"]

#: What a pass leaves.
Reads = Literal["gradient", "slopes", "maps"]


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
    #: What `Attribution.time` says of a frame: "change" of the output where frames as a whole are changed, "sum" over
    #: the frame where all numbers add up to a difference of outputs, "mean" over it where blocks are removed, or its
    #: "share" of the map's magnitude.
    time: TimeUnit = "share"
    #: What of one forward and one backward pass it is made of, if it needs no more: the gradient at the input, a
    #: layer's maps with the gradient there ("slopes"), or these maps alone. Such methods share a pass, and take it from
    #: `explain.attribution.passes`.
    reads: Reads | None = None
    #: Whether it looks at a layer; without one given, `default_layer` chooses.
    needs_layer: bool = False
    #: "package.module:Class" of its options, a frozen dataclass (`explain.attribution.options`); or the names of those
    #: built-in ones that it takes.
    options: str | tuple[str, ...] = ()
    #: "package.module:function", called with a `Job`, raising what `run` would raise where the method does not apply to
    #: the model; for `explain methods MODEL`, which runs no method.
    check: str = ""
    #: With a tuple of names: the defaults of `n_samples` and `feature_mask`, and the baselines that it takes the mean
    #: over.
    draws: int = 0
    features: str = "grid"
    references: tuple[str, ...] = ("zero",)

    def __post_init__(self) -> None:
        """Refuse names that no page could hold."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"the method name {self.name!r} is not in snake_case")


#: The methods of this package.
BUILT_IN: tuple[Method, ...] = (
    Method(
        name="saliency",
        summary="How strongly the output would change with a small change of each pixel, in either direction.",
        run="explain.attribution.backpropagation:saliency",
        source="Simonyan, Vedaldi & Zisserman, Deep Inside Convolutional Networks, arXiv 1312.6034, section 3",
        reduction="magnitude",
        reads="gradient",
        check="explain.attribution.backpropagation:check_gradients",
    ),
    Method(
        name="input_x_gradient",
        summary="What each pixel's own value adds to the output or takes from it, to first order.",
        run="explain.attribution.backpropagation:input_x_gradient",
        source="Shrikumar et al., Not Just a Black Box, arXiv 1605.01713, section 3.3",
        reduction="sum",
        reads="gradient",
        check="explain.attribution.backpropagation:check_gradients",
    ),
    Method(
        name="integrated_gradients",
        summary="How the difference between the output for this clip and for the baseline divides among the pixels.",
        run="explain.attribution.path_gradients:integrated_gradients",
        source="Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks, arXiv 1703.01365, equation 1",
        reduction="sum",
        time="sum",
        options="explain.attribution.options:IntegratedGradientsOptions",
        check="explain.attribution.backpropagation:check_gradients",
    ),
    Method(
        name="occlusion",
        summary="How much the output falls (or rises) when a block of pixels and frames is covered by the baseline.",
        run="explain.attribution.occlusion:occlusion",
        source="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901, section 2.2",
        reduction="mean",
        time="mean",
        options="explain.attribution.options:OcclusionOptions",
    ),
    Method(
        name="grad_cam",
        summary="Where the features of one layer speak for the output; one weight per feature for the whole clip.",
        run="explain.attribution.layer_methods:grad_cam",
        source="Selvaraju et al., Grad-CAM, arXiv 1610.02391, equations 1 and 2, averaged over time and space",
        reduction="positive",
        reads="slopes",
        needs_layer=True,
        check="explain.attribution.backpropagation:check_gradients",
    ),
    Method(
        name="grad_cam_per_frame",
        summary="Where the features of one layer speak for the output; one weight per feature and time step.",
        run="explain.attribution.layer_methods:grad_cam_per_frame",
        source="Selvaraju et al., Grad-CAM, arXiv 1610.02391, equations 1 and 2, averaged over space at each time step",
        reduction="positive",
        reads="slopes",
        needs_layer=True,
        check="explain.attribution.backpropagation:check_gradients",
    ),
    Method(
        name="guided_backprop",
        summary="The gradient without anything that speaks against the output on its way through the ReLUs.",
        run="explain.attribution.backpropagation:guided_backprop",
        source="Springenberg et al., Striving for Simplicity, arXiv 1412.6806, section 3.4",
        reduction="magnitude",
        check="explain.attribution.backpropagation:check",
    ),
    Method(
        name="deconvolution",
        summary="What of the clip a deconvolution network rebuilds from the output.",
        run="explain.attribution.backpropagation:deconvolution",
        source="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901, section 2.1",
        reduction="magnitude",
        check="explain.attribution.backpropagation:check",
    ),
    Method(
        name="gradient_shap",
        summary="How the difference between the output for the clip and several baselines divides among the pixels.",
        run="explain.attribution.path_gradients:gradient_shap",
        source="Erion et al., Expected gradients, arXiv 1906.10670, equation 7; Lundberg & Lee, arXiv 1705.07874",
        reduction="sum",
        time="sum",
        options="explain.attribution.options:GradientShapOptions",
        check="explain.attribution.backpropagation:check_gradients",
    ),
    Method(
        name="smooth_grad",
        summary="The mean of a gradient method over clips with noise added, which leaves what does not hang on noise.",
        run="explain.attribution.path_gradients:smooth_grad",
        source="Smilkov et al., SmoothGrad, arXiv 1706.03825, section 3",
        reduction="magnitude",
        options="explain.attribution.options:SmoothGradOptions",
        check="explain.attribution.path_gradients:check_sampled",
    ),
    Method(
        name="deep_lift",
        summary="How the difference from the baseline divides among the pixels, passed back operation by operation.",
        run="explain.attribution.deep_lift:deep_lift",
        source="Shrikumar, Greenside & Kundaje, DeepLIFT, arXiv 1704.02685, section 3.5.1 (Rescale rule)",
        reduction="sum",
        time="sum",
        options="explain.attribution.options:BaselineOptions",
        check="explain.attribution.deep_lift:check",
    ),
    Method(
        name="deep_lift_shap",
        summary="DeepLift's mean over several baselines.",
        run="explain.attribution.deep_lift:deep_lift_shap",
        source="Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, arXiv 1705.07874, section 4.2",
        reduction="sum",
        time="sum",
        options="explain.attribution.options:BaselinesOptions",
        check="explain.attribution.deep_lift:check",
    ),
    Method(
        name="guided_grad_cam",
        summary="The pixels of guided backpropagation where Grad-CAM's features speak for the output.",
        run="explain.attribution.layer_methods:guided_grad_cam",
        source="Selvaraju et al., Grad-CAM, arXiv 1610.02391, section 3.2",
        reduction="magnitude",
        needs_layer=True,
        check="explain.attribution.backpropagation:check",
    ),
    Method(
        name="feature_ablation",
        summary="How much the output falls (or rises) when one part of the clip is replaced by the baseline.",
        run="explain.attribution.removal:feature_ablation",
        source="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901, section 2.2",
        reduction="mean",
        time="mean",
        options="explain.attribution.options:FeatureAblationOptions",
    ),
    Method(
        name="supervoxel_occlusion",
        summary="How much the output falls (or rises) when a region of like colour in space and time is covered.",
        run="explain.attribution.removal:feature_ablation",
        source="As feature_ablation, over supervoxels (Achanta et al., SLIC, 2012); for video in arXiv 2401.11796",
        reduction="mean",
        time="mean",
        options="explain.attribution.options:SupervoxelOptions",
        check="explain.attribution.removal:check",
    ),
    Method(
        name="temporal_occlusion",
        summary="How much the output falls (or rises) when some frames are frozen, dropped, repeated or covered.",
        run="explain.attribution.temporal:temporal_occlusion",
        source="Zeiler & Fergus, arXiv 1311.2901, section 2.2, for stretches of time",
        reduction="mean",
        time="change",
        options="explain.attribution.options:TemporalOcclusionOptions",
        check="explain.attribution.temporal:check",
    ),
    Method(
        name="frame_order",
        summary="How much the output falls (or rises) when frames are played backwards or in a drawn order.",
        run="explain.attribution.temporal:frame_order",
        source="After Misra, Zitnick & Hebert, Shuffle and Learn, arXiv 1603.08561",
        reduction="mean",
        time="change",
        options="explain.attribution.options:FrameOrderOptions",
        check="explain.attribution.temporal:check",
    ),
    Method(
        name="rise",
        summary="How much higher the output is where random masks show a pixel than it is on average.",
        run="explain.attribution.rise:rise",
        source="Petsiuk, Das & Saenko, RISE, arXiv 1806.07421, equation 6; for video in arXiv 2401.11796",
        reduction="mean",
        time="mean",
        options="explain.attribution.options:RiseOptions",
    ),
    Method(
        name="kernel_shap",
        summary="What each region of like colour in space and time adds to the output, fairly shared (Shapley value).",
        run="explain.attribution.surrogates:kernel_shap",
        source="Lundberg & Lee, A Unified Approach to Interpreting Model Predictions, arXiv 1705.07874, theorem 2",
        reduction="mean",
        time="sum",
        options="explain.attribution.options:SurrogateOptions",
        check="explain.attribution.removal:check",
    ),
    Method(
        name="lime",
        summary="How a linear model of which regions of the clip are there weighs them, near the whole clip.",
        run="explain.attribution.surrogates:lime",
        source="Ribeiro, Singh & Guestrin, Why Should I Trust You?, arXiv 1602.04938, equation 2",
        reduction="mean",
        options="explain.attribution.options:SurrogateOptions",
        check="explain.attribution.removal:check",
    ),
    Method(
        name="shapley_sampling",
        summary="What each part of the clip adds to the output, averaged over drawn orders of adding them.",
        run="explain.attribution.removal:shapley_sampling",
        source="Castro, Gómez & Tejada (2009), doi 10.1016/j.cor.2008.04.004; for networks arXiv 1705.07874",
        reduction="mean",
        time="sum",
        options="explain.attribution.options:ShapleyOptions",
    ),
    Method(
        name="lrp",
        summary="How the output divides among the pixels, passed back in proportion to what each made of it.",
        run="explain.attribution.lrp:lrp",
        source="Bach et al. (2015), doi 10.1371/journal.pone.0130140; z+ rule: Montavon et al., arXiv 1512.02479",
        reduction="sum",
        time="sum",
        check="explain.attribution.lrp:check",
    ),
    Method(
        name="layer_activation",
        summary="How active the units of one layer are, whatever the output.",
        run="explain.attribution.layer_methods:layer_activation",
        source="Erhan et al. (2009) and Zeiler & Fergus, arXiv 1311.2901: the layer's own maps",
        reduction="positive",
        reads="maps",
        needs_layer=True,
    ),
    Method(
        name="layer_gradient_x_activation",
        summary="Where the activations of one layer add to the output, to first order.",
        run="explain.attribution.layer_methods:layer_gradient_x_activation",
        source="Shrikumar et al., Not Just a Black Box, arXiv 1605.01713, section 3.3, at a layer",
        reduction="positive",
        reads="slopes",
        needs_layer=True,
        check="explain.attribution.backpropagation:check_gradients",
    ),
)


def all_methods() -> dict[str, Method]:
    """Every method by name: the built-in ones, then those of plugins; a built-in name is not taken over."""
    from zoo.registry.plugins import collect

    methods = {method.name: method for method in BUILT_IN}
    for _, method in collect("explain_methods", Method):
        methods.setdefault(method.name, method)
    return methods


def find_method(name: str | type) -> Method:
    """The method of that name, or that a class of Captum is: "captum.attr:LayerConductance", or the class itself.

    Raises:
        UnknownNameError: There is none; near names are offered.
        UsageError: A class of Captum whose results are no maps; it says why.
    """
    if not isinstance(name, str) or name.startswith(("captum_", "captum.attr:")):
        from explain.attribution.captum_methods import method_of  # imports torch

        return method_of(name)
    for method in BUILT_IN:
        if method.name == name:
            return method
    methods = all_methods()
    if name not in methods:
        raise UnknownNameError("method", name, methods, "`explain methods` lists all")
    return methods[name]


def with_layer(name: str | type) -> tuple[Method, str | None]:
    """The method of that name, and the layer that it looks at where the name tells one: "grad_cam@layer3".

    Raises:
        UnknownNameError: There is no such method; near names are offered.
        UsageError: The method looks at no layer.
    """
    method, at, layer = name.partition("@") if isinstance(name, str) else (name, "", "")
    found = find_method(method)
    if at and not found.needs_layer:
        looking = ", ".join(one.name for one in BUILT_IN if one.needs_layer)
        raise UsageError(f"{method} looks at no layer; write {method!r}, or @{layer} behind one of {looking}")
    return found, layer if at else None


def method_names(asked: str | type | Iterable[str | type] | None) -> tuple[str, ...] | None:
    """The names of methods, once each, as results have them; None stays.

    Raises:
        UnknownNameError: There is no such method; near names are offered.
    """
    if asked is None:
        return None
    return tuple(dict.fromkeys(find_method(one).name for one in ([asked] if isinstance(asked, str | type) else asked)))


#: Words of methods' names that are initials.
_INITIALS = {"lime", "lrp", "rise", "shap"}


def title(method: str) -> str:
    """The name of a method as a heading: "integrated_gradients" -> "Integrated gradients"."""
    words = method.replace("grad_cam", "Grad-CAM").replace("_x_", " \N{MULTIPLICATION SIGN} ").replace("_", " ")
    words = " ".join(word.upper() if word in _INITIALS else word for word in words.split(" "))
    return words[0].upper() + words[1:]

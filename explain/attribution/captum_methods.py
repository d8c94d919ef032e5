"""Every attribution class of Captum as a method: its own arguments; targets, memory and maps as ours have them.

`method=captum.attr.LayerConductance`, "captum.attr:LayerConductance" and "captum_layer_conductance" are the same one.
A class gets the number explained (`explain.model.targets.Score`) as its model.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import captum.attr
import numpy as np
import torch
from captum.attr._core import deep_lift, lrp
from torch import Tensor, nn

from explain.attribution import rules
from explain.attribution.baselines import make_baseline
from explain.attribution.execution import whole
from explain.attribution.job import Job, Raw
from explain.attribution.maps import parts_over_time
from explain.attribution.methods import Method
from explain.attribution.occlusion import default_blocks
from explain.attribution.options import FeatureAblationOptions, Options, WrappingOptions
from explain.attribution.passes import check_places
from explain.attribution.removal import parts_of, values_of
from explain.model.layers import Capture, as_maps, find_layer
from explain.model.layouts import from_ncthw, input_of, to_ncthw
from explain.model.targets import Score, Target, unit_index
from zoo.devices import is_out_of_memory
from zoo.errors import ModelError, UnknownNameError, UsageError, ZooError, describe, one_line

#: Begins the names of these methods; the class's follows, in snake_case.
PREFIX = "captum_"

_TEXT = "explains the tokens of a language model"
_PERMUTES = (
    "exchanges parts among the samples of a batch, so that the values of one depend on the others; choose "
    "FeatureAblation or LayerFeatureAblation"
)
_BASE = "is a base class; choose one that is derived from it"
#: Classes that are no methods here, and why.
REFUSED = {
    "Attribution": _BASE,
    "GradientAttribution": _BASE,
    "LayerAttribution": _BASE,
    "NeuronAttribution": _BASE,
    "PerturbationAttribution": _BASE,
    "DataLoaderAttribution": "sums other methods up over a DataLoader; attribute batch by batch",
    "FeaturePermutation": _PERMUTES,
    "LayerFeaturePermutation": _PERMUTES,
    "LimeBase": "gives the coefficients of your own interpretable model, not a map; choose Lime",
    "LLMAttribution": _TEXT,
    "LLMGradientAttribution": _TEXT,
    "RemoteLLMAttribution": _TEXT,
}

#: Arguments that are not a caller's: the model, what is explained, and those that change the form of a result.
_FILLED = frozenset({
    "additional_forward_args", "device_ids", "forward_func", "inputs", "layer", "model", "return_convergence_delta",
    "return_input_shape", "self", "show_progress", "target", "verbose",
})  # fmt: skip
#: Captum's name of an argument -> its name here, where `explain.attribute` has an argument of that name.
_RENAMED = {"method": "integration"}
_KINDS: dict[str, Any] = {
    "internal_batch_size": int | None,
    "neuron_selector": int | tuple[int, ...],
    "nt_samples_batch_size": int | None,
    "sliding_window_shapes": tuple[int, ...],
    "strides": int | tuple[int, ...] | None,
}
#: Arguments that say how many evaluations run at once.
_AT_ONCE = ("internal_batch_size", "perturbations_per_eval", "nt_samples_batch_size")
#: Begins what stands for a tensor or a function in the settings of a result.
_NOT_KEPT = ("tensor (", "function ")
#: Arguments of classes that draw, or whose parts are a sample's own.
_ALONE = frozenset({"feature_mask", "n_samples", "nt_samples"})

#: Classes, wherever they look, whose values are gradients, or changes of the output.
_GRADIENTS = frozenset({"Saliency", "GuidedBackprop", "Deconvolution", "GuidedGradCam", "Gradient"})
_CHANGES = frozenset({"FeatureAblation", "Occlusion"})
_PARTS = frozenset({"KernelShap", "ShapleyValueSampling", "ShapleyValues"})
#: Classes whose values sum to the difference between clip and baseline, or, without one, to the output.
_COMPLETE = frozenset({"Conductance", "DeepLift", "DeepLiftShap", "GradientShap", "IntegratedGradients", "LRP"})

#: Classes that change what modules pass back: the operations in question, and the modules that have hooks for them.
_RELUS = rules.ELEMENTWISE - {"hardsigmoid", "logsigmoid", "sigmoid", "softsign", "tanh"}, (nn.ReLU,)
_LIFTED = rules.ELEMENTWISE | rules.POOLINGS, tuple(deep_lift.SUPPORTED_NON_LINEAR)
_RELEVANT = (
    rules.ELEMENTWISE | rules.POOLINGS,
    (*lrp.SUPPORTED_LAYERS_WITH_RULES, *lrp.SUPPORTED_NON_LINEAR_LAYERS),
)
_HOOKED: dict[str, tuple[frozenset[str], tuple[type[nn.Module], ...]]] = {
    "GuidedBackprop": _RELUS,
    "Deconvolution": _RELUS,
    "GuidedGradCam": _RELUS,
    "DeepLift": _LIFTED,
    "DeepLiftShap": _LIFTED,
    "LRP": _RELEVANT,
}


def method_of(asked: str | type) -> Method:
    """A class of `captum.attr` as a method: the class, its name, or that in snake_case.

    Raises:
        UnknownNameError: There is none of that name; near names are offered.
        UsageError: It gives no map of a clip, or is not Captum's own.
    """
    cls = class_of(asked if isinstance(asked, str) else asked.__name__)
    if not isinstance(asked, str) and asked is not cls:
        raise UsageError(
            f"{asked.__module__}.{asked.__qualname__} is not captum.attr.{cls.__name__}; give that one, or make a "
            "method of yours (explain.Method)"
        )
    core, at_layer = _core(cls), issubclass(cls, captum.attr.LayerAttribution)
    summary = re.split(r"\.(?: |$)", " ".join((inspect.getdoc(cls) or "").split()))[0]
    if core in _GRADIENTS:
        reduction, time = "magnitude", "share"
    elif core in _CHANGES | _PARTS | {"Lime"}:
        reduction, time = "mean", "mean" if core in _CHANGES else "sum" if core in _PARTS else "share"
    else:
        reduction, time = "sum", "sum" if core in _COMPLETE - {"Conductance"} else "share"
    return Method(
        name=PREFIX + _snake(cls.__name__),
        summary=f"Captum's {cls.__name__}: {summary}.",
        run=f"{__name__}:run",
        source=f"captum.attr.{cls.__name__} of Captum {captum.__version__}",
        reduction="positive" if at_layer else reduction,  # type: ignore[arg-type]  # one of these names
        time="share" if at_layer else time,  # type: ignore[arg-type]  # as above
        needs_layer="layer" in inspect.signature(cls).parameters,
        options=f"{__name__}:{cls.__name__}",
    )


def class_of(name: str) -> type[Any]:
    """The class of `captum.attr` of that name.

    Raises:
        UnknownNameError: As `method_of`.
        UsageError: It gives no map of a clip.
    """
    known = {
        key: one
        for key, one in vars(captum.attr).items()
        if isinstance(one, type) and issubclass(one, captum.attr.Attribution)
    }
    name = name.removeprefix("captum.attr:")
    found = {PREFIX + _snake(key): key for key in known}.get(name, name)
    if found not in known:
        raise UnknownNameError("attribution class of captum.attr", name, sorted(known.keys() - REFUSED))
    if found in REFUSED:
        raise UsageError(f"captum.attr.{found} {REFUSED[found]}")
    return known[found]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _core(cls: type) -> str:
    """What a class computes, be it at the input, a layer or a neuron."""
    return re.sub("^(Layer|Neuron)(?=.)", "", cls.__name__)


@functools.cache
def _arguments(cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a class's constructor and of its `attribute` that are a caller's, with their defaults."""
    constructor, attribute = (
        {
            name: one.default
            for name, one in inspect.signature(function).parameters.items()
            if name not in _FILLED and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        }
        for function in (cls.__init__, cls.attribute)
    )
    return constructor, attribute


@functools.cache
def __getattr__(name: str) -> type[Any]:  # the options of the class of that name, as rows refer to them
    if name.startswith("_"):
        raise AttributeError(name)
    cls: Any = class_of(name)
    wraps = cls is captum.attr.NoiseTunnel
    fields = [
        (_RENAMED.get(key, key), _kind(key, default))
        if default is inspect.Parameter.empty and key != "baselines"
        else (_RENAMED.get(key, key), _kind(key, default), None if default is inspect.Parameter.empty else default)
        for several in _arguments(cls)
        for key, default in several.items()
    ]
    return dataclasses.make_dataclass(
        f"{name}Options",
        fields,
        bases=(_Tunnel if wraps else Options,),
        frozen=True,
        kw_only=True,
        namespace={"captum": cls},
    )


def _kind(name: str, default: Any) -> Any:
    """The type of an argument, as far as its name and its default tell."""
    if name in _KINDS:
        return _KINDS[name]
    return type(default) if isinstance(default, bool | int | float | str) else Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Tunnel(WrappingOptions):
    """Options of NoiseTunnel."""

    def __post_init__(self) -> None:
        """Name the class that it smooths as results do."""
        method = method_of(self.attribution_method)  # type: ignore[attr-defined]  # the derived class has it
        if method.needs_layer or "noise_tunnel" in method.name:
            raise UsageError(f"captum.attr.NoiseTunnel smooths methods of the input, not {method.name}")
        object.__setattr__(self, "attribution_method", method.name)

    @property
    def inner_method(self) -> str:
        """The class that is smoothed."""
        name: str = self.attribution_method  # type: ignore[attr-defined]  # as above
        return name


class _Scored(nn.Module):
    """A model whose output is the number explained: the model that Captum's classes get."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model = job.model
        self.training = False
        self._score = job.score

    def forward(self, batch: Tensor, samples: Tensor) -> Tensor:
        """N numbers."""
        return self._score(batch, samples.reshape(-1).expand(len(batch)))


def run(job: Job) -> Raw:
    """What a class of Captum gives for a job.

    One sample at a time where the class draws, where parts or several baselines are a sample's own, or where a layer
    may have frames folded into the batch: no sample's values depend on the others.

    Raises:
        UsageError: An argument is missing or cannot be, or scikit-learn is not installed.
        ModelError: The class fails on the model, or its hooks would miss what the model runs.
    """
    job.expect(1)
    cls = job.options.captum
    alone = job.layer is not None or "Shap" in cls.__name__ or not _ALONE.isdisjoint(_arguments(cls)[1])
    raws = []
    for at in range(0, len(job.batch), 1 if alone else len(job.batch)):
        part = slice(at, at + 1 if alone else None)
        score = Score(job.model, job.score.target)
        one = dataclasses.replace(job, batch=job.batch[part], samples=job.samples[part], score=score)
        recorded = issubclass(cls, captum.attr.LayerDeepLift)  # its hooks are on what parameters make
        with _parameters_kept(job.model, recorded=recorded), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that hooks are set, that several samples take long
            torch.manual_seed(job.seed)
            np.random.seed(job.seed % 2**32)  # noqa: NPY002 - Captum draws from it
            raws.append(_attributed(one, cls))
        job.score.advance(len(one.batch))
    return whole(raws)


def _attributed(job: Job, cls: type[Any]) -> Raw:
    tunnel = {}
    if cls is captum.attr.NoiseTunnel:
        tunnel = _own(job, 1)
        job = dataclasses.replace(job, options=job.options.inner)
    inner: type[Any] = job.options.captum
    _check_hooks(job, _core(inner))
    constructor, given = (_own(job, place) for place in (0, 1))
    neuron = issubclass(cls, captum.attr.NeuronAttribution)
    target = _neuron(job, given["neuron_selector"]) if neuron and "target" not in _parameters(cls) else None
    with ExitStack() as stack:
        layer = [] if job.layer is None else [stack.enter_context(_called_once(job.model, job.layer))]
        values = _first(_called(job, lambda: inner(_Scored(job), *layer, **constructor), given, tunnel))
    if issubclass(cls, captum.attr.LayerAttribution):
        values = as_maps([values], layer[0], len(job.batch), job.layer or "")
        check_places(values, job.layer or "", _extent(job)[0])
    delta = time = None
    if _core(cls) in _COMPLETE and not neuron and constructor.get("multiply_by_inputs", True):
        delta = values.flatten(1).sum(dim=1) - job.value + _below(job, given.get("baselines"))
    if _core(cls) in _PARTS:
        heat, parts = (to_ncthw(one.expand_as(job.batch), job.layout)[0, 0] for one in (values, given["feature_mask"]))
        time = parts_over_time(values_of(heat, parts), parts)[None]
    return Raw(values=values, delta=delta, time=time, target=target)


def _called(job: Job, construct: Callable[[], Any], given: dict[str, Any], tunnel: dict[str, Any]) -> Any:
    """What a class gives, through NoiseTunnel where there is something for it; errors in words."""
    name = job.options.captum.__name__
    try:
        method = construct()
        if tunnel:
            method, given = captum.attr.NoiseTunnel(method), {**given, **tunnel}
        if "n_samples" not in given or not isinstance(method, captum.attr.GradientAttribution):
            return method.attribute(job.batch, additional_forward_args=job.samples, **given)
        # Classes that expand the batch by all draws at once: as many as fit, and the mean.
        total, draws = torch.zeros((), dtype=job.value.dtype), given["n_samples"]
        for done in range(0, draws, job.size):
            several = {**given, "n_samples": min(job.size, draws - done)}
            part = _first(method.attribute(job.batch, additional_forward_args=job.samples, **several))
            total = total + part * (several["n_samples"] / draws)
    except ImportError as error:
        raise UsageError(f"captum.attr.{name} needs a package that is not installed: {one_line(error)}") from error
    except Exception as error:
        if isinstance(error, ZooError | MemoryError) or is_out_of_memory(error):
            raise
        raise ModelError(f"captum.attr.{name} fails on this model or its arguments: {describe(error)}") from error
    else:
        return total


def _first(values: Any) -> Tensor:
    """A tensor, or the first of those of a layer that gives several."""
    found: Tensor = values[0] if isinstance(values, tuple | list) else values
    return found.detach()


def _parameters(cls: type[Any]) -> Any:
    return inspect.signature(cls.attribute).parameters


def _own(job: Job, place: int) -> dict[str, Any]:
    """What the constructor (0) or `attribute` (1) of the job's class gets."""
    given = _arguments(job.options.captum)[place]
    return {name: _value(job, name, getattr(job.options, _RENAMED.get(name, name))) for name in given}


def _value(job: Job, name: str, value: Any) -> Any:
    """One argument, in Captum's form."""
    if isinstance(value, str) and value.startswith(_NOT_KEPT):
        raise UsageError(f"{name} was a {value}, which results do not keep; attribute anew")
    if name in _AT_ONCE and value in {None, 1}:
        return max(len(job.batch), job.size) if name == "internal_batch_size" else max(1, job.size // len(job.batch))
    if name == "baselines":
        return _baselines(job, value)
    if name == "feature_mask":
        return _mask(job, value)
    if isinstance(value, Tensor) and len(value) == len(job.score.target) > 1:
        return value[job.samples]
    return value


def _baselines(job: Job, value: Any) -> Any:
    """Baselines by name, number or tensor (`explain.attribution.baselines`); several for the classes that need some."""
    several = _parameters(job.options.captum)["baselines"].default is inspect.Parameter.empty
    if value is None and not several:
        return None
    if value is None:
        value = ["zero", "blur", "mean_frame"][: 3 if to_ncthw(job.batch, job.layout).shape[2] > 1 else 2]
    if isinstance(value, Tensor):
        if several:
            return value.to(job.batch)
        value = value[job.samples] if len(value) == len(job.score.target) > 1 else value
    made = [
        make_baseline(one, job.batch, job.layout, input_of(job.model))
        for one in (value if isinstance(value, list | tuple) else [value])
    ]
    return torch.cat(made) if several else made[0]


def _mask(job: Job, value: Any) -> Tensor:
    """The parts of the job's one sample, to be broadcast to it: by default blocks, as `feature_ablation` has them."""
    window = default_blocks(_extent(job))[0]
    options = FeatureAblationOptions(feature_mask="grid" if value is None else value, window=window)
    return from_ncthw(parts_of(dataclasses.replace(job, options=options), 0)[None, None], job.layout).contiguous()


def _extent(job: Job) -> tuple[int, int, int]:
    frames, rows, columns = to_ncthw(job.batch, job.layout).shape[2:]
    return frames, rows, columns


def _below(job: Job, baselines: Tensor | None) -> Tensor | float:
    """The output for the baseline, or its mean over several."""
    if "baselines" not in _parameters(job.options.captum):
        return 0.0
    at = torch.zeros_like(job.batch) if baselines is None else baselines
    with torch.no_grad():
        if len(at) == len(job.batch):
            return job.score(at, job.samples)
        return job.score(at, job.samples.expand(len(at))).mean()


def _neuron(job: Job, selector: Any) -> Target:
    """The neuron that a selector names, a channel and maybe its place, as what is explained."""
    with torch.no_grad(), Capture(job.model, job.layer or "") as capture:
        capture.run(job.batch.clone())
    shape = capture.calls[0].shape
    index = (selector,) if isinstance(selector, int) else selector
    if not isinstance(index, tuple) or not all(isinstance(one, int) for one in index) or len(index) != len(shape) - 1:
        raise UsageError(
            f"neuron_selector {selector!r} names no neuron of layer {job.layer!r}, whose output is "
            f"{tuple(shape[1:])}: expected {len(shape) - 1} whole numbers"
        )
    maps = capture.maps(len(job.batch))
    unit = unit_index(job.layer or "", index[0], maps.shape[1])
    place = (*(0,) * (4 - len(index)), *index[1:])
    for at, size in zip(place, maps.shape[2:], strict=True):
        if not 0 <= at < size:
            raise UsageError(f"neuron_selector {selector!r} lies outside layer {job.layer!r}, {tuple(maps.shape[1:])}")
    return Target(
        descriptions=(f"{job.layer}/{unit}{list(index[1:]) or ''}",) * len(job.batch),
        value=maps[:, unit, place[0], place[1], place[2]],
        unit=(job.layer or "", unit),
        positions=torch.tensor([place] * len(job.batch), device=job.batch.device),
    )


@contextmanager
def _called_once(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """A layer, refused where one pass calls it several times: Captum keeps its last call alone."""
    layer, calls = find_layer(model, name), 0

    def begin(*_: Any) -> None:
        nonlocal calls
        calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise ModelError(
                f"layer {name!r} runs several times in one pass, and Captum's classes see its last run alone; choose "
                "another layer, or a method of ours (grad_cam, layer_activation, layer_gradient_x_activation)"
            )

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(begin).remove)
        stack.callback(layer.register_forward_hook(count).remove)
        yield layer


def _check_hooks(job: Job, core: str) -> None:
    """Refuse models that run functions which a class should change, and its hooks on modules do not see.

    Raises:
        ModelError: There is one, or there is nothing to change.
    """
    if core not in _HOOKED:
        return
    names, modules = _HOOKED[core]
    depth, hooked, missed = 0, 0, []

    def enter(*_: Any) -> None:
        nonlocal depth, hooked
        depth, hooked = depth + 1, hooked + 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    def note(name: str, *_: Any) -> None:
        if not depth:
            missed.append(name)

    one = dataclasses.replace(job, batch=job.batch[:1], samples=job.samples[:1])
    with ExitStack() as stack:
        for module in job.model.modules():
            if isinstance(module, modules) and not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave).remove)
        rules.scored(one, one.batch.clone().requires_grad_(), rules.Ruled(names, note))
    if missed or (modules == (nn.ReLU,) and not hooked):
        what = f"runs {missed[0]} outside of these" if missed else "runs none"
        raise ModelError(
            f"captum.attr.{core} changes what modules ({modules[0].__name__} ...) pass back, and the model {what}: its "
            "values would be the plain gradient there; choose guided_backprop, deep_lift or lrp, which see functions"
        )


@contextmanager
def _parameters_kept(model: nn.Module, *, recorded: bool) -> Iterator[None]:
    """Give parameters their own numbers back: LRP puts others in their place, for good where it fails.

    Args:
        model: The model, its parameters frozen.
        recorded: Whether they get a gradient within.
    """
    kept = [(parameter, parameter.data) for parameter in model.parameters()]
    for parameter, data in kept:
        parameter.requires_grad = recorded and data.is_floating_point()
    try:
        yield
    finally:
        for parameter, data in kept:
            parameter.requires_grad = False
            if parameter.data_ptr() != data.data_ptr():
                parameter.data = data

"""The options of attribution methods: one frozen dataclass per kind of method. Imports no torch.

A method's row names its class as "package.module:Class". Any frozen dataclass will do; `option` adds to a field the
sentence, the bounds and the choices that are checked, and shown in help and documentation. Keywords of
`explain.attribute` and texts of a command line become such an object here alone, in `options_for` and `Option.parse`.
"""

# ruff: noqa: RUF009 - `option` makes a `dataclasses.field`
from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

from explain.attribution.methods import BUILT_IN, Method, find_method
from zoo.errors import PluginError, UnknownNameError, UsageError, describe
from zoo.registry.plugins import resolve

if TYPE_CHECKING:
    from torch import Tensor

    Baseline = Tensor | float | str | None
    FeatureMask = Tensor | str
else:  # annotations are read at run time, without torch; these two have a check of their own
    Baseline = FeatureMask = Any

Function = TypeVar("Function", bound=Callable[..., Any])

#: Extent (T, H, W), or stride.
Extent = tuple[int, int, int]

#: Names of version 0.1, and what they are now; they are taken, with a warning, until the next version.
FORMER: Mapping[str, str] = {"steps": "n_steps", "draws": "n_samples", "features": "feature_mask"}

#: Baselines by name (`explain.attribution.baselines`).
BASELINES = ("zero", "black", "blur", "mean_frame")
#: Rules of integration.
RULES = ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")
#: Parts by name.
FEATURES = ("grid", "supervoxels")
#: What may stand in the place of a window of frames.
FILLS = ("freeze", "drop", "repeat", "cover")
#: How the frames of a window may be put into another order.
ORDERS = ("reverse", "shuffle")
#: Methods that `smooth_grad` takes the mean of.
SMOOTHED = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "gradient_shap",
    "deep_lift",
    "guided_backprop",
    "deconvolution",
)

#: Most steps or samples: beyond, memory or patience ends first.
_MOST = 1_000_000


def option(
    default: Any = dataclasses.MISSING,
    text: str = "",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    default_text: str = "",
) -> Any:
    """Declare a field of an options class.

    Args:
        default: Its value where none is given; without one, the option must be given.
        text: One sentence for help and documentation, with the unit.
        minimum: Smallest number that is possible, of a tuple each of its numbers.
        maximum: Largest.
        choices: The texts that are possible.
        default_text: What stands for the default in help, where its value says too little.
    """
    about = {"text": text, "minimum": minimum, "maximum": maximum, "choices": tuple(choices), "default": default_text}
    return dataclasses.field(default=default, metadata={"option": about})


def _internal(default: Any) -> Any:
    """Declare a field that is no option."""
    return dataclasses.field(default=default, metadata={"option": None})


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a method that has none; base of the classes below."""


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(Options):
    """Options of methods that compare the clip with a baseline.

    Raises:
        UsageError: An empty list of baselines.
    """

    baseline: Baseline | Sequence[Baseline] = option(
        None,
        'What stands for "nothing there": zero, black, blur, mean_frame, a number, or in Python a tensor that '
        "broadcasts to the batch; several for the methods that take the mean over several.",
        default_text="each method's own",
    )
    #: Names of the baselines used where none is given; a method takes several only where these are several.
    references: tuple[str, ...] = _internal(("zero",))

    def __post_init__(self) -> None:
        """Take the first of several baselines where the method compares with one."""
        if isinstance(self.baseline, list | tuple):
            if not self.baseline:
                raise UsageError("baseline is an empty list; leave it out, or name at least one")
            if len(self.references) == 1:
                object.__setattr__(self, "baseline", self.baseline[0])


@dataclass(frozen=True, kw_only=True)
class BaselinesOptions(BaselineOptions):
    """Options of methods that take the mean over several baselines."""

    references: tuple[str, ...] = _internal(("zero", "blur", "mean_frame"))


@dataclass(frozen=True, kw_only=True)
class WindowOptions(Options):
    """Options of methods that remove blocks side by side."""

    window: Extent | None = option(
        None,
        "Extent T,H,W of the blocks that are removed, in frames and pixels.",
        minimum=1,
        default_text="at most 300 blocks",
    )

    @property
    def blocks(self) -> tuple[Extent, Extent]:
        """Window and stride of the clip at hand, which a job's options have."""
        window: Extent = self.window or (1, 1, 1)
        return window, getattr(self, "stride", None) or window


@dataclass(frozen=True, kw_only=True)
class BlockOptions(WindowOptions):
    """Options of methods that slide a block over the clip."""

    stride: Extent | None = option(
        None,
        "Stride T,H,W of the block, at most its extent, in frames and pixels.",
        minimum=1,
        default_text="half the window",
    )


@dataclass(frozen=True, kw_only=True)
class IntegratedGradientsOptions(BaselineOptions):
    """Options of integrated gradients.

    Raises:
        UsageError: A Riemann rule of a single point.
    """

    n_steps: int = option(32, "Points of integration.", minimum=1, maximum=_MOST)
    integration: str = option("gausslegendre", "Rule of integration.", choices=RULES)

    def __post_init__(self) -> None:
        """Refuse a Riemann sum of one point."""
        super().__post_init__()
        if self.n_steps < 2 and self.integration != "gausslegendre":
            raise UsageError(f"integration {self.integration!r} needs n_steps of at least 2, not {self.n_steps}")


@dataclass(frozen=True, kw_only=True)
class OcclusionOptions(BlockOptions, BaselineOptions):
    """Options of occlusion."""


def _samples(default: int) -> Any:
    return option(default, "Samples that a method draws at random.", minimum=1, maximum=_MOST)


@dataclass(frozen=True, kw_only=True)
class GradientShapOptions(BaselinesOptions):
    """Options of GradientSHAP."""

    n_samples: int = _samples(48)


@dataclass(frozen=True, kw_only=True)
class WrappingOptions(Options):
    """Options of a method that runs another one, whose options it takes, too.

    An option that both have goes to both.
    """

    #: The options of the inner method.
    inner: Any = _internal(None)

    @property
    def inner_method(self) -> str:
        """Name of the inner method."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SmoothGradOptions(WrappingOptions):
    """Options of SmoothGrad, which has those of the method that it smooths besides."""

    smooth: str = option("saliency", "The gradient method that smooth_grad takes the mean of.", choices=SMOOTHED)
    n_samples: int = _samples(16)

    @property
    def inner_method(self) -> str:
        """The gradient method that is smoothed."""
        return self.smooth


def _features(default: str) -> Any:
    return option(
        default,
        "What is removed at once: grid (blocks of the window), supervoxels (needs scikit-image), or in Python a tensor "
        "of integers from 0 on that numbers the part of each pixel, T x H x W or broadcastable to the batch.",
        choices=FEATURES,
    )


@dataclass(frozen=True, kw_only=True)
class FeatureAblationOptions(WindowOptions, BaselineOptions):
    """Options of feature ablation."""

    feature_mask: FeatureMask = _features("grid")


@dataclass(frozen=True, kw_only=True)
class SupervoxelOptions(BaselineOptions):
    """Options of occlusion by supervoxels."""

    feature_mask: str = _internal("supervoxels")


@dataclass(frozen=True, kw_only=True)
class ShapleyOptions(FeatureAblationOptions):
    """Options of Shapley sampling."""

    n_samples: int = _samples(8)


@dataclass(frozen=True, kw_only=True)
class SurrogateOptions(FeatureAblationOptions):
    """Options of methods that fit a linear model: KernelSHAP and LIME."""

    feature_mask: FeatureMask = _features("supervoxels")
    n_samples: int = _samples(512)


@dataclass(frozen=True, kw_only=True)
class TemporalOcclusionOptions(BlockOptions, BaselineOptions):
    """Options of temporal occlusion."""

    fill: str = option("freeze", "What temporal_occlusion puts in the place of frames.", choices=FILLS)


@dataclass(frozen=True, kw_only=True)
class FrameOrderOptions(BlockOptions):
    """Options of frame order."""

    order: str = option("reverse", "The order that frame_order plays frames in.", choices=ORDERS)
    n_samples: int = _samples(4)


@dataclass(frozen=True, kw_only=True)
class RiseOptions(BaselineOptions):
    """Options of RISE."""

    n_samples: int = _samples(512)


@dataclass(frozen=True, kw_only=True)
class NamedOptions(TemporalOcclusionOptions, FrameOrderOptions, FeatureAblationOptions, IntegratedGradientsOptions):
    """Every option of version 0.1, of which a row with a tuple of names takes those that it names."""

    smooth: str = option("saliency", "The gradient method that is smoothed.", choices=SMOOTHED)
    n_samples: int = _samples(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A field of an options class, as callers, help and documentation see it."""

    name: str
    #: Its type, as the annotation says.
    kind: Any
    #: `dataclasses.MISSING` where it must be given.
    default: Any = dataclasses.MISSING
    text: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    default_text: str = ""

    @property
    def metavar(self) -> str:
        """What help shows in the place of the value."""
        if self.name == "baseline" and self.kind is Any:
            return "|".join([*BASELINES, "NUMBER"])
        kinds = get_args(self.kind) if _is_union(self.kind) else (self.kind,)
        plain = "T,H,W" if Extent in kinds else getattr(kinds[0], "__name__", "value").upper()
        return "|".join(self.choices) or plain

    @property
    def expected(self) -> str:
        """What is possible, in words."""
        if self.name == "baseline" and self.kind is Any:
            return f"{', '.join(BASELINES)}, a finite number, a tensor, or a list of these"
        if self.choices:
            return f"{', '.join(self.choices)}" + (", or a tensor of integers" if self.kind is Any else "")
        return _in_words(self.kind) + _bounds(self.minimum, self.maximum)

    def check(self, value: Any, method: str) -> Any:
        """Return the value as its type.

        Args:
            value: What was given.
            method: Name of the method, for the error.

        Raises:
            UnknownNameError: A text that is no choice.
            UsageError: A value of another type, out of bounds, or not finite.
        """
        if isinstance(value, str) and self.choices and value not in self.choices:
            raise UnknownNameError(f"{self.name} of {method}", value, self.choices)
        try:
            if self.kind is Any and self.name == "baseline":
                return _baseline(value, method)
            if self.kind is Any and self.choices:
                if not (isinstance(value, str) or _is_tensor(value)):
                    raise ValueError
                return value
            found = _fitted(value, self.kind)
            for number in found if isinstance(found, tuple) else (found,):
                if not _within(number, self.minimum, self.maximum):
                    raise ValueError
        except ValueError:
            raise UsageError(f"{self.name} of {method} is {self.expected}, not {value!r:.80}") from None
        return found

    def parse(self, text: str) -> Any:
        """Read the value from a command line.

        Raises:
            ValueError: It cannot be one; the message says what is expected.
        """
        try:
            literal = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            literal = text
        for value in (literal, text):
            with contextlib.suppress(ValueError):
                return _fitted(value, self.kind if self.kind is not Any or self.choices else float | str)
        raise ValueError(f"{self.name} is {self.expected}, not {text!r:.80}")


def options_of(method: Method) -> dict[str, Option]:
    """The options that a method itself has, by name; a wrapping method's inner ones are in `names_for`.

    Raises:
        PluginError: The class that the row names is no dataclass, or its annotations cannot be read.
    """
    options = fields_of(class_of(method))
    if isinstance(method.options, str):
        return options
    named = [FORMER.get(name, name) for name in method.options]
    return {name: options[name] for name in named if name in options}


def class_of(method: Method) -> type[Any]:
    """The options class of a method.

    Raises:
        PluginError: What the row names is no dataclass.
    """
    if not isinstance(method.options, str):
        return NamedOptions
    found: Any = resolve(method.options)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise PluginError(f"the options of {method.name} ({method.options}) are no dataclass")
    return found


def fields_of(kind: type[Any]) -> dict[str, Option]:
    """The options that a class declares, by name.

    Raises:
        PluginError: Its annotations cannot be read at run time.
    """
    try:
        kinds = typing.get_type_hints(kind)
    except Exception as error:
        raise PluginError(
            f"the annotations of {kind.__module__}.{kind.__qualname__} cannot be read ({describe(error)}); import "
            "the types that they name outside `if TYPE_CHECKING`"
        ) from error
    found = {}
    for field in dataclasses.fields(kind):
        about = field.metadata.get("option", {})
        if about is None or not field.init:
            continue
        default = field.default_factory() if callable(field.default_factory) else field.default
        annotated = kinds[field.name]
        found[field.name] = Option(
            name=field.name,
            kind=Any if Any in get_args(annotated) else annotated,
            default=default,
            text=about.get("text", ""),
            minimum=about.get("minimum"),
            maximum=about.get("maximum"),
            choices=about.get("choices", ()),
            default_text=about.get("default", ""),
        )
    return found


def built_in() -> dict[str, Option]:
    """Every option of this package's methods by name, as the first method has it; without default where they differ."""
    found: dict[str, Option] = {}
    for method in BUILT_IN:
        for name, one in options_of(method).items():
            first = found.setdefault(name, one)
            if first.default != one.default:
                found[name] = dataclasses.replace(first, default_text="each method's own")
    return found


def names_for(method: Method, given: Mapping[str, Any] | None = None) -> list[str]:
    """The names of all options that a method takes, those of its inner method included.

    Args:
        method: The method.
        given: Options, of which one may choose the inner method.
    """
    inner = _inner(method, given or {})
    return list(dict.fromkeys([*options_of(method), *(names_for(inner, given) if inner else ())]))


def _inner(method: Method, given: Mapping[str, Any]) -> Method | None:
    """The method that a method wraps, with these options."""
    if not issubclass(class_of(method), WrappingOptions):
        return None
    own = options_of(method)
    chosen = {name: value for name, value in given.items() if name in own and value is not None}
    return find_method(_own(method, chosen).inner_method)


def accepted(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that a method takes, under their names of today.

    Of several baselines the first where the method compares with one.
    """
    current = {FORMER.get(name, name): value for name, value in given.items()} | dict(given)
    names = names_for(method, current)
    found = {name: value for name, value in current.items() if name in names}
    if isinstance(found.get("baseline"), list | tuple) and not _averages(method, current):
        found["baseline"] = found["baseline"][0]
    return found


def _averages(method: Method, given: Mapping[str, Any]) -> bool:
    """Whether a method takes the mean over several baselines."""
    inner, kind = _inner(method, given), class_of(method)
    if inner:
        return _averages(inner, given)
    own = isinstance(method.options, str) and issubclass(kind, BaselineOptions)
    return len(kind.references if own else method.references) > 1


def options_for(methods: Sequence[Method], given: Mapping[str, Any]) -> list[Any]:
    """Build the options of several methods; each gets those that it has.

    Args:
        methods: The methods.
        given: Values by name. None stands for the default.

    Returns:
        One options object for each method, in their order.

    Raises:
        UnknownNameError: An option that none of the methods has, or a text that is no choice.
        UsageError: A value that cannot be, or several baselines where no method takes more than one.
    """
    given = _of_today(methods, given)
    known = list(dict.fromkeys(name for method in methods for name in names_for(method, given)))
    for name in given:
        if name not in known:
            whose = ", ".join(dict.fromkeys(method.name for method in methods))
            raise UnknownNameError(f"option of {whose}", name, known, "" if known else f"{whose}: no options")
    made = [_built(method, given) for method in methods]
    several = given.get("baseline")
    averaged = any(_averages(method, given) for method in methods)
    if isinstance(several, list | tuple) and len(several) > 1 and not averaged:
        names = ", ".join(method.name for method in methods)
        raise UsageError(f"baseline of {names} is one, not {len(several)}; gradient_shap and deep_lift_shap take more")
    return made


def parsed(methods: Sequence[Method], texts: Iterable[str]) -> dict[str, Any]:
    """Read options of methods from a command line.

    Args:
        methods: The methods.
        texts: "NAME=VALUE" each; of one name the last counts.

    Raises:
        UnknownNameError: An option that none of the methods has.
        UsageError: A text of another form, or a value that cannot be.
    """
    known = built_in() | {name: one for method in methods for name, one in options_of(method).items()}
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"--option {text}: expected NAME=VALUE")
        if name not in known:
            own = dict.fromkeys(one for method in methods for one in names_for(method, found))
            raise UnknownNameError(f"option of {', '.join(method.name for method in methods)}", name, own)
        try:
            found[name] = known[name].parse(value)
        except ValueError as error:
            raise UsageError(f"--option {text}: {error}") from None
    return found


def takes_former_names(function: Function) -> Function:
    """Let a function take options by their names of version 0.1, with a warning."""

    @functools.wraps(function)
    def run(*arguments: Any, **given: Any) -> Any:
        return function(*arguments, **_of_today((), given))

    return typing.cast("Function", run)


def settings_of(method: Method, options: Any) -> dict[str, Any]:
    """The options of a method as used, by name, those of its inner method included."""
    found = {name: getattr(options, name) for name in options_of(method)}
    if isinstance(options, WrappingOptions):
        found |= {
            name: value
            for name, value in settings_of(find_method(options.inner_method), options.inner).items()
            if name not in found
        }
    return found


def _of_today(methods: Iterable[Method], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options under their names of today; one that a method still calls so keeps its name."""
    own = {name for method in methods for name in options_of(method)}
    found = dict(given)
    for name in given.keys() & FORMER.keys() - own:
        now = FORMER[name]
        if now in given:
            raise UsageError(f"{name} is the former name of {now}; give {now} alone")
        warnings.warn(f"{name} is now called {now}", DeprecationWarning, stacklevel=_outside())
        found[now] = found.pop(name)
    return found


def _outside() -> int:
    """The `stacklevel` of the caller of this package, so that the warning names the caller's line."""
    frame, level = inspect.currentframe(), 0
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == "explain":
        frame, level = frame.f_back, level + 1
    return level


def _built(method: Method, given: Mapping[str, Any]) -> Any:
    own = options_of(method)
    made = _own(method, {name: value for name, value in given.items() if name in own and value is not None})
    if not isinstance(made, WrappingOptions):
        return made
    inner = find_method(made.inner_method)
    shared = {name: getattr(made, name) for name in own if name in options_of(inner)}
    return dataclasses.replace(made, inner=_built(inner, {**given, **shared}))


def _own(method: Method, given: Mapping[str, Any]) -> Any:
    """A method's options without those of its inner method."""
    known = options_of(method)
    values = {name: known[name].check(value, method.name) for name, value in given.items()}
    needed = [name for name, one in known.items() if one.default is dataclasses.MISSING and name not in values]
    if needed:
        raise UsageError(f"{method.name} needs the option {', '.join(needed)}: {known[needed[0]].expected}")
    if not isinstance(method.options, str):  # the row's own defaults
        own: dict[str, Any] = {"n_samples": method.draws, "feature_mask": method.features}
        return NamedOptions(references=method.references, **(own | values))
    try:
        return class_of(method)(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"options of {method.name}: {describe(error)}") from error


def _baseline(value: Any, method: str) -> Any:
    if isinstance(value, list | tuple):
        return [_baseline(one, method) for one in value]
    if isinstance(value, str):
        if value not in BASELINES:
            raise UnknownNameError(f"baseline of {method}", value, BASELINES, "or a finite number")
        return value
    if value is None or _is_tensor(value):
        return value
    return _fitted(value, float)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _within(value: Any, minimum: float | None, maximum: float | None) -> bool:
    if not isinstance(value, int | float):
        return True
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in {Union, types.UnionType}


def _items(kind: Any, count: int) -> tuple[Any, ...]:
    """The types of the items of a tuple of that many."""
    kinds = get_args(kind)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return (kinds[0],) * count
    if len(kinds) != count:
        raise ValueError(kind)
    return kinds


def _fitted(value: Any, kind: Any) -> Any:
    """A value as the type that an annotation names; ValueError where it is none."""
    origin = get_origin(kind) or kind
    number = isinstance(value, Real) and type(value).__name__ != "bool"
    if _is_union(kind):
        for one in get_args(kind):
            with contextlib.suppress(ValueError):
                return _fitted(value, one)
    elif origin is int:
        if number and isinstance(value, Integral):
            return int(value)
    elif origin is float:
        if number and abs(value) <= sys.float_info.max:  # so is no NaN
            return float(value)
    elif origin is bool:
        if type(value).__name__ in {"bool", "bool_"}:
            return bool(value)
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(map(_fitted, value, _items(kind, len(value))))
    elif origin is Any or not isinstance(origin, type):
        if origin is not Literal or value in get_args(kind):
            return value
    elif isinstance(value, origin):
        return value
    raise ValueError(value)


_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("True or False", "truth values"),
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    str: ("a text", "texts"),
    types.NoneType: ("None", "None"),
}


def _in_words(kind: Any) -> str:
    if _is_union(kind):
        return " or ".join(map(_in_words, get_args(kind)))
    origin = get_origin(kind) or kind
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if origin is tuple:
        items = get_args(kind)
        each = _WORDS.get(items[0], ("", str(items[0])))[1] if items else "values"
        return f"several {each}" if Ellipsis in items or not items else f"{len(items)} {each}"
    return _WORDS.get(origin, (str(getattr(origin, "__name__", origin)), ""))[0]


def _bounds(minimum: float | None, maximum: float | None) -> str:
    parts = [f"at least {minimum:,}"] if minimum is not None else []
    parts += [f"at most {maximum:,}"] if maximum is not None else []
    return f" of {' and '.join(parts)}" if parts else ""

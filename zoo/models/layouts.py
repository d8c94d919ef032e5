"""Detection of a batch's time axis: from the caller, the model's entry, its config, its first layer or the shape."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.entries import Layout, ModelEntry
from zoo.errors import UnknownNameError, UsageError

LAYOUTS: tuple[Layout, ...] = get_args(Layout)

#: Description of each layout in messages.
SPELLED: Mapping[Layout, str] = {layout: " x ".join(layout) for layout in LAYOUTS}

#: Sizes of an axis that are taken for gray or color channels.
_COLORS = frozenset({1, 3})

#: Config keys of the frames and the channels of a batch (transformers' names).
_FRAMES = ("num_frames", "frames_per_clip")

_CHANNELS = ("num_channels", "in_chans")

#: Layouts that hold within `fixed`, by the id of the model and the number of axes.
_fixed: contextvars.ContextVar[Mapping[tuple[int, int], Layout]] = contextvars.ContextVar(
    "_fixed", default=MappingProxyType({})
)


def layout_of(model: nn.Module, batch: Tensor, layout: str | None = None) -> Layout:
    """Find the order of a batch's axes.

    Five axes are N x C x T x H x W or N x T x C x H x W. In this order decide: `layout`; the model's catalog entry;
    numbers of frames and channels in `model.config`, or in that of a module within; for a tie, transformers' convention
    (`main_input_name` of a config of the model itself); channels in axis 1 alone (1 or 3); the first convolution, whose
    weights say how many channels it reads; else an axis 1 that can be channels and is no longer than axis 2.

    Args:
        model: The model, in whatever state; where its first layer is asked, one sample runs up to it.
        batch: The batch, or any tensor of its shape.
        layout: Layout given by the caller: "NCTHW", "NTCHW" or "NCHW".

    Raises:
        UnknownNameError: No such layout.
        UsageError: The batch has neither four nor five axes, or no sample; `layout` does not fit it, or is not the
            entry's; or the time axis is ambiguous.
    """
    shape = tuple(batch.shape)
    if batch.ndim not in {4, 5} or shape[0] == 0:
        raise UsageError(
            f"a batch of shape {shape} cannot be explained; expected N x C x T x H x W or N x T x C x H x W (clips), "
            "or N x C x H x W (images), with N of at least 1"
        )
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    theirs = entry.input.layout if entry is not None and len(entry.input.layout) == batch.ndim else None
    if layout is not None:
        return _checked(layout, shape, theirs, entry)
    known = known_layout(model, batch.ndim)
    if known is not None:
        return known
    return "NCHW" if batch.ndim == 4 else _of_config(model, shape) or _of_clip(model, batch)


def known_layout(model: nn.Module, axes: int) -> Layout | None:
    """Return the layout by `fixed` or the model's entry for this number of axes, or None."""
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    theirs = entry.input.layout if entry is not None and len(entry.input.layout) == axes else None
    return _fixed.get().get((id(model), axes), theirs)


@contextlib.contextmanager
def fixed(model: nn.Module, batch: Tensor, layout: str | None = None) -> Iterator[Layout]:
    """Fix the current result of `layout_of` for this model, so that all nested calls read the same axes."""
    found = layout_of(model, batch, layout)
    token = _fixed.set({**_fixed.get(), (id(model), batch.ndim): found})
    try:
        yield found
    finally:
        _fixed.reset(token)


def to_ncthw(batch: Tensor, layout: Layout) -> Tensor:
    """Return a view of `batch` as N x C x T x H x W; an image is a clip of one frame."""
    if layout == "NCTHW":
        return batch
    return batch.transpose(1, 2) if layout == "NTCHW" else batch.unsqueeze(2)


def from_ncthw(clips: Tensor, layout: Layout) -> Tensor:
    """Return a view of N x C x T x H x W `clips` in `layout`: the inverse of `to_ncthw`."""
    if layout == "NCTHW":
        return clips
    return clips.transpose(1, 2) if layout == "NTCHW" else clips.squeeze(2)


def takes(model: nn.Module, batch: Tensor) -> bool | None:
    """Check whether the first convolution reads as many channels as it receives; None if an error comes before it."""
    first = _first_convolution(model, batch)
    return None if first is None else first.given.shape[-first.axes - 1] == first.channels


def _checked(layout: str, shape: tuple[int, ...], theirs: Layout | None, entry: ModelEntry | None) -> Layout:
    for known in LAYOUTS:
        if known == layout:
            break
    else:
        raise UnknownNameError("layout", str(layout), LAYOUTS)
    if len(known) != len(shape):
        fitting = " or ".join(repr(one) for one in LAYOUTS if len(one) == len(shape))
        raise UsageError(
            f"layout {layout!r} has {len(known)} axes and the batch {shape} has {len(shape)}; give {fitting}"
        )
    if theirs is not None and theirs != known and entry is not None:
        raise UsageError(
            f"{entry.name} takes {SPELLED[theirs]}, not {SPELLED[known]}: leave layout out, and give the batch in the "
            "model's order (`batch.transpose(1, 2)` exchanges channels and frames)"
        )
    return known


def _of_config(model: nn.Module, shape: tuple[int, ...]) -> Layout | None:
    """Infer the layout of five axes from frames and channels in the model's config; None if ambiguous."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    for module in model.modules():
        for config in _configs(module):
            frames, channels = _number(config, _FRAMES), _number(config, _CHANNELS)
            if frames is None and channels is None:
                continue
            by_channels = {order: size for order, size in _orders(shape) if channels in {None, size[0]}}
            by_both = [order for order, (_, count) in by_channels.items() if frames in {None, count}]
            if len(by_both) == 1:
                return by_both[0]
            if len(by_channels) == 1:
                return next(iter(by_channels))
            # The config of an inner module need not hold for the outer one.
            named = getattr(module, "main_input_name", None) or _get(config, "main_input_name")
            if by_channels and module is model and isinstance(named, str) and named.startswith("pixel_values"):
                return "NTCHW"
            return None
    return None


def _orders(shape: tuple[int, ...]) -> list[tuple[Layout, tuple[int, int]]]:
    """Return each reading of five axes, with its channels and frames."""
    return [("NCTHW", (shape[1], shape[2])), ("NTCHW", (shape[2], shape[1]))]


def _configs(module: nn.Module) -> Iterable[Any]:
    """Return the config of a module, and that of its vision part."""
    config = getattr(module, "config", None)
    return [one for one in (config, _get(config, "vision_config")) if one is not None]


def _number(config: Any, names: Iterable[str]) -> int | None:
    found = (_get(config, name) for name in names)
    return next((one for one in found if isinstance(one, int) and not isinstance(one, bool)), None)


def _get(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def _of_clip(model: nn.Module, batch: Tensor) -> Layout:
    """Infer the layout of five axes from a clip's shape and the model's first convolution."""
    one, two = batch.shape[1:3]
    if one in _COLORS and two not in _COLORS:
        return "NCTHW"
    seen = _of_first_layer(model, batch[:1])
    if seen is not None:
        return seen
    if one in _COLORS or (two not in _COLORS and one <= two):
        return "NCTHW"
    raise UsageError(
        f"a batch of shape {tuple(batch.shape)} may be N x T x C x H x W ({one} frames of {two} channels) or "
        f"N x C x T x H x W ({two} frames of {one} channels), and {type(model).__name__} does not say which; give "
        "layout='NTCHW' or layout='NCTHW'"
    )


def _of_first_layer(model: nn.Module, batch: Tensor) -> Layout | None:
    """Infer the layout from the first convolution: by its declared numbers, else by the channels it reads."""
    first = _first_convolution(model, batch)
    if first is None:
        return None
    if first.axes == 2 and 1 in batch.shape[1:3] and first.channels != 1:
        return None  # channels of one frame, or frames of one channel stacked where channels belong
    swapped = batch.transpose(1, 2)
    same: dict[Layout, tuple[Tensor, ...]] = {"NCTHW": (batch, swapped[0]), "NTCHW": (swapped, batch[0])}
    fed = [layout for layout, versions in same.items() if any(_equal(first.given, one) for one in versions)]
    if len(fed) == 1 and first.given.shape[-first.axes - 1] == first.channels:
        return fed[0]
    reading = [layout for layout, (channels, _) in _orders(tuple(batch.shape)) if channels == first.channels]
    return reading[0] if len(reading) == 1 else None


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


class _Convolution(TorchFunctionMode):
    """The first convolution over rows and columns that runs: what it is given, and how many channels it reads."""

    given: Tensor
    channels = 0
    axes = 0

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in {"conv2d", "conv3d"}:
            self.given, weight = (args[at] if at < len(args) else kwargs[name] for at, name in enumerate(_OPERANDS))
            groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
            self.channels, self.axes = weight.shape[1] * groups, weight.ndim - 2
            raise _Found
        return func(*args, **kwargs)


_OPERANDS = ("input", "weight")


class _Found(BaseException):
    """Ends a forward pass at the first convolution."""


def _first_convolution(model: nn.Module, batch: Tensor) -> _Convolution | None:
    """Run one sample up to the first convolution; None where none is reached. The model's modes are left as found."""
    modes = [(module, module.training) for module in model.modules()]
    found = _Convolution()
    try:
        model.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad(), found:
            model(batch[:1].clone())
    except _Found:
        return found
    except Exception:  # noqa: BLE001 - the model's error on this batch is reported by the actual run
        return None
    finally:
        for module, training in modes:
            module.training = training
    return None

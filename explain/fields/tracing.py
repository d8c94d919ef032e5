"""Following what every position sees through the operations that a model really runs."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from explain.fields.reach import Triple, View, merge
from explain.fields.timeline import (
    Located,
    Stored,
    Timeline,
    carried,
    concatenated,
    multiplied,
    reduced,
    resized_windows,
    shares_of,
    store,
    store_part,
    windowed,
    windows_of,
)
from explain.model.layouts import layout_of, to_ncthw
from explain.model.memory import within_memory
from explain.model.preservation import prepared


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it ran with its largest field."""

    #: Extent of its own window along (T, H, W).
    kernel: Triple
    #: What the positions of its output see.
    view: View


class Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Follows views through every operation.

    A view belongs to a storage, not to a tensor, so that reshaped, permuted and sliced tensors share it and writing
    into a slice is seen in the whole. Operations over three spatial axes act on (T, H, W), over two on (H, W), over one
    on T.
    """

    def __init__(self, size: Triple, *, blocks: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.size = size
        self.blocks = blocks
        #: By layer and kind, in the order of their first run.
        self.layers: dict[tuple[str, str], Layer] = {}
        #: For each of them, run by run: means over rows and columns, positions in time x channels.
        self.means: dict[tuple[str, str], list[Tensor]] = {}
        #: Names of the modules running now, outermost first, each with the number of units when it began.
        self.running: list[tuple[str, int]] = []
        #: Positions of layers noted so far, in all and by run of each layer: the first unit, and the timeline.
        self.units = 0
        self.noted: dict[tuple[str, str], list[tuple[int, Timeline] | None]] = {}
        self._stored: dict[int, Stored] = {}
        self._views: dict[int, View] = {}
        # A storage that is gone could lend its address to another; a weak reference keeps the address, not the data.
        self._known: list[StorageWeakRef] = []

    def tag(self, tensor: Tensor, view: View) -> None:
        """Note what the positions in a tensor's storage see."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._views:  # noqa: SLF001 - the one identity that views of a tensor share
            self._known.append(StorageWeakRef(storage))  # type: ignore[no-untyped-call]  # as above
        self._views[storage._cdata] = view  # noqa: SLF001 - as above

    def view_of(self, tensor: Tensor) -> View | None:
        """What they see; None for what does not come from the clip."""
        return self._views.get(tensor.untyped_storage()._cdata)  # noqa: SLF001 - as above

    def locate(self, tensor: Tensor) -> Located | None:
        """Where a tensor's time lies and what its positions depend on; None where that is not known."""
        stored = self._stored.get(tensor.untyped_storage()._cdata)  # noqa: SLF001 - as above
        return None if stored is None else stored.locate(tensor)

    def keep(self, tensor: Tensor, located: Located | Stored | None, *, written: bool = False) -> None:
        """Note what the positions of a new tensor depend on, or of one `written` into what was there before."""
        key = tensor.untyped_storage()._cdata  # noqa: SLF001 - as above
        stored = self._stored.pop(key, None)
        if located is None:
            return
        if isinstance(located, Stored):
            stored = located
        elif not written:
            stored = store(tensor, located)
        else:
            stored = store_part(tensor, located) if stored is None else stored.written(tensor, located[1])
        if stored is not None:
            self._stored[key] = stored

    def positions(self, key: tuple[str, str]) -> tuple[Timeline, list[int]] | None:
        """What a layer's positions depend on, frame by frame where it ran so, and their numbers as units."""
        runs = [run for run in self.noted.get(key, []) if run is not None]
        if not runs or len(runs) < len(self.noted[key]):
            return None
        if any(len(line) > 1 for _, line in runs):
            runs = runs[-1:]  # the same clip again
        else:
            by_frame = {int(line.own[0]): (first, line) for first, line in runs}
            runs = [by_frame[frame] for frame in sorted(by_frame)]
        units = [first + at for first, line in runs for at in range(len(line))]
        return concatenated([line for _, line in runs]), units

    def record(
        self, kind: str, kernel: Triple, view: View, output: Tensor, dims: int, located: Located | None
    ) -> Located | None:
        """Note a layer over `dims` spatial axes; its positions are units of what follows."""
        layer = self.running[-1][0] if self.running else ""
        # Over rows and columns alone, frames are folded into the batch, or each is a run of its own.
        time = 0 if dims == 2 else output.ndim - dims
        means = output.mean(dim=(-2, -1), dtype=torch.float64) if dims > 1 else output.double()
        if located is not None and located[0] is not None:
            time = located[0]
        means = (means if means.ndim > 1 else means[None]).movedim(time, 0).flatten(1)
        if len(means) in {1, view.extent[0]}:
            self.means.setdefault((layer, kind), []).append(means)
        runs = self.noted.setdefault((layer, kind), [])
        runs.append(None if located is None else (self.units, located[1]))
        if located is not None:
            located = located[0], located[1].noted(self.units)
            self.units += len(located[1])
        before = self.layers.get((layer, kind))
        if before is None or math.prod(before.view.field) < math.prod(view.field):
            self.layers[layer, kind] = Layer(kernel, view)
        return located

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if _takes_statistics(func.overloadpacket.__name__, args):
            result = (args[0].clone(), *result[1:])  # so that they do not count
        inputs = [tensor for tensor in _tensors([*args, *(kwargs or {}).values()]) if self.view_of(tensor) is not None]
        outputs = _tensors([result])
        if not inputs or not outputs or func.is_view or _makes_constants(func.overloadpacket.__name__):
            return result
        written = bool(func._schema.is_mutable)  # noqa: SLF001 - torch offers no other way to ask
        view, located = self._after(func, args, inputs, outputs[0])
        shared = {tensor.untyped_storage()._cdata for tensor in inputs}  # noqa: SLF001 - as above
        for output in outputs:
            self.tag(output, view)
            if written or output.untyped_storage()._cdata not in shared:  # noqa: SLF001 - as above
                fits = output.shape == outputs[0].shape or (isinstance(located, tuple) and located[0] is None)
                self.keep(output, located if fits else None, written=written)
        return result

    def _after(
        self, func: Any, args: tuple[Any, ...], inputs: list[Tensor], output: Tensor
    ) -> tuple[View, Located | Stored | None]:
        """What an operation's output sees, and its positions in time, or those of its storage."""
        views = [view for tensor in inputs if (view := self.view_of(tensor)) is not None]
        name = func.overloadpacket.__name__
        if name == "convolution":
            return self._convolved(args, views[0], output)
        pooling = _POOLINGS.get(name)
        if pooling is not None:
            return self._pooled(pooling, name, args, views[0], output)
        if name.startswith("upsample_"):
            view = _resized(name, views[0], output)
            windows = resized_windows(name, args, output)
            return view, _grown(windowed(self.locate(args[0]), output.ndim - 2, args[0], windows), views[0], view)
        before = merge(views)
        read = [(tensor, self.locate(tensor)) for tensor in inputs]
        if name in _REDUCTIONS:
            dims = _reduced_dims(args, inputs[0])
            axes = {axis for dim in dims for axis in _axes_of(dim, inputs[0].shape, before)}
            view = _relabelled(before.over_all(sorted(axes), self.size, reduced=True), output)
            return view, _grown(reduced(read[0][1], dims, inputs[0], output), before, view)
        if name in _PRODUCTS:
            view = self._multiplied(name, inputs, before, output)
            rows = self._stored.get(inputs[0].untyped_storage()._cdata)  # noqa: SLF001 - as above
            if len(read) == 1 and read[0][1] is None and rows is not None:  # positions stand in one axis, as rows
                return view, rows.multiplied(inputs[0], output, before, view)
            return view, _grown(multiplied(read, output), before, view)
        return _relabelled(before, output), carried(name, args, read, output)

    def _convolved(self, args: tuple[Any, ...], view: View, output: Tensor) -> tuple[View, Located | None]:
        batch, weight, _, stride, padding, dilation, transposed, _, groups = args[:9]
        axes, seen, windows = _axes(weight.ndim - 2), view, list[list[int]]()
        if len(axes) == 1 and batch.shape[-1] != view.extent[0]:
            view = view.over_all(range(3), self.size, reduced=False)  # along tokens, in whatever order
        entering = weight.shape[0] if transposed else weight.shape[1] * groups
        if len(axes) == 2 and entering == view.channels * view.extent[0] != view.channels:
            view = view.over_all([0], self.size, reduced=True)  # frames stacked as channels
        kernel = [1, 1, 1]
        for place, axis in enumerate(axes):
            size, step, spread = weight.shape[2 + place], stride[place], dilation[place]
            kernel[axis] = size
            left, window = output.shape[output.ndim - len(axes) + place], (size - 1) * spread + 1
            if axis == 0:
                had = batch.shape[batch.ndim - len(axes) + place]
                windows = windows_of(
                    had, left, size, stride=step, padding=padding[place], spread=spread, transposed=transposed
                )
            before = view.axes[axis]
            after = (
                before.upsampled(window, Fraction(step), left)
                if transposed
                else before.through(window, Fraction(step), left, padding[place])
            )
            view = view.with_axis(axis, after)
        channels = output.shape[1] if batch.ndim == weight.ndim else output.shape[0]
        view = view.with_channels(channels)
        located = _grown(windowed(self.locate(batch), len(axes), batch, windows), seen, view)
        located = self.record(
            "transposed convolution" if transposed else "convolution",
            (kernel[0], kernel[1], kernel[2]),
            view,
            output,
            len(axes),
            located,
        )
        return view, located

    def _pooled(
        self, pooling: tuple[str, int], name: str, args: tuple[Any, ...], view: View, output: Tensor
    ) -> tuple[View, Located | None]:
        kind, dims = pooling
        places, seen, windows = list(enumerate(_axes(dims))), view, list[list[int]]()
        if dims == 2 and _is_sequence(args[0].shape, view):
            places = [(1, 0)]
            if args[0].shape[-1] != view.extent[0]:
                view = view.over_all(range(3), self.size, reduced=False)  # along tokens, in whatever order
        kernel = [1, 1, 1]
        if "adaptive" in name:
            for place, axis in places:
                left, had = output.shape[output.ndim - dims + place], view.extent[axis]
                windows = shares_of(args[0].shape[args[0].ndim - dims + place], left) if axis == 0 else windows
                if left == 1 and had > 1:
                    kernel[axis] = had
                    view = view.over_all([axis], self.size, reduced=True)
                elif left != had:
                    kernel[axis] = max(math.ceil((k + 1) * had / left) - k * had // left for k in range(left))
                    view = view.with_axis(axis, view.axes[axis].through(kernel[axis], Fraction(had, left), left))
        else:
            sizes = _several(args[1], dims)
            strides = _several(args[2] if len(args) > 2 and args[2] else args[1], dims)
            paddings = _several(args[3] if len(args) > 3 else 0, dims)
            dilations = _several(args[4] if kind == "max pooling" and len(args) > 4 else 1, dims)
            for place, axis in places:
                kernel[axis] = sizes[place]
                window, left = (sizes[place] - 1) * dilations[place] + 1, output.shape[output.ndim - dims + place]
                view = view.with_axis(
                    axis, view.axes[axis].through(window, Fraction(strides[place]), left, paddings[place])
                )
                if axis == 0:
                    windows = windows_of(
                        args[0].shape[args[0].ndim - dims + place],
                        left,
                        sizes[place],
                        stride=strides[place],
                        padding=paddings[place],
                        spread=dilations[place],
                    )
        sequence = places == [(1, 0)]
        located = _grown(windowed(self.locate(args[0]), 1 if sequence else dims, args[0], windows), seen, view)
        if sequence:
            shown = None if located is None else (None if located[0] is None else 2, located[1])
            shown = self.record(kind, (kernel[0], kernel[1], kernel[2]), view, output.squeeze(2), 1, shown)
            return view, None if located is None or shown is None else (located[0], shown[1])
        return view, self.record(kind, (kernel[0], kernel[1], kernel[2]), view, output, dims, located)

    def recurrent(self, module: nn.RNNBase, inputs: Any, output: Any) -> None:
        """What a recurrent module gives out sees all that came before, in both directions all of time."""
        views = [view for tensor in _tensors(inputs) if (view := self.view_of(tensor)) is not None]
        if not views:
            return
        merged = merge(views)
        seen = merged.over_all([0], self.size, reduced=False)
        if module.input_size != merged.channels:  # maps flattened into features
            seen = seen.over_all([1, 2], self.size, reduced=True)
        states, *last = _tensors([output])
        seen = seen.with_channels(states.shape[-1])
        located = _grown(self.locate(_tensors(inputs)[0]), merged, seen)
        if located is not None:
            axis, line = located
            located = axis, line.overall(len(line)) if module.bidirectional else line.accumulated()
        self.tag(states, seen)
        located = self.record("recurrence", (merged.extent[0], 1, 1), seen, states, 1, located)
        self.keep(states, located)
        for tensor in last:
            self.tag(tensor, seen)
            self.keep(tensor, None if located is None else (None, located[1].overall()))

    def pooled_globally(self, dims: int, tensor: Tensor, output: Tensor) -> None:
        """Pooling to one position, which torch runs as a mean."""
        before, after = self.view_of(tensor), self.view_of(output)
        if before is None or after is None:
            return
        kernel = [had if left == 1 else 1 for had, left in zip(before.extent, after.extent, strict=True)]
        located = self.locate(output)
        located = self.record("average pooling", (kernel[0], kernel[1], kernel[2]), after, output, dims, located)
        self.keep(output, located, written=located is not None)

    def composed(self, inputs: Any, output: Any) -> None:
        """A module made of others: a recurrence written by hand where one of its layers reads its own results."""
        _, began = self.running[-1]
        read, tensors = _tensors(inputs), _tensors([output])
        tensor = tensors[0] if tensors else None
        if tensor is None or not 3 <= tensor.ndim <= 5 or (view := self.view_of(tensor)) is None or not read:
            return
        located = self.locate(tensor)
        inside = {
            key: runs
            for key, noted in self.noted.items()
            if (runs := [run for run in noted if run is not None and run[0] >= began])
        }
        loops = [key for key, runs in inside.items() if _reads_itself(runs)]
        known = any(kind == "recurrence" for _, kind in inside)
        if loops and not known and located is not None and len(located[1]) > 1:
            sizes = [self.layers[key].kernel for key in loops]
            kernel = (len(located[1]), max(size[1] for size in sizes), max(size[2] for size in sizes))
            kind = "recurrence"
        elif self.blocks and inside and (entered := self.view_of(read[0])) is not None:
            time, *space = _window(entered, view)
            line = self.locate(read[0])
            if known and located is not None and line is not None:  # earlier frames are seen further
                time = len(located[1])
                wider = zip(located[1].frame_field, line[1].frame_field, entered.axes[1:], strict=True)
                space = [int((new - old) / axis.jump) + 1 for new, old, axis in wider]
            kernel, kind = (time, space[0], space[1]), "block"
        else:
            return
        located = self.record(kind, kernel, view, tensor, {5: 3, 4: 2, 3: 1}[tensor.ndim], located)
        self.keep(tensor, located, written=located is not None)

    def _multiplied(self, name: str, inputs: list[Tensor], view: View, output: Tensor) -> View:
        """Matrix products: over the channels alone they mix no positions, else (attention, flattened maps) some or all.

        One of a single tensor gives the channels that stand last in its result.
        """
        if len(inputs) > 1:
            return view.over_all([axis for axis in range(3) if view.extent[axis] > 1], self.size, reduced=False)
        mixed = [axis for axis in _summed_axes(inputs[0], view) if view.extent[axis] > 1]
        if mixed:
            view = view.over_all(mixed, self.size, reduced=name in {"mm", "addmm"})
        return view.with_channels(output.shape[-1])


#: Operations that pool, with their kind and number of spatial axes.
_POOLINGS = {
    "max_pool2d_with_indices": ("max pooling", 2),
    "max_pool3d_with_indices": ("max pooling", 3),
    "avg_pool2d": ("average pooling", 2),
    "avg_pool3d": ("average pooling", 3),
    "_adaptive_avg_pool2d": ("average pooling", 2),
    "_adaptive_avg_pool3d": ("average pooling", 3),
    "adaptive_max_pool2d": ("max pooling", 2),
    "adaptive_max_pool3d": ("max pooling", 3),
}

_REDUCTIONS = {
    "mean",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "var",
    "std",
    "var_mean",
    "logsumexp",
    "norm",
    "linalg_vector_norm",
}

_PRODUCTS = {
    "mm",
    "addmm",
    "bmm",
    "baddbmm",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
}


def _summed_axes(tensor: Tensor, view: View) -> tuple[int, ...]:
    """Which of (T, H, W) stand in a tensor's last axis, over which a matrix product sums; told by its numbers."""
    width = tensor.shape[-1]
    rows = tensor.numel() // max(width, 1)
    time, height, columns = view.extent
    space = height * columns
    if width == view.channels or (rows % (time * space) == 0 and width % (time * space)):
        return ()  # every position is a row
    if space > 1 and rows % time == 0 and width % space == 0 and (time == 1 or width % (time * space)):
        return (1, 2)  # every frame is
    return (0, 1, 2)


def _reads_itself(runs: list[tuple[int, Timeline]]) -> bool:
    """Whether a layer that runs frame by frame reads what it gave out for an earlier frame."""
    if any(len(line) > 1 for _, line in runs):
        return False
    return any(
        now.units[0, before] for (before, _), (_, now) in itertools.pairwise(runs) if before < now.units.shape[1]
    )


def _window(before: View, after: View) -> Triple:
    """How many positions of what a block reads each of its results looks at."""
    sizes = [
        had.extent if new.whole and not had.whole else int((new.field - had.field) / had.jump) + 1
        for had, new in zip(before.axes, after.axes, strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def _grown(located: Located | None, before: View, after: View) -> Located | None:
    """Positions, with the rows and columns that an operation took from one view to another."""
    return None if located is None else (located[0], located[1].widened(before, after))


def _reduced_dims(args: tuple[Any, ...], tensor: Tensor) -> list[int]:
    """Axes that a mean, sum or maximum is taken over: all, unless told."""
    dims = args[1] if len(args) > 1 and args[1] is not None else range(tensor.ndim)
    dims = [dims] if isinstance(dims, int) else list(dims) or list(range(tensor.ndim))
    return [dim % max(tensor.ndim, 1) for dim in dims]


def _makes_constants(name: str) -> bool:
    """Whether an operation takes but the shape and the type of a tensor."""
    return name.startswith(("new_zeros", "new_ones", "new_full", "new_empty")) or name.endswith("_like")


def _takes_statistics(name: str, args: tuple[Any, ...]) -> bool:
    """Whether a normalisation looks at all positions: by groups or instances, unlike batches in eval mode."""
    return name == "native_group_norm" or (name in {"native_batch_norm", "cudnn_batch_norm"} and bool(args[5]))


def _axes(dims: int) -> tuple[int, ...]:
    """The axes of (T, H, W) that an operation over so many spatial axes acts on."""
    return {1: (0,), 2: (1, 2), 3: (0, 1, 2)}[dims]


def _several(value: Any, count: int) -> list[int]:
    values = list(value) if isinstance(value, tuple | list) else [value]
    return values * count if len(values) == 1 else values


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Every tensor among values, lists of them looked through."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _tensors(value)
    return found


def _resized(name: str, view: View, output: Tensor) -> View:
    """Interpolation: up, each position reaches over several new ones; down, each result looks at several."""
    taps = 1 if "nearest" in name else 4 if "bicubic" in name else 2
    for place, axis in enumerate(_axes(output.ndim - 2)):
        before, left = view.axes[axis], output.shape[2 + place]
        factor = Fraction(left, before.extent)
        if factor > 1:
            after = before.upsampled(math.ceil(taps * factor), factor, left)
        else:
            after = before.through(1 if factor == 1 else taps, 1 / factor, left)
        view = view.with_axis(axis, after)
    return view


def _is_sequence(shape: tuple[int, ...], view: View) -> bool:
    """Whether a tensor is N x C x 1 x T: pooling over one axis, as torch runs it."""
    return len(shape) == 4 and shape[2] == 1 and tuple(shape[2:]) != view.extent[1:]


def _axes_of(dim: int, shape: tuple[int, ...], view: View) -> tuple[int, ...]:
    """Which of (T, H, W) a tensor's axis holds, told by order and size; none for samples and channels."""
    time, height, width = view.extent
    if _is_sequence(shape, view):
        dim, shape = min(dim, 2), (*shape[:2], shape[3])
    if len(shape) >= 4 and tuple(shape[-2:]) == (height, width):
        if dim >= len(shape) - 2:
            return (1,) if dim == len(shape) - 2 else (2,)
        if len(shape) == 5 and dim in {1, 2}:
            at = 2 if shape[2] == time else 1
            return (0,) if dim == at else ()
        return ()
    if dim == 0:
        return ()
    if len(shape) == 3 and shape[dim] == time * height * width and shape[dim] != view.channels:
        return (0, 1, 2)
    if len(shape) == 3 and shape[dim] == height * width and shape[dim] != view.channels:
        return (1, 2)
    return (0,) if len(shape) == 3 and shape[dim] == time and time > 1 else ()


def _relabelled(view: View, output: Tensor) -> View:
    """The view with the channels that an elementwise operation or a concatenation leaves."""
    shape = output.shape
    if len(shape) < 4 or tuple(shape[-2:]) != view.extent[1:]:
        return view
    channels = shape[1] if len(shape) == 4 or shape[2] == view.extent[0] else shape[2]
    return view.with_channels(channels)


#: Poolings to a given size, with their number of spatial axes; torch runs those to one position as a mean.
_GLOBAL: dict[type[nn.Module], int] = {
    nn.AdaptiveAvgPool1d: 1,
    nn.AdaptiveAvgPool2d: 2,
    nn.AdaptiveAvgPool3d: 3,
}


@contextlib.contextmanager
def _current_module(model: nn.Module, tracker: Tracker) -> Iterator[None]:
    """Tell the tracker which module runs, and what modules give out that no single operation tells."""
    handles: list[RemovableHandle] = []

    def entering(name: str) -> Any:
        return lambda _module, _inputs: tracker.running.append((name, tracker.units))

    def leaving(module: nn.Module, inputs: Any, output: Any) -> None:
        name = tracker.running[-1][0]
        if isinstance(module, nn.RNNBase):
            tracker.recurrent(module, inputs, output)
        elif type(module) in _GLOBAL and (name, "average pooling") not in tracker.layers:  # torch ran a mean
            tracker.pooled_globally(_GLOBAL[type(module)], inputs[0], output)
        elif next(module.children(), None) is not None:
            tracker.composed(inputs, output)
        tracker.running.pop()

    try:
        for name, module in model.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_pre_hook(entering(name)))
                handles.append(module.register_forward_hook(leaving))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Within, torch's encoder layers run operation by operation, not as one fused operation that cannot be followed."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def tracked(model: nn.Module, batch: Tensor, *, blocks: bool, follow: bool = True) -> Tracker:
    """One run of the model on one sample; `follow` its positions in time, too."""
    clips = to_ncthw(batch, layout_of(model, batch))
    extent = clips.shape[2], clips.shape[3], clips.shape[4]
    batch = batch.clone(memory_format=torch.contiguous_format)
    tracker = Tracker(extent, blocks=blocks)
    tracker.tag(batch, View.of_input(extent, clips.shape[1]))
    if follow:
        at = {"NCTHW": 2, "NTCHW": 1, "NCHW": None}[layout_of(model, batch)]
        tracker.keep(batch, (at if extent[0] > 1 else None, Timeline.of_input(extent[0])))
    with prepared(model, seed=0), torch.no_grad(), _unfused(), _current_module(model, tracker), tracker:
        within_memory(lambda _: model(batch), 1, f"one sample of {tuple(batch.shape[1:])}")
    return tracker

"""How far a layer can see: theoretical receptive fields, read off the operations that a model really runs."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from explain.budget import within_memory
from explain.layouts import layout_of, to_ncthw
from explain.preservation import prepared
from explain.reach import Axis, Triple, View, merge
from zoo import devices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptiveField:
    """What one position of a layer's output depends on, and how far its neighbour's view lies away; all (T, H, W)."""

    #: Name of the layer, as `explain.layers.layer_names` lists it; "" for what the model's own forward calls as a
    #: function.
    layer: str
    #: "convolution", "transposed convolution", "max pooling", "average pooling" or "recurrence".
    kind: str
    #: Extent of the layer's own window; 1 along an axis that it does not look along.
    kernel: Triple
    #: Frames, rows and columns of the input; may exceed the input, whose border is then padding.
    field: Triple
    #: Frames, rows and columns of the input from one position to the next; a fraction behind upsampling.
    stride: tuple[float, float, float]
    #: Positions in the layer's output.
    output: Triple
    #: Axes along which the layer sees the whole input, however long (global pooling, recurrence).
    whole: tuple[bool, bool, bool]
    #: False where single frames reached further than the layers explain, or where frames were left out: then `field`
    #: is at least that many frames.
    exact: bool = True


def receptive_fields(model: nn.Module, input_shape: tuple[int, ...]) -> list[ReceptiveField]:
    """The field and stride of each convolution, pooling and recurrent layer, in the order in which they run.

    In one run on random numbers, every operation hands on the field of what it reads. Through a window of k positions,
    dilated by d, over positions j apart, a field grows by (k - 1) d j and j is multiplied by the stride
    (Araujo, Norris & Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill 2019, equations 1 to 3).
    Where paths meet (sums, concatenations, gates), the largest field of any of them counts. A layer that runs several
    times is listed once, with its largest field. Convolutions over rows and columns only, frames folded into the batch
    or not, leave the field in time as it is.

    Exact are convolutions, pooling, sums, concatenations, means over whole axes, matrix products and recurrent modules;
    statistics of normalisations do not count. Other operations count as elementwise, although some mix frames (shifts
    and differences of frames, cumulative sums, recurrences written by hand). In time this is checked: three more runs
    change one frame each. Where that reaches further than computed, the frames reached are the field, a layer run frame
    by frame sees all of time, and this and every later layer is marked as not exact. So are layers whose positions do
    not cover the clip, since frames left out by indexing are not known as a stride. Nothing is checked along rows and
    columns.

    Args:
        model: Any module; left as it was found.
        input_shape: Shape of a batch, as the model takes it; one sample of it is run.

    Raises:
        UsageError: The shape is neither that of a batch of clips nor of images.
        MemoryLimitError: Memory does not hold one sample.
    """
    draw = torch.Generator().manual_seed(0)
    batch = torch.rand((1, *input_shape[1:]), generator=draw).to(devices.like(model))
    tracker = _tracked(model, batch)
    rows = dict(tracker.rows)
    layout = layout_of(model, batch)
    frames = to_ncthw(batch, layout).shape[2]
    if frames == 1 or all(row.whole[0] for row in rows.values()):
        return list(rows.values())
    for frame in sorted({0, frames // 2, frames - 1}):
        changed = batch.clone()
        clip = to_ncthw(changed, layout)[:, :, frame]
        clip.copy_(3 * torch.rand(clip.shape, generator=draw))
        rows = _checked(rows, tracker, _tracked(model, changed), frames)
    return list(rows.values())


def _tracked(model: nn.Module, batch: Tensor) -> _Tracker:
    """One run of the model."""
    clips = to_ncthw(batch, layout_of(model, batch))
    extent = clips.shape[2], clips.shape[3], clips.shape[4]
    batch = batch.clone()
    tracker = _Tracker(extent)
    tracker.tag(batch, View.of_input(extent, clips.shape[1]))
    with prepared(model, seed=0), torch.no_grad(), _current_module(model, tracker), tracker:
        within_memory(lambda _: model(batch), 1, f"one sample of {tuple(batch.shape[1:])}")
    return tracker


def _checked(
    rows: dict[tuple[str, str], ReceptiveField], before: _Tracker, after: _Tracker, frames: int
) -> dict[tuple[str, str], ReceptiveField]:
    """The rows, corrected where a change of one frame (`after`) reached more positions than a layer's field allows."""
    checked = {}
    exact = True
    for key, row in rows.items():
        axis = before.seen[key]
        means = before.means.get(key, [])
        by_frame = len(means) == axis.extent > 1  # each run is one frame's
        reached = _reached(means, after.means.get(key, []), joined=by_frame)
        # Behind upsampling, fields differ from position to position.
        fractions = axis.base > 1 or axis.jump.denominator > 1 or axis.span.denominator > 1
        slack = max(axis.grain, axis.jump) if fractions else 0
        field = min(math.ceil(reached * axis.jump) + 1, frames)
        whole = row.whole[0]
        if not whole and field > row.field[0] + slack:
            exact, whole = False, by_frame
            row = dataclasses.replace(
                row, field=(frames if whole else field, *row.field[1:]), whole=(whole, *row.whole[1:])
            )
        checked[key] = dataclasses.replace(row, exact=row.exact and (exact or whole))
    return checked


def _reached(before: list[Tensor], after: list[Tensor], *, joined: bool) -> int:
    """How many positions in time lie between the first and the last that changed, in a run or, joined, over runs."""
    if len(before) != len(after):
        return 0
    if joined:
        before, after = [torch.cat(before)], [torch.cat(after)]
    reached = [0]
    for was, now in zip(before, after, strict=True):
        places = ((now - was).abs().amax(dim=1) > _ROUNDING * was.abs().amax()).nonzero()
        reached.append(int(places.max() - places.min()) if len(places) else 0)
    return max(reached)


#: Changes below this share of the largest number may be rounding: some convolution algorithms share sums.
_ROUNDING = 1e-5


class _Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Follows views through every operation.

    A view belongs to a storage, not to a tensor, so that reshaped, permuted and sliced tensors share it and writing
    into a slice is seen in the whole. Operations over three spatial axes act on (T, H, W), over two on (H, W), over one
    on T.
    """

    def __init__(self, size: Triple) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.size = size
        #: One row for each layer and kind, in the order of their first run.
        self.rows: dict[tuple[str, str], ReceptiveField] = {}
        #: For each row, the time axis of its view.
        self.seen: dict[tuple[str, str], Axis] = {}
        #: For each row, run by run: means over rows and columns, positions in time x channels.
        self.means: dict[tuple[str, str], list[Tensor]] = {}
        #: Names of the modules running now, outermost first.
        self.running: list[str] = []
        self._views: dict[int, View] = {}
        # A storage that is gone could lend its address to another; a weak reference keeps the address, not the data.
        self._known: list[StorageWeakRef] = []

    def tag(self, tensor: Tensor, view: View) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._views:  # noqa: SLF001 - the one identity that views of a tensor share
            self._known.append(StorageWeakRef(storage))  # type: ignore[no-untyped-call]  # as above
        self._views[storage._cdata] = view  # noqa: SLF001 - as above

    def view_of(self, tensor: Tensor) -> View | None:
        return self._views.get(tensor.untyped_storage()._cdata)  # noqa: SLF001 - as above

    def record(self, kind: str, kernel: Triple, view: View, output: Tensor, dims: int) -> None:
        """Note a layer over `dims` spatial axes."""
        layer = self.running[-1] if self.running else ""
        # Over rows and columns alone, frames are folded into the batch, or each is a run of its own.
        time = 0 if dims == 2 else output.ndim - dims
        means = output.mean(dim=(-2, -1), dtype=torch.float64) if dims > 1 else output.double()
        means = (means if means.ndim > 1 else means[None]).movedim(time, 0).flatten(1)
        if len(means) in {1, view.extent[0]}:
            self.means.setdefault((layer, kind), []).append(means)
        positions = len(means) if len(means) > 1 else view.extent[0]
        before = self.rows.get((layer, kind))
        if before is not None and math.prod(before.field) >= math.prod(view.field):
            return
        self.seen[layer, kind] = view.axes[0]
        self.rows[layer, kind] = ReceptiveField(
            layer=layer,
            kind=kind,
            kernel=kernel,
            field=view.field,
            stride=view.stride,
            output=view.extent,
            whole=view.whole,
            # Where a clip is not covered, frames were left out: neighbours may lie further apart than known.
            exact=view.whole[0] or (positions + 2) * view.stride[0] + view.field[0] > self.size[0],
        )

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if _takes_statistics(func.overloadpacket.__name__, args):
            result = (args[0].clone(), *result[1:])  # so that they do not count
        inputs = [tensor for tensor in _tensors([*args, *(kwargs or {}).values()]) if self.view_of(tensor) is not None]
        outputs = _tensors([result])
        if not inputs or not outputs or func.is_view:
            return result
        view = self._after(func, args, inputs, outputs[0])
        for output in outputs:
            self.tag(output, view)
        return result

    def _after(self, func: Any, args: tuple[Any, ...], inputs: list[Tensor], output: Tensor) -> View:
        """What an operation's output sees."""
        views = [view for tensor in inputs if (view := self.view_of(tensor)) is not None]
        name = func.overloadpacket.__name__
        if name == "convolution":
            return self._convolved(args, views[0], output)
        pooling = _POOLINGS.get(name)
        if pooling is not None:
            return self._pooled(pooling, name, args, views[0], output)
        if name.startswith("upsample_"):
            return _resized(name, views[0], output)
        view = merge(views)
        if name in _REDUCTIONS:
            return self._reduced(args, inputs[0], view, output)
        if name in _PRODUCTS:
            return self._multiplied(name, inputs, view)
        return _relabelled(view, output)

    def _convolved(self, args: tuple[Any, ...], view: View, output: Tensor) -> View:
        batch, weight, _, stride, _, dilation, transposed, _, groups = args[:9]
        axes = _axes(weight.ndim - 2)
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
            before = view.axes[axis]
            after = (before.upsampled if transposed else before.through)(window, Fraction(step), left)
            view = view.with_axis(axis, after)
        channels = output.shape[1] if batch.ndim == weight.ndim else output.shape[0]
        view = view.with_channels(channels)
        self.record(
            "transposed convolution" if transposed else "convolution",
            (kernel[0], kernel[1], kernel[2]),
            view,
            output,
            len(axes),
        )
        return view

    def _pooled(self, pooling: tuple[str, int], name: str, args: tuple[Any, ...], view: View, output: Tensor) -> View:
        kind, dims = pooling
        places = list(enumerate(_axes(dims)))
        if dims == 2 and _is_sequence(args[0].shape, view):
            places = [(1, 0)]
            if args[0].shape[-1] != view.extent[0]:
                view = view.over_all(range(3), self.size, reduced=False)  # along tokens, in whatever order
        kernel = [1, 1, 1]
        if "adaptive" in name:
            for place, axis in places:
                left, had = output.shape[output.ndim - dims + place], view.extent[axis]
                if left == 1 and had > 1:
                    kernel[axis] = had
                    view = view.over_all([axis], self.size, reduced=True)
                elif left != had:
                    kernel[axis] = max(math.ceil((k + 1) * had / left) - k * had // left for k in range(left))
                    view = view.with_axis(axis, view.axes[axis].through(kernel[axis], Fraction(had, left), left))
        else:
            sizes = _several(args[1], dims)
            strides = _several(args[2] if len(args) > 2 and args[2] else args[1], dims)
            dilations = _several(args[4] if kind == "max pooling" and len(args) > 4 else 1, dims)
            for place, axis in places:
                kernel[axis] = sizes[place]
                window, left = (sizes[place] - 1) * dilations[place] + 1, output.shape[output.ndim - dims + place]
                view = view.with_axis(axis, view.axes[axis].through(window, Fraction(strides[place]), left))
        if places == [(1, 0)]:
            output, dims = output.squeeze(2), 1
        self.record(kind, (kernel[0], kernel[1], kernel[2]), view, output, dims)
        return view

    def _reduced(self, args: tuple[Any, ...], tensor: Tensor, view: View, output: Tensor) -> View:
        """Mean, sum, maximum over axes: those over time, rows or columns are seen whole from then on."""
        dims = args[1] if len(args) > 1 and args[1] is not None else range(tensor.ndim)
        dims = [dims] if isinstance(dims, int) else list(dims) or list(range(tensor.ndim))
        axes = {axis for dim in dims for axis in _axes_of(dim % max(tensor.ndim, 1), tensor.shape, view)}
        return _relabelled(view.over_all(sorted(axes), self.size, reduced=True), output)

    def _multiplied(self, name: str, inputs: list[Tensor], view: View) -> View:
        """Matrix products: over the channels alone they mix no positions, else (attention, flattened maps) all."""
        mixed = len(inputs) > 1 or inputs[0].shape[-1] != view.channels
        positions = [axis for axis in range(3) if view.extent[axis] > 1]
        if not mixed or not positions:
            return view
        reduced = len(inputs) == 1 and name in {"mm", "addmm"}
        return view.over_all(positions, self.size, reduced=reduced)


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
def _current_module(model: nn.Module, tracker: _Tracker) -> Iterator[None]:
    """Tell the tracker which module runs; what a recurrent module gives out sees all of time."""
    handles: list[RemovableHandle] = []

    def entering(name: str) -> Any:
        return lambda _module, _inputs: tracker.running.append(name)

    def leaving(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, nn.RNNBase):
            views = [view for tensor in _tensors(inputs) if (view := tracker.view_of(tensor)) is not None]
            if views:
                merged = merge(views)
                seen = merged.over_all([0], tracker.size, reduced=False)
                if module.input_size != merged.channels:  # maps flattened into features
                    seen = seen.over_all([1, 2], tracker.size, reduced=True)
                seen = seen.with_channels(_tensors([output])[0].shape[-1])
                for tensor in _tensors([output]):
                    tracker.tag(tensor, seen)
                tracker.record("recurrence", (merged.extent[0], 1, 1), seen, _tensors([output])[0], 1)
        dims = _GLOBAL.get(type(module))
        if dims is not None and (tracker.running[-1], "average pooling") not in tracker.rows:  # torch ran a mean
            before, after = (tracker.view_of(tensor) for tensor in (inputs[0], output))
            if before is not None and after is not None:
                kernel = [had if left == 1 else 1 for had, left in zip(before.extent, after.extent, strict=True)]
                tracker.record("average pooling", (kernel[0], kernel[1], kernel[2]), after, output, dims)
        tracker.running.pop()

    try:
        for name, module in model.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(entering(name)))
                handles.append(module.register_forward_hook(leaving))
        yield
    finally:
        for handle in handles:
            handle.remove()

"""What each position in time depends on, followed through operations: input frames, and positions of earlier layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from explain.fields.reach import View


@dataclass(frozen=True, slots=True)
class Timeline:
    """What positions in time, one after the other, depend on."""

    #: Positions x frames x 2: how many rows and columns of an input frame, at the worst alignment; 0 where unseen.
    pixels: npt.NDArray[np.int64]
    #: Positions x units noted so far: which of them are used. Units are numbered in the order of their noting.
    units: npt.NDArray[np.bool_]
    #: For each position the frame that it stands at: the middle of its window, the latest where it carries a state.
    own: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.own)

    @classmethod
    def of_input(cls, frames: int) -> Timeline:
        """The clip itself: every position is one frame."""
        pixels = np.repeat(np.eye(frames, dtype=np.int64)[:, :, None], 2, axis=2)
        return cls(pixels, np.zeros((frames, 0), dtype=bool), np.arange(frames))

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Positions x frames: which are seen."""
        return self.pixels[:, :, 0] > 0

    @property
    def frame_field(self) -> tuple[int, int]:
        """Rows and columns that a position sees of the frame that it stands at, at most."""
        own = self.pixels[np.arange(len(self)), self.own]
        return int(own[:, 0].max()), int(own[:, 1].max())

    def take(self, positions: Sequence[int]) -> Timeline:
        """Some positions, in that order; -1 is one that depends on nothing."""
        at = np.asarray(positions, dtype=np.int64)
        there = at >= 0
        return Timeline(
            self.pixels[at] * there[:, None, None], self.units[at] & there[:, None], self.own[np.maximum(at, 0)]
        )

    def through(self, windows: Sequence[Sequence[int]]) -> Timeline:
        """One position for each window of neighbours; what lies outside is padding."""
        pixels, units, own = [], [], []
        for window in windows:
            inside = [at for at in window if 0 <= at < len(self)]
            pixels.append(self.pixels[inside].max(axis=0, initial=0))
            units.append(self.units[inside].any(axis=0))
            middle = window[(len(window) - 1) // 2] if window else 0
            own.append(self.own[min(max(middle, 0), len(self) - 1)])
        return Timeline(np.stack(pixels), np.stack(units), np.array(own))

    def overall(self, count: int = 1) -> Timeline:
        """So many positions that each depend on all of these."""
        return self.through([range(len(self))]).take([0] * count)

    def accumulated(self) -> Timeline:
        """Every position also depends on all before it: a recurrence."""
        units: npt.NDArray[np.bool_] = np.logical_or.accumulate(self.units, axis=0)
        return Timeline(np.maximum.accumulate(self.pixels, axis=0), units, self.own)

    def widened(self, before: View, after: View) -> Timeline:
        """Through an operation over rows and columns that takes one view to another."""
        pixels = self.pixels.copy()
        for place, (old, new) in enumerate(zip(before.axes[1:], after.axes[1:], strict=True)):
            extents = pixels[:, :, place]
            extents[extents > 0] += new.field - old.field
            if new.whole and not old.whole:
                extents[extents > 0] = new.field
        return dataclasses.replace(self, pixels=pixels)

    def noted(self, first: int) -> Timeline:
        """The positions themselves noted as units, numbered from `first`."""
        units = np.zeros((len(self), first + len(self)), dtype=bool)
        units[:, : self.units.shape[1]] = self.units
        units[:, first:] = np.eye(len(self), dtype=bool)
        return dataclasses.replace(self, units=units)


#: The axis of time, None where a tensor holds one position, and the timeline.
Located = tuple[int | None, Timeline]

#: Tensors that an operation reads and that depend on the clip; None where time was lost.
Read = Sequence[tuple[Tensor, Located | None]]


@dataclass(frozen=True, slots=True)
class Stored:
    """The timeline of a storage, which all tensors that share it look into."""

    line: Timeline
    #: Elements of the storage from one position to the next.
    step: int = 1

    def locate(self, tensor: Tensor) -> Located | None:
        """Which positions a tensor holds, told by its strides; None where time is mixed with other axes."""
        count = len(self.line)
        if count == 1:
            return None, self.line
        period = self.step * count
        start = tensor.storage_offset() // self.step % count
        axis, jump = None, 0
        for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            if size == 1 or stride % period == 0:  # other samples or channels, or expanded
                continue
            if stride % self.step == 0 and axis is None and (size - 1) * stride < period:
                axis, jump = dim, stride // self.step
            elif (size - 1) * stride >= self.step:
                return None
        length = 1 if axis is None else tensor.shape[axis]
        positions = [start + k * jump for k in range(length)]
        return (axis, self.line.take(positions)) if positions and positions[-1] < count else None

    def written(self, tensor: Tensor, line: Timeline) -> Stored | None:
        """After an operation wrote into this tensor of the storage."""
        where = Stored(dataclasses.replace(self.line, own=np.arange(len(self.line))), self.step).locate(tensor)
        if where is None or len(where[1]) != len(line):
            return None
        pixels, own = self.line.pixels.copy(), self.line.own.copy()
        units = np.zeros((len(self.line), max(self.line.units.shape[1], line.units.shape[1])), dtype=bool)
        units[:, : self.line.units.shape[1]] = self.line.units
        at = where[1].own
        pixels[at], own[at] = line.pixels, line.own
        units[at] = False
        units[at, : line.units.shape[1]] = line.units
        return Stored(Timeline(pixels, units, own), self.step)

    def multiplied(self, tensor: Tensor, output: Tensor, before: View, after: View) -> Stored | None:
        """Through a matrix product whose rows are positions, row by row: the same positions, with its channels."""
        width = tensor.shape[-1]
        whole = self.step * len(self.line)
        if tensor.ndim != 2 or not tensor.is_contiguous() or tensor.storage_offset() % whole or self.step % width:
            return None
        if tensor.numel() % whole or output.shape[:-1] != tensor.shape[:-1]:
            return None
        return Stored(self.line.widened(before, after), self.step // width * output.shape[-1])


def store(tensor: Tensor, located: Located) -> Stored:
    """A fresh storage that this tensor fills."""
    axis, line = located
    return Stored(line, 1 if axis is None else tensor.stride(axis))


def store_part(tensor: Tensor, located: Located) -> Stored | None:
    """A storage that nothing was known of, of which a part was written: one position of several, or all of it."""
    gaps, expected = [], 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride != expected:
            gaps.append((expected, stride // expected))
        expected = stride * size
    elements = tensor.untyped_storage().nbytes() // tensor.element_size()
    if elements != expected:
        gaps.append((expected, elements // expected))
    if not gaps:
        return store(tensor, located)
    axis, line = located
    if len(gaps) > 1 or axis is not None:
        return None
    step, count = gaps[0]
    return Stored(line.take([-1] * count), step).written(tensor, line)


def joined(lines: Iterable[Timeline]) -> Timeline:
    """Where paths meet: a position depends on what any of them depends on; single positions go with all others."""
    lines = list(lines)
    count, width = max(map(len, lines)), max(line.units.shape[1] for line in lines)
    frames = lines[0].pixels.shape[1]
    pixels, units = np.zeros((count, frames, 2), dtype=np.int64), np.zeros((count, width), dtype=bool)
    own = np.zeros(count, dtype=np.int64)
    for line in lines:
        pixels = np.maximum(pixels, line.pixels)
        units[:, : line.units.shape[1]] |= line.units
        own = np.maximum(own, line.own)
    return Timeline(pixels, units, own)


def concatenated(lines: Sequence[Timeline]) -> Timeline:
    """One after the other."""
    width = max(line.units.shape[1] for line in lines)
    units = [np.pad(line.units, ((0, 0), (0, width - line.units.shape[1]))) for line in lines]
    return Timeline(
        np.concatenate([line.pixels for line in lines]),
        np.concatenate(units),
        np.concatenate([line.own for line in lines]),
    )


def windowed(located: Located | None, dims: int, tensor: Tensor, windows: Sequence[Sequence[int]]) -> Located | None:
    """Through windows over `dims` spatial axes of a tensor; those over time are given for the axis that they act on."""
    if located is None:
        return None
    axis, line = located
    acted = {1: tensor.ndim - 1, 2: None, 3: tensor.ndim - 3}[dims]
    if axis == 0 and tensor.ndim == dims + 2:
        return located  # frames folded into the batch
    if acted is not None and axis in {acted, None}:
        line = line.through(windows)
        return (acted if len(line) > 1 else None), line
    if axis is None:
        return located
    return (None, line.overall()) if axis == tensor.ndim - dims - 1 else None  # frames stacked as channels


def carried(name: str, args: tuple[Any, ...], inputs: Read, output: Tensor) -> Located | None:
    """Through an operation that is neither a window nor a reduction nor a product: `inputs` to its first result."""
    found = [located for _, located in inputs if located is not None]
    if len(found) < len(inputs):
        return None
    if name in {"cat", "stack"}:
        return _concatenated(name, args, inputs, output)
    if name in _MOVING and len(inputs) == 1 and args[0] is inputs[0][0]:
        return _moved(name, args, found[0], output)
    axes = set()
    for (tensor, _), (axis, _) in zip(inputs, found, strict=True):
        if axis is None:
            continue
        missing = output.ndim - tensor.ndim
        fits = missing >= 0 and output.shape[missing + axis] == tensor.shape[axis]
        if missing:  # broadcast
            fits = fits and all(
                had in {1, left} for had, left in zip(tensor.shape, output.shape[missing:], strict=True)
            )
        if not fits:
            return None
        axes.add(missing + axis)
    if len(axes) > 1:
        return None
    return (axes.pop() if axes else None), joined(line for _, line in found)


def reduced(located: Located | None, dims: Sequence[int], tensor: Tensor, output: Tensor) -> Located | None:
    """Through a mean, sum or maximum over some axes of a tensor."""
    if located is None:
        return None
    axis, line = located
    if axis is None:
        return located
    if axis in dims:
        return None, line.overall()
    kept = output.ndim == tensor.ndim
    return (axis if kept else axis - sum(dim < axis for dim in dims)), line


def multiplied(inputs: Read, output: Tensor) -> Located | None:
    """Through a matrix product of one tensor with weights, or of several with each other."""
    found = [located for _, located in inputs if located is not None]
    if len(found) < len(inputs):
        return None
    if len(found) > 1:  # attention: everything is mixed with everything
        return (None, joined(line for _, line in found)) if all(axis is None for axis, _ in found) else None
    axis, line = found[0]
    if axis is None:
        return found[0]
    if axis == inputs[0][0].ndim - 1:
        return None, line.overall()
    return (axis, line) if axis < output.ndim and output.shape[axis] == len(line) else None


#: Operations that move positions about, found by moving their numbers.
_MOVING = {"flip", "roll", "index_select", "index", "constant_pad_nd", "repeat", "clone", "_to_copy"} | {
    f"{kind}_pad{dims}d" for kind in ("reflection", "replication") for dims in (1, 2, 3)
}


def _moved(name: str, args: tuple[Any, ...], located: Located, output: Tensor) -> Located | None:
    axis, line = located
    tensor = args[0]
    if axis is None:
        return located if name in {"clone", "_to_copy"} or output.shape == tensor.shape else None
    if name in {"clone", "_to_copy"}:
        return located
    shape = [1] * tensor.ndim
    shape[axis] = len(line)
    numbers = torch.arange(1.0, len(line) + 1).reshape(shape).expand(tensor.shape).contiguous()
    rest = list(args[1:])
    if name == "constant_pad_nd":
        rest = [rest[0], 0.0]
    if name == "index":
        rest = [[None if one is None else one.cpu() for one in rest[0]]]
    if name == "index_select":
        rest = [rest[0], rest[1].cpu()]
    operation: Any = getattr(torch.ops.aten, name)
    moved = operation(numbers, *rest)
    if moved.shape != output.shape:
        return None
    varying = [dim for dim in range(moved.ndim) if not torch.equal(moved, moved.narrow(dim, 0, 1).expand_as(moved))]
    if len(varying) > 1:
        return None
    if not varying:
        return None, line.take([int(moved.flatten()[0]) - 1])
    positions = moved.movedim(varying[0], 0).flatten(1)[:, 0]
    return varying[0], line.take([int(at) - 1 for at in positions])


def _concatenated(name: str, args: tuple[Any, ...], inputs: Read, output: Tensor) -> Located | None:
    """Along time, or along another axis."""
    tensors: Sequence[Tensor] = args[0]
    dim = (args[1] if len(args) > 1 else 0) % output.ndim
    known = {id(tensor): located for tensor, located in inputs}
    found = [located for _, located in inputs if located is not None]
    axes = {axis for axis, _ in found}
    blank = found[0][1].take([-1])
    single = axes == {None}
    along = name == "stack" or all(tensor.shape[dim] == 1 for tensor in tensors)
    # One position each: frames, unless all stand at the same one, as gates and heads do.
    frames = single and len({int(line.own[0]) for _, line in found}) > 1 and along
    if frames and name == "cat":  # states beside inputs are channels
        frames = dim in {3: (1, 2), 4: (0,), 5: (1, 2)}.get(output.ndim, ())
    if frames or (name == "cat" and dim in axes and axes <= {dim, None}):
        parts = []
        for tensor in tensors:
            located = known.get(id(tensor))
            length = 1 if name == "stack" else tensor.shape[dim]
            part = located[1] if located is not None else blank.take([-1] * length)
            if len(part) != length:
                return None
            parts.append(part)
        return dim, concatenated(parts)
    shift = {axis + 1 if name == "stack" and axis >= dim else axis for axis in axes if axis is not None}
    if len(shift) > 1 or (name == "cat" and dim in shift):
        return None
    return (shift.pop() if shift else None), joined(line for _, line in found)


def windows_of(
    had: int, left: int, size: int, *, stride: int = 1, padding: int = 0, spread: int = 1, transposed: bool = False
) -> list[list[int]]:
    """Which of `had` positions each of `left` results looks at through a window of `size`, `spread` apart."""
    if not transposed:
        return [[at * stride - padding + k * spread for k in range(size)] for at in range(left)]
    reached: list[list[int]] = [[] for _ in range(left)]
    for source in range(had):
        for k in range(size):
            at = source * stride - padding + k * spread
            if 0 <= at < left:
                reached[at].append(source)
    return [sorted(one) for one in reached]


def shares_of(had: int, left: int) -> list[list[int]]:
    """Which of `had` positions each of `left` results of an adaptive pooling looks at."""
    return [list(range(at * had // left, math.ceil((at + 1) * had / left))) for at in range(left)]


def resized_windows(name: str, args: tuple[Any, ...], output: Tensor) -> list[list[int]]:
    """Which positions along the first axis of interpolation each result looks at."""
    had, left = args[0].shape[2], output.shape[2]
    windows = []
    for at in range(left):
        if "nearest" in name or had == left:
            windows.append([at * had // left])
            continue
        corners = len(args) > 2 and args[2] is True
        middle = at * (had - 1) / max(left - 1, 1) if corners else max((at + 0.5) * had / left - 0.5, 0.0)
        windows.append(sorted({math.floor(middle), min(math.ceil(middle), had - 1)}))
    return windows

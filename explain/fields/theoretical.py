"""How far a layer can see: theoretical receptive fields, read off the operations that a model really runs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from explain.fields.gradients import Box, boxes
from explain.fields.reach import Axis, Triple, View
from explain.fields.timeline import Timeline
from explain.fields.tracing import Layer, Tracker, tracked
from explain.model.diagnosis import diagnosed, is_whole
from explain.model.layouts import layout_of, to_ncthw
from explain.model.memory import Progress
from explain.model.preservation import check_model
from explain.progress import Followed, following
from zoo import devices
from zoo.entries import Layout
from zoo.errors import UsageError

#: Most positions of a layer behind upsampling that gradients are taken of.
MOST_ALIGNMENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceptiveField:
    """What one position of a layer's output depends on, and how far its neighbour's view lies away; all (T, H, W)."""

    #: Name of the layer, as `explain.model.layers.layer_names` lists it; "" for what the model's own forward calls as a
    #: function.
    layer: str
    #: "convolution", "transposed convolution", "max pooling", "average pooling", "recurrence" or "block".
    kind: str
    #: Extent of the layer's own window; 1 along an axis that it does not look along.
    kernel: Triple
    #: Frames, rows and columns of the input, over all of time; may exceed the input, whose border is then padding.
    field: Triple
    #: Rows and columns of one frame alone: of the one that a position stands at. Less than those of `field` where a
    #: recurrence looks further in earlier frames.
    frame_field: tuple[int, int]
    #: Frames, rows and columns of the input from one position to the next; a fraction behind upsampling.
    stride: tuple[float, float, float]
    #: Positions in the layer's output.
    output: Triple
    #: Axes along which the layer sees the whole input, however long (global pooling), in time also where it sees
    #: whatever came before (recurrence).
    whole: tuple[bool, bool, bool]
    #: Whether gradients confirm `field`: no more and no less. Where they show another extent, that stands in `field`,
    #: which is then a lower bound; where they could not be taken, `field` is what following the operations gave.
    exact: bool = True
    #: For each position in time the first and the last frame of the clip that it depends on, None for padding; None
    #: altogether where that is not known.
    frames: tuple[tuple[int, int] | None, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The fields of a model's layers, and which positions of one layer a position of another depends on."""

    #: Frames of the clip.
    frames: int
    #: One for each layer, in the order in which they run.
    rows: list[ReceptiveField]
    #: By layer and kind, its positions in time and their numbers as units; only where these are known.
    _positions: dict[tuple[str, str], tuple[Timeline, list[int]]]
    #: By layer and kind, what its positions see along each axis, and the extent of the clip.
    _views: dict[tuple[str, str], View]
    _size: Triple

    @property
    def followed(self) -> list[ReceptiveField]:
        """The layers whose positions in time are known, which the other methods take."""
        return [row for row in self.rows if (row.layer, row.kind) in self._positions]

    def stand(self, row: ReceptiveField) -> list[int]:
        """For each position in time the frame that it stands at: the middle of its window, or that of its state."""
        own: list[int] = self._positions[row.layer, row.kind][0].own.tolist()
        return own

    def seen(self, row: ReceptiveField, position: int) -> list[int]:
        """The frames that a position depends on."""
        frames: list[int] = self._positions[row.layer, row.kind][0].seen[position].nonzero()[0].tolist()
        return frames

    def box(self, row: ReceptiveField, position: Triple) -> tuple[tuple[int, int], ...]:
        """The first and the last frame, row and column of the clip that one position of a layer depends on."""
        axes = self._views[row.layer, row.kind].axes
        found = [axis.seen(*given) for axis, *given in zip(axes, position, self._size, row.field, strict=True)]
        if row.frames is not None and (frames := row.frames[position[0]]) is not None:
            found[0] = frames
        return tuple(found)

    def middle(self, row: ReceptiveField) -> list[Triple]:
        """A position in the middle of a layer that sees as many frames as any; several where fields differ."""
        axes = self._views[row.layer, row.kind].axes
        at = [extent // 2 for extent in row.output]
        if row.frames is not None:
            sizes = [0 if one is None else one[1] - one[0] + 1 for one in row.frames]
            at[0] = max(range(len(sizes)), key=lambda place: (sizes[place], -abs(place - at[0])))
        elif row.whole[0]:
            at[0] = row.output[0] - 1
        different = max(_alignments(axis) for axis in axes)
        moved = [
            tuple(
                min(place + step, extent - 1) if _alignments(axis) > 1 else place
                for place, extent, axis in zip(at, row.output, axes, strict=True)
            )
            for step in range(min(different, MOST_ALIGNMENTS))
        ]
        return [(time, height, width) for time, height, width in dict.fromkeys(moved)]

    def compared(self, row: ReceptiveField, positions: Sequence[Triple], shown: Sequence[Box]) -> ReceptiveField:
        """The row, with what gradients show of it at some positions."""
        seen = [box for box in shown if box is not None]
        if not seen or len(seen) < len(shown):
            return dataclasses.replace(row, exact=False)
        expected = [self.box(row, position) for position in positions]
        exact, sizes, whole = True, list(row.field), list(row.whole)
        for place, length in enumerate(self._size):
            claimed, found = ([one[place] for one in boxes] for boxes in (expected, seen))
            # Only where a position's view is cut by no border does it show the whole field.
            inside = [last - first + 1 for first, last in found if first > 0 and last < length - 1]
            longest = max(inside or [last - first + 1 for first, last in found])
            asked = [row.field[place]] if inside else [last - first + 1 for first, last in claimed]
            confirmed = longest == max(asked)
            if not confirmed:
                exact = False
                if place or row.exact:  # else changing single frames has reached further
                    sizes[place], whole[place] = longest, whole[place] and longest == length
        return dataclasses.replace(
            row, field=(sizes[0], sizes[1], sizes[2]), whole=(whole[0], whole[1], whole[2]), exact=exact
        )

    def used(self, row: ReceptiveField, position: int, lower: ReceptiveField) -> list[int]:
        """The positions of another layer, `lower`, that a position of `row` depends on."""
        units = self._positions[row.layer, row.kind][0].units[position]
        numbers = self._positions[lower.layer, lower.kind][1]
        return [at for at, unit in enumerate(numbers) if unit < len(units) and units[unit]]


def receptive_fields(
    model: nn.Module, input_shape: Sequence[int], *, layout: Layout | None = None, blocks: bool = False
) -> list[ReceptiveField]:
    """The field and stride of each convolution, pooling and recurrent layer, in the order in which they run.

    In one run on random numbers, every operation hands on the field of what it reads. Through a window of k positions,
    dilated by d, over positions j apart, a field grows by (k - 1) d j and j is multiplied by the stride
    (Araujo, Norris & Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill 2019, equations 1 to 3).
    Where paths meet (sums, concatenations, gates), the largest field of any of them counts. A layer that runs several
    times is listed once, with its largest field. Convolutions over rows and columns only, frames folded into the batch
    or not, leave the field in time as it is.

    In time every position is followed by itself, frame by frame: what a recurrence written by hand sees is known, and
    for each frame how far it looks there. A module that runs a convolution frame by frame on its own earlier results is
    listed as a recurrence.

    Convolutions, pooling, sums, concatenations, shifts and differences of frames, means over whole axes, matrix
    products and recurrences are followed; statistics of normalisations do not count. Other operations count as
    elementwise, although some mix positions (cumulative sums, Fourier transforms). So all is checked. In time three
    more runs change one frame each: where that reaches further than computed, the frames reached are the field, and a
    layer run frame by frame sees all of time. Then gradients of a position in the middle of each layer, which pass
    through every activation function and to all that a maximum chooses from, show what it depends on: `exact` says
    that they show the field, along all three axes. Behind upsampling, where fields differ from position to position,
    neighbouring positions are tried. That takes one backward pass for each layer; in very large models the last layers
    are not checked (`explain.fields.gradients.LARGEST_WORK`), nor what has no gradient, and neither is exact.

    Args:
        model: Any module; left as it was found.
        input_shape: Shape of a batch, as the model takes it, N first; one sample of it is run.
        layout: Order of its axes, as in `explain.attribute`.
        blocks: List modules made of several layers, too (kind "block"), behind the last of their layers.

    Raises:
        UsageError: The shape is neither that of a batch of clips nor of images, or which axis is time is not known.
        ModelError: The model does not take a batch of that shape.
        MemoryLimitError: Memory does not hold one sample.
    """
    return trace(model, input_shape, layout=layout, blocks=blocks).rows


def trace(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    layout: Layout | None = None,
    blocks: bool = False,
    gradients: bool = True,
    progress: Followed = None,
) -> Trace:
    """The same as `receptive_fields`, with what ties the positions of layers to each other.

    `progress` is called as progress(done, total), in runs of the model; True shows a bar. Without `gradients`, which
    take longest, only time is checked.
    """
    check_model(model)
    if len(input_shape) not in {4, 5} or not all(is_whole(size) and size > 0 for size in input_shape):
        raise UsageError(
            f"{tuple(input_shape)} is not the shape of a batch; expected N x C x T x H x W, N x T x C x H x W or "
            "N x C x H x W, for example (1, 3, 16, 112, 112)"
        )
    draw = torch.Generator().manual_seed(0)
    batch = torch.rand((1, *input_shape[1:]), generator=draw).to(devices.like(model))
    with diagnosed(model, batch, layout), following(progress) as told:
        found = _trace(model, batch, draw, told("following frames") or (lambda *_: None), blocks=blocks)
        if gradients:
            found = _confirmed(found, model, batch, told("checking fields by gradients") or (lambda *_: None))
        return found


def _trace(model: nn.Module, batch: Tensor, draw: torch.Generator, tell: Progress, *, blocks: bool) -> Trace:
    tell(0, 4)
    tracker = tracked(model, batch, blocks=blocks)
    positions = {key: known for key in tracker.layers if (known := tracker.positions(key)) is not None}
    rows = {
        key: _followed(_row(*key, layer), positions.get(key), tracker.size[0]) for key, layer in tracker.layers.items()
    }
    layout = layout_of(model, batch)
    frames = to_ncthw(batch, layout).shape[2]
    for done, frame in enumerate(sorted({0, frames // 2, frames - 1}) if frames > 1 else (), start=1):
        tell(done, 4)
        changed = batch.clone()
        clip = to_ncthw(changed, layout)[:, :, frame]
        clip.copy_(3 * torch.rand(clip.shape, generator=draw))
        again = tracked(model, changed, blocks=blocks, follow=False)
        rows = _checked(rows, positions, frame, tracker, again, frames)
    tell(4, 4)
    positions = {key: known for key, known in positions.items() if rows[key].exact}
    listed = [
        row if (layer, kind) in positions else dataclasses.replace(row, frames=None)
        for (layer, kind), row in rows.items()
        if kind in {"recurrence", "block"} or (layer, "recurrence") not in rows  # a recurrence's inner parts are in it
    ]
    views = {key: layer.view for key, layer in tracker.layers.items()}
    return Trace(frames=frames, rows=listed, _positions=positions, _views=views, _size=tracker.size)


def _confirmed(found: Trace, model: nn.Module, batch: Tensor, tell: Progress) -> Trace:
    """The trace with fields that gradients confirm, and those that they show instead."""
    tried = {(row.layer, row.kind): (row.output, found.middle(row)) for row in found.rows}
    shown = boxes(model, batch, tried, tell)
    rows = [
        found.compared(row, tried[row.layer, row.kind][1], shown.get((row.layer, row.kind), [])) for row in found.rows
    ]
    return dataclasses.replace(found, rows=rows)


def _alignments(axis: Axis) -> int:
    """How many neighbouring positions may have different fields: more than one behind upsampling."""
    fractions = axis.base > 1 or axis.jump.denominator > 1 or axis.span.denominator > 1
    return max(2, math.ceil(axis.grain / axis.jump)) if fractions and not axis.whole else 1


def _row(name: str, kind: str, layer: Layer) -> ReceptiveField:
    """What following windows along each axis found."""
    view = layer.view
    return ReceptiveField(
        layer=name,
        kind=kind,
        kernel=layer.kernel,
        field=view.field,
        frame_field=view.field[1:],
        stride=view.stride,
        output=view.extent,
        whole=view.whole,
    )


def _followed(row: ReceptiveField, known: tuple[Timeline, list[int]] | None, frames: int) -> ReceptiveField:
    """The row, with what following its positions through time found."""
    if known is None:
        return dataclasses.replace(row, exact=row.exact and row.whole[0])
    line, _ = known
    ranges = [(int(at.min()), int(at.max())) if len(at := one.nonzero()[0]) else None for one in line.seen]
    there = [one for one in ranges if one is not None]
    if not there:
        return row
    extent = max(last - first + 1 for first, last in there)
    time, whole = row.field[0], row.whole[0]
    if extent > time:  # windows do not explain it
        first, last = {first for first, _ in there}, {last for _, last in there}
        whole = whole or (first == {0} and len(last) > 1) or (last == {frames - 1} and len(first) > 1)
        whole = whole or (first, last) == ({0}, {frames - 1})
        time = frames if whole else extent
    steps = set(np.diff(line.own).tolist())
    stride = steps.pop() if len(steps) == 1 and not row.whole[0] else row.stride[0]
    return dataclasses.replace(
        row,
        field=(time, int(line.pixels[:, :, 0].max()), int(line.pixels[:, :, 1].max())),
        frame_field=line.frame_field,
        stride=(stride or row.stride[0], *row.stride[1:]),
        output=(len(ranges), *row.output[1:]),
        whole=(whole, *row.whole[1:]),
        exact=True,
        frames=tuple(ranges),
    )


def _checked(
    rows: dict[tuple[str, str], ReceptiveField],
    positions: dict[tuple[str, str], tuple[Timeline, list[int]]],
    frame: int,
    before: Tracker,
    after: Tracker,
    frames: int,
) -> dict[tuple[str, str], ReceptiveField]:
    """The rows, corrected where a change of one frame (`after`) reached positions that a layer's field excludes."""
    checked = {}
    exact = True
    for key, row in rows.items():
        axis = before.layers[key].view.axes[0]
        means = before.means.get(key, [])
        by_frame = len(means) == axis.extent > 1  # each run is one frame's
        changed = _changed(means, after.means.get(key, []), joined=by_frame)
        reached = max((max(places) - min(places) for places in changed if places), default=0)
        whole, field = row.whole[0], min(math.ceil(reached * axis.jump) + 1, frames)
        if key in positions:
            runs = [run[1].seen[:, frame].tolist() for run in before.noted[key] if run is not None]
            seen = [list(itertools.chain.from_iterable(runs))] if by_frame else runs
            further = any(
                at >= len(there) or not there[at]  # more positions than were followed: the layer was read amiss
                for there, places in zip(seen, changed, strict=False)
                for at in places
            )
        else:
            # Behind upsampling, fields differ from position to position.
            fractions = _alignments(axis) > 1
            further = not whole and field > row.field[0] + (max(axis.grain, axis.jump) if fractions else 0)
        if further:
            exact, whole = False, whole or by_frame
            row = dataclasses.replace(
                row,
                field=(frames if whole else max(field, row.field[0]), *row.field[1:]),
                whole=(whole, *row.whole[1:]),
            )
        checked[key] = dataclasses.replace(row, exact=row.exact and (exact or whole))
    return checked


def _changed(before: list[Tensor], after: list[Tensor], *, joined: bool) -> list[list[int]]:
    """The positions in time that changed, in each run or, joined, over runs."""
    if len(before) != len(after):
        return []
    if joined:
        before, after = [torch.cat(before)], [torch.cat(after)]
    return [
        ((now - was).abs().amax(dim=1) > _ROUNDING * was.abs().amax()).nonzero().flatten().tolist()
        for was, now in zip(before, after, strict=True)
    ]


#: Changes below this share of the largest number may be rounding: some convolution algorithms share sums.
_ROUNDING = 1e-5

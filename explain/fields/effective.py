"""How far a layer does look, not only can: effective receptive fields, by gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from explain.fields.reach import Triple
from explain.fields.theoretical import ReceptiveField, Trace, trace
from explain.model.diagnosis import diagnosed, not_finite, through_mutations
from explain.model.layers import Capture, did_not_run, find_layer
from explain.model.layouts import computed_in, input_of, layout_of, to_input, to_ncthw
from explain.model.memory import within_memory
from explain.model.preservation import generator, prepared
from explain.progress import Followed, following
from explain.results import Results, Saved
from zoo import devices
from zoo.clips import times_of
from zoo.entries import Layout
from zoo.errors import ModelError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class EffectiveField(Saved):
    """Where in the clip one unit of a layer looks, and how far; all triples are T, H, W."""

    #: Name of the layer, and the place of the unit among its positions.
    layer: str
    position: tuple[int, ...]
    positions: tuple[int, ...]
    #: T x H x W, 64-bit, on the CPU: each pixel's share of all gradients, adding up to 1; zeros where there are none.
    heat: Tensor
    #: Share of the gradients that `box` holds along each axis.
    share: float
    #: Along each axis the shortest run of frames, rows or columns that holds `share` of the gradients, as its first and
    #: its last one; None where there are none.
    box: tuple[tuple[int, int], ...] | None
    #: The theoretical field, as far as it lies in the clip, and its full extent; None where it is not known.
    theoretical_box: tuple[tuple[int, int], ...] | None
    theoretical: tuple[int, ...] | None
    #: Draws, clips, seed.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: T: seconds of each frame on the clock of the clip's source (`Attribution.times`); None where they are not known.
    times: tuple[float, ...] | None = None

    @property
    def extent(self) -> tuple[int, ...]:
        """Frames, rows and columns of `box`; zeros where there is none."""
        return (0, 0, 0) if self.box is None else tuple(last - first + 1 for first, last in self.box)

    def plot(self, clip: Tensor | None = None) -> Figure:
        """Draw where the unit looks, over the frame that it looks at most, and how much of it in each frame.

        Args:
            clip: C x T x H x W in [0, 1], the clip as it is looked at; None leaves the frame black.

        Raises:
            UsageError: The clip is of another extent.
        """
        return self._plot(clip)

    def record(self) -> dict[str, Any]:
        """Everything but the heat, as plain data."""
        boxes = {"box": self.box, "theoretical_box": self.theoretical_box}
        return {
            "layer": self.layer,
            "position": list(self.position),
            "positions": list(self.positions),
            "extent": list(self.extent),
            "share": self.share,
            "theoretical": None if self.theoretical is None else list(self.theoretical),
            "times": None if self.times is None else list(self.times),
            **{name: None if box is None else [list(axis) for axis in box] for name, box in boxes.items()},
            "settings": dict(self.settings),
        }


def effective_field(
    model: nn.Module,
    layer: str,
    batch: Tensor | None = None,
    *,
    layout: Layout | None = None,
    position: Sequence[int] | None = None,
    share: float = 0.95,
    draws: int = 8,
    seed: int = 0,
    progress: Followed = None,
) -> EffectiveField:
    """Which pixels of which frames the middle unit of a layer really looks at.

    The gradient of the unit at the input (Luo, Li, Urtasun & Zemel, Understanding the Effective Receptive Field in Deep
    Convolutional Neural Networks, arXiv 1701.04128, section 2), taken through all channels at once, each with a random
    sign; its absolute value, summed over the input's channels and divided by its sum, is averaged over draws of the
    signs and over samples. With weights all alike it is the product of the layers' windows, near a Gaussian whose width
    grows with the square root of the depth; the theoretical field grows with the depth.

    Args:
        model: Any module; left as it was found, also on failure.
        layer: Name of a layer or block.
        batch: The clips that are looked at, as the model takes them; None takes a clip of uniform noise, where the
            model's entry says of which shape.
        layout: Order of the batch's axes, as in `explain.attribute`.
        position: Place (t, y, x) of the unit among the layer's positions; None is the middle one.
        share: Share of the gradients, above 0 and at most 1, that the extent holds along each axis by itself.
        draws: Draws of the signs.
        seed: Of signs and noise.
        progress: Called as progress(done, total), in backward passes; True shows a bar on stderr.

    Raises:
        UnknownNameError: No such layer.
        UsageError: No such position, a share or number of draws that cannot be, or no batch where one is needed.
        ModelError: The layer does not run, or gives no maps.
        MemoryLimitError: Memory does not hold one sample.
    """
    (found,) = effective_fields(
        model,
        [layer],
        batch,
        layout=layout,
        position=position,
        share=share,
        draws=draws,
        seed=seed,
        progress=progress,
    )
    return found


@through_mutations
def effective_fields(
    model: nn.Module,
    layers: Sequence[str],
    batch: Tensor | None = None,
    *,
    layout: Layout | None = None,
    position: Sequence[int] | None = None,
    share: float = 0.95,
    draws: int = 8,
    seed: int = 0,
    traced: Trace | None = None,
    missing: dict[str, str] | None = None,
    progress: Followed = None,
) -> list[EffectiveField]:
    """`effective_field` of several layers, of one forward pass for each sample.

    Args:
        model: As in `effective_field`, and so are all arguments but these.
        layers: Names of the layers.
        batch: The clips.
        layout: Order of their axes.
        position: The unit of every layer.
        share: What the extents hold.
        draws: Draws of the signs.
        seed: Of signs and noise.
        traced: The theoretical fields, where they are known already (`explain.fields.theoretical.trace`).
        missing: Filled with the layers that do not run or give no maps, and why; None raises instead.
        progress: Called as progress(done, total).
    """
    if not 0 < share <= 1:
        raise UsageError(f"share must be above 0 and at most 1, got {share}")
    if draws < 1:
        raise UsageError(f"draws must be at least 1, got {draws}")
    for name in layers:
        find_layer(model, name)
    batch = noise(model, seed) if batch is None else batch
    times = times_of(batch)
    with diagnosed(model, batch, layout), prepared(model, seed=seed), following(progress) as told:
        batch = batch.detach()
        traced = traced or trace(model, tuple(batch.shape), blocks=True)
        show = told("effective fields") or (lambda *_: None)
        measured = _Measured(model, layers, batch, position, draws, seed, show, missing)
        what = f"one sample of {tuple(batch.shape[1:])} and what gradients of {len(layers)} layers need"
        for sample in range(len(batch)):
            within_memory(lambda _, at=sample: measured.look(at), 1, what)  # type: ignore[misc]
    return Results(
        _field(
            name,
            measured.heat[name] / (len(batch) * draws),
            measured.places[name],
            share,
            traced,
            measured.settings,
            times,
        )
        for name in measured.layers
    )


def noise(model: nn.Module, seed: int) -> Tensor:
    """A clip of uniform noise as the model takes it.

    Raises:
        UsageError: The model's entry does not say of which shape.
    """
    spec = input_of(model)
    if spec is None:
        raise UsageError(
            "this module did not come from zoo.load, so nothing says how large its clips are: give a batch"
        )
    draw = torch.Generator().manual_seed(seed)
    clip = torch.rand(1, spec.channel_count, spec.frames, *spec.size, generator=draw)
    return to_input(clip, spec, spec.layout).to(devices.like(model))


class _Measured:
    """Sums of normalised gradients, layer by layer."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        batch: Tensor,
        position: Sequence[int] | None,
        draws: int,
        seed: int,
        progress: Callable[[int, int], None],
        missing: dict[str, str] | None,
    ) -> None:
        self.model, self.layers, self.batch, self.missing = model, list(layers), batch, missing
        self.position, self.draws, self.seed = position, draws, seed
        self.progress = progress
        self.layout = layout_of(model, batch)
        clips = to_ncthw(batch, self.layout)
        self.heat = {name: torch.zeros(clips.shape[2:], dtype=torch.float64) for name in layers}
        self.places: dict[str, tuple[Triple, Triple]] = {}
        self.settings: dict[str, Any] = {"draws": draws, "clips": len(batch), "seed": seed}
        precision = computed_in(model, batch.device)
        if precision:
            self.settings["precision"] = precision

    def look(self, sample: int) -> None:
        """Add one sample's gradients."""
        own = self.batch[sample : sample + 1].clone().requires_grad_()
        with ExitStack() as stack:
            captures = [stack.enter_context(Capture(self.model, name)) for name in self.layers]
            self.model(own * 1)  # a copy: a model may begin with an operation in place
            given = {capture.name: self._maps(capture) for capture in captures}
        maps = {name: values for name, values in given.items() if values is not None}
        self.layers = list(maps)
        found = {}
        for at, (name, values) in enumerate(maps.items()):
            place = self._place(name, values)
            unit = values[(slice(None), *place)]
            found[name] = torch.zeros_like(self.heat[name])
            signed = generator(self.seed, sample)
            for draw in range(self.draws):
                signs = torch.randint(0, 2, unit.shape, generator=signed).to(unit) * 2 - 1
                found[name] += self._gradient((unit * signs).sum(), own)
                done = (sample * len(self.layers) + at) * self.draws + draw + 1
                self.progress(done, len(self.batch) * len(self.layers) * self.draws)
        for name, heat in found.items():
            self.heat[name] += heat

    def _maps(self, capture: Capture) -> Tensor | None:
        """Units x T' x H' x W'; None where there are none and that may be."""
        try:
            if not capture.calls:
                raise did_not_run(self.model, capture.name)
            return capture.maps(1)[0]
        except ModelError as error:
            if self.missing is None:
                raise
            self.missing[capture.name] = str(error)
            return None

    def _place(self, name: str, values: Tensor) -> Triple:
        """The unit's place, checked."""
        extent = (values.shape[1], values.shape[2], values.shape[3])
        asked = [size // 2 for size in extent] if self.position is None else [int(at) for at in self.position]
        if len(asked) != 3 or not all(0 <= at < size for at, size in zip(asked, extent, strict=True)):
            raise UsageError(f"layer {name!r} has {extent} positions (T, H, W), so there is none at {tuple(asked)}")
        place = (asked[0], asked[1], asked[2])
        self.places[name] = place, extent
        return place

    def _gradient(self, unit: Tensor, own: Tensor) -> Tensor:
        """T x H x W, adding up to 1, or zeros."""
        if not unit.requires_grad:
            return torch.zeros(())  # it does not depend on the clip
        gradient: Tensor | None = torch.autograd.grad(unit, own, retain_graph=True, allow_unused=True)[0]
        if gradient is None:
            return torch.zeros(())
        heat = to_ncthw(gradient, self.layout)[0].double().abs().sum(dim=0).cpu()
        if not bool(torch.isfinite(heat).all()):
            raise ModelError(f"gradients are not finite; {not_finite(self.model, own.detach())}")
        total = heat.sum()
        return heat / total if total else heat


def _field(
    name: str,
    heat: Tensor,
    places: tuple[Triple, Triple],
    share: float,
    traced: Trace,
    settings: Mapping[str, Any],
    times: tuple[float, ...] | None,
) -> EffectiveField:
    place, positions = places
    row = _row(name, positions, traced)
    box = None
    total = heat.sum()
    if total > 0:
        heat = heat / total  # draws in which nothing was seen count for nothing
        box = tuple(shortest_run(heat.sum(dim=[k for k in range(3) if k != axis]), share) for axis in range(3))
    return EffectiveField(
        layer=name,
        position=place,
        positions=positions,
        heat=heat,
        share=share,
        box=box,
        theoretical_box=None if row is None else _around(traced.box(row, place), heat),
        theoretical=None if row is None else row.field,
        settings=settings,
        times=times,
    )


def _row(name: str, positions: Triple, traced: Trace) -> ReceptiveField | None:
    """The theoretical field of a layer, where its positions are those of the maps."""
    rows = [row for row in traced.rows if row.layer == name and row.output == positions]
    return rows[-1] if rows else None


def _around(box: Sequence[tuple[int, int]], heat: Tensor) -> tuple[tuple[int, int], ...]:
    """The box, made to hold all gradients: where upsampling or padding by hand leaves its place uncertain."""
    found = []
    for axis, (first, last) in enumerate(box):
        at = heat.sum(dim=[k for k in range(3) if k != axis]).nonzero().flatten().tolist()
        found.append((min([first, *at]), max([last, *at])))
    return tuple(found)


def shortest_run(weights: Tensor, share: float) -> tuple[int, int]:
    """The first and the last of the fewest neighbouring positions that hold `share` of all weights.

    Of several such runs the one that holds most, and of these the first.
    """
    ends = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
    wanted = share * float(ends[-1]) * (1 - 1e-9)
    for length in range(1, len(weights) + 1):
        held = ends[length:] - ends[:-length]
        if float(held.max()) >= wanted:
            first = int(held.argmax())
            return first, first + length - 1
    return 0, len(weights) - 1

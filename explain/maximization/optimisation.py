"""The loop: render, transform, run as far as the objective asks, climb."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from explain.maximization.objectives import Objective, Seen, channel
from explain.maximization.parametrizations import Parametrization, Shape, find_parametrization
from explain.maximization.passes import Passes, redirected
from explain.maximization.results import Maximization
from explain.maximization.transforms import Transform, find_transform
from explain.model.diagnosis import diagnosed, is_whole, through_mutations
from explain.model.layouts import computed_in, input_of, layout_of, to_input
from explain.model.memory import Progress, fitting, free_memory, within_memory
from explain.model.preservation import check_model, prepared
from explain.model.targets import unit_index
from explain.progress import following
from zoo import devices
from zoo.entries import InputSpec, Layout
from zoo.errors import MemoryLimitError, ModelError, UsageError
from zoo.models.layouts import known_layout, takes

#: Step size of Adam, in units of the parametrisation, and how far all steps together may lead: farther, clips are
#: driven to pure black, white and full colours, so that long runs take smaller steps instead.
LEARNING_RATE = 0.05
FARTHEST = 6.0


@through_mutations
def maximize(
    model: nn.Module,
    layer: str | None = None,
    units: int | Sequence[int] | Literal["all"] = (),
    *,
    shape: tuple[int, ...] | None = None,
    layout: Layout | None = None,
    steps: int = 256,
    parametrization: str = "fourier3d",
    transforms: str | Transform | Sequence[str | Transform] = "default",
    seed: int = 0,
    objective: Objective | Sequence[Objective] | None = None,
    copies: int = 1,
    decorrelate: bool = True,
    learning_rate: float | None = None,
    start: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> Maximization:
    """Make clips that activate units of a layer as much as possible (Erhan et al., technical report 1341, 2009).

    What is raised is the mean of a unit's map over time, rows and columns, or any other objective
    (`explain.maximization.objectives`), with Adam. Passes end at the last layer that is asked for and
    parameters are frozen, so shallow layers cost little. A clip whose units ReLU keeps silent gets its gradient around
    the ReLUs (`redirection`). Clips are rendered in [0, 1] and brought to the model's range, mean and deviation
    where it has an input specification. Each clip begins from a seed of its own: alone and among others it comes out
    the same but for rounding. The model is left as it was found, also on failure.

    Args:
        model: Any module; one from `zoo.load` also knows the shape of its clips.
        layer: Name of a layer, as `explain.model.layers.layer_names` lists it; None where `objective` says what is
            raised.
        units: One unit (channel) of the layer, several, or "all".
        shape: C x T x H x W of the clips, or C x H x W for a model of images; None asks the model's input
            specification. T x C x H x W is understood where the model's config or its first layer says that this is
            meant, and no other order can be.
        layout: Order of the axes in which the model takes its batches, as in `explain.attribute`.
        steps: Steps of the optimisation.
        parametrization: "fourier3d", "pixel", or "fourier2d", one image stacked over time (`parametrizations`): its
            clips' frames are equal, whatever the transforms.
        transforms: "default", "jitter", "scale", "rotation" or "none", a function (clips, generator) -> clips, or
            several of these in their order (`transforms`).
        seed: The same seed gives the same bytes with the same number of threads, machine, versions and free memory,
            which says how many clips are made at once; otherwise they differ by rounding, which later steps enlarge.
        objective: What is raised where no layer is named: one objective, or several with clips of their own. With a
            layer it is one that is added to each unit's, such as `-0.1 * total_variation()`.
        copies: Clips for each unit or objective, each from another beginning.
        decorrelate: Mix red, green and blue as real pictures do (`explain.maximization.parametrizations`); clips of
            other than three channels are left alone.
        learning_rate: Step size of Adam; None is 0.05, less for more than 120 steps, so that these refine the clips
            instead of driving them to pure black, white and full colours.
        start: Display values C x T x H x W in [0, 1] that every clip begins from (`explain.model.layouts.to_display`
            gives those of a batch), held off pure black and white a little; None begins from almost even grey.
        progress: Called as progress(done, total), in steps; True shows a bar.

    Raises:
        UnknownNameError: No such layer, unit, output, parametrisation or transform; near names are offered.
        UsageError: No unit or objective, fewer than one step or copy, or a shape that is missing or cannot be.
        ModelError: The layer does not run, gives no maps or is not finite, or nothing asked for depends on the input.
        MemoryLimitError: Not even one clip fits into memory, or not all that are asked for.
    """
    check_model(model)
    wanted, extra = _wanted(layer, units, objective)
    if not all(is_whole(count) and count > 0 for count in (steps, copies)):
        raise UsageError("maximisation needs at least one step and one copy")
    rate = min(LEARNING_RATE, FARTHEST / steps) if learning_rate is None else learning_rate
    if not 0 < rate < math.inf:
        raise UsageError(f"learning_rate is a positive number, not {learning_rate}")
    clip_shape, layout = _shape_of(model, shape, layout)
    if start is not None and tuple(start.shape) != clip_shape:
        raise UsageError(f"start is {tuple(start.shape)}; expected the shape of the clips, {clip_shape}")
    make, transform = find_parametrization(parametrization), find_transform(transforms)
    # Even where the units are still to be counted, one of them says what will be read.
    asked = [*wanted, *([channel(layer, 0)] if layer is not None and not wanted else []), *([extra] if extra else [])]
    like = devices.like(model)
    precision = computed_in(model, like.device)
    with prepared(model, seed=seed), following(progress) as told:
        tell = told(f"maximising {layer or ', '.join(one.name for one in wanted)}")
        passes = Passes(
            model,
            {name for one in asked for name in one.layers},
            dict.fromkeys(target for one in asked for target in sorted(one.targets, key=str)),
        )
        climb = _Climb(
            passes=passes,
            make=lambda seeds: make(clip_shape, seeds, like, colour=decorrelate and clip_shape[0] == 3),
            start=start,
            spec=input_of(model),
            layout=layout,
            steps=steps,
            rate=rate,
            transform=transform,
            seed=seed,
            like=like,
        )
        grey = torch.full((1, *clip_shape), 0.5, device=like.device)
        one = f"one clip of {clip_shape}"
        with diagnosed(model, climb.to_input(grey), layout):
            seen, made = within_memory(lambda _: passes.survey(climb.to_input(grey)), 1, one)
        chosen: tuple[int | str, ...] = tuple(objective.name for objective in wanted)
        if layer is not None:
            count = seen.maps[layer].shape[1]
            asked_for = range(count) if units == "all" else [units] if isinstance(units, int) else units
            chosen = tuple(unit_index(layer, unit, count) for unit in asked_for)
            wanted = [channel(layer, unit) + (extra or 0) for unit in chosen if isinstance(unit, int)]
        kept = len(wanted) * copies * (math.prod(clip_shape) + steps) * grey.element_size()
        if kept > free_memory(grey.device):
            raise MemoryLimitError(
                f"memory does not hold {len(wanted) * copies:,} clips of {clip_shape} ({kept / 2**30:,.1f} GiB); make "
                "fewer at once: fewer units or copies"
            )
        at_once = 1 if made is None else fitting(made, grey.device, kept=3.0)
        batches = _Batches(wanted, copies, alone=made is None)

        def run(size: int) -> list[tuple[Tensor, ...]]:
            parts = batches.of(size)
            return [climb.run(part, _part_of(tell, k, len(parts) * steps, steps)) for k, part in enumerate(parts)]

        where = f" up to layer {layer!r}" if layer is not None else ""
        results = within_memory(run, min(at_once, len(wanted) * copies), one + where)
    clips, activation, initial = (torch.cat([result[k] for result in results]) for k in range(3))
    history = torch.cat([result[3] for result in results], dim=1)
    return Maximization(
        layer=layer,
        units=tuple(unit for unit in chosen for _ in range(copies)),
        clips=clips,
        activation=activation,
        initial=initial,
        history=history,
        settings={
            "shape": clip_shape,
            "steps": steps,
            "parametrization": parametrization,
            "transforms": _named(transforms),
            "objective": extra.name if extra else None,
            "copies": copies,
            "decorrelate": decorrelate and clip_shape[0] == 3,
            "learning_rate": rate,
            "started": start is not None,
            "seed": seed,
            **({"precision": precision} if precision else {}),
        },
    )


def _wanted(
    layer: str | None, units: int | Sequence[int] | str, objective: Objective | Sequence[Objective] | None
) -> tuple[list[Objective], Objective | None]:
    """The objectives that clips are made for, units of a layer left out; and the one to be added to each unit's."""
    given = [] if objective is None else [objective] if isinstance(objective, Objective) else list(objective)
    if any(not isinstance(one, Objective) for one in given):
        raise UsageError(
            "expected objectives as `explain.maximization.objectives` makes them, such as channel('layer1', 3)"
        )
    if layer is None:
        if not given:
            raise UsageError("maximisation needs a layer and units of it, or an objective")
        if units != ():
            raise UsageError("units are those of a layer: name it, or give an objective alone")
        return given, None
    if isinstance(units, str) and units != "all":
        raise UsageError(f'units are numbers, or "all", not {units!r}')
    if units != "all" and not isinstance(units, int) and not len(units):
        raise UsageError("maximisation needs at least one unit of the layer")
    if len(given) > 1:
        raise UsageError("with a layer, one objective is added to each unit's; give several without a layer")
    return [], given[0] if given else None


@dataclass(frozen=True, slots=True)
class _Batches:
    """Which clips are made at once."""

    objectives: list[Objective]
    copies: int
    #: Clips run one by one.
    alone: bool

    def of(self, size: int) -> list[list[tuple[Objective, list[int]]]]:
        """Objectives, each with the numbers of its copies, in lots of at most `size` clips where they can be parted."""
        items = []
        for objective in self.objectives:
            together = objective.coupled and self.copies > 1
            if together and self.alone:
                raise ModelError(
                    "clips of this model run one by one, since it folds frames into the batch: diversity is not defined"
                )
            copies = list(range(self.copies))
            items += [(objective, copies)] if together else [(objective, [copy]) for copy in copies]
        lots: list[list[tuple[Objective, list[int]]]] = [[]]
        for item in items:
            if lots[-1] and sum(len(copies) for _, copies in [*lots[-1], item]) > size:
                lots.append([])
            lots[-1].append(item)
        return lots


@dataclass(frozen=True, slots=True, kw_only=True)
class _Climb:
    """Everything that stays the same between the clips of one call."""

    passes: Passes
    make: Callable[[list[int]], Parametrization]
    #: C x T x H x W that clips begin from; None leaves it to the parametrisation.
    start: Tensor | None
    spec: InputSpec | None
    layout: Layout
    steps: int
    rate: float
    transform: Transform
    seed: int
    #: Device and dtype of the model.
    like: Tensor

    def run(
        self, items: list[tuple[Objective, list[int]]], progress: Progress | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clips, objective, initial objective and history of some objectives."""
        parametrization = self.make([self._seed_of(objective, copy) for objective, copies in items for copy in copies])
        if self.start is not None:
            parametrization.begin(self.start)
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        optimizer = torch.optim.Adam([parametrization.values], lr=self.rate)

        def reached(clips: Tensor, shown: Tensor) -> Tensor:
            seen: Seen = self.passes.run(self.to_input(shown), clips)
            parts = seen.split([len(copies) for _, copies in items])
            return torch.cat([objective.value(part) for (objective, _), part in zip(items, parts, strict=True)])

        with torch.no_grad():
            clips = parametrization.clips()
            initial = reached(clips, clips)
        history = []
        for step in range(self.steps):
            drawn = generator.get_state()
            clips = parametrization.clips()
            shown = self.transform(clips, generator)
            value = reached(clips, shown)
            if not bool(torch.isfinite(value).all()):
                names = ", ".join(dict.fromkeys(objective.name for objective, _ in items))
                raise ModelError(
                    f"{names}: {value.tolist()} at step {step + 1} of {self.steps}, which cannot be raised"
                )

            def replay(drawn: Tensor = drawn) -> Tensor:
                again = parametrization.clips()
                return reached(again, self.transform(again, torch.Generator().set_state(drawn)))

            parametrization.values.grad = -self._gradient(value, parametrization.values, shown, replay)
            optimizer.step()
            history.append(value.detach())
            if progress is not None:
                progress(step + 1, self.steps)
        with torch.no_grad():
            clips = parametrization.clips()
            return clips, reached(clips, clips), initial, torch.stack(history)

    def _gradient(self, value: Tensor, values: Tensor, shown: Tensor, replay: Callable[[], Tensor]) -> Tensor:
        """Direction of ascent; where the model passes no gradient at all to a clip, past the ReLUs that block it."""
        gradient = through = None
        if value.requires_grad:
            gradient, through = torch.autograd.grad(value.sum(), [values, shown], allow_unused=True)
        if gradient is None or through is None:
            read = ", ".join([*self.passes.layers, *map(str, self.passes.targets)])
            raise ModelError(f"what is maximised ({read}) does not depend on the input, or not differentiably so")
        silent = through.flatten(1).abs().amax(dim=1) == 0
        if not silent.any():
            return gradient
        with redirected(self.passes.model):
            (around,) = torch.autograd.grad(replay().sum(), [values])
        return torch.where(silent.view(-1, *[1] * (values.ndim - 1)), around, gradient)

    def _seed_of(self, objective: Objective, copy: int) -> int:
        """A number for each beginning, whatever is made beside it."""
        return (self.seed * 1_000_003 + zlib.crc32(objective.name.encode()) + copy * 7_919) % 2**63

    def to_input(self, clips: Tensor) -> Tensor:
        """Display values U x C x T x H x W as the model takes them."""
        return to_input(clips, self.spec, self.layout).to(self.like)


def _named(transforms: str | Transform | Sequence[str | Transform]) -> str:
    """Names of the transforms, as settings keep them."""
    if isinstance(transforms, str):
        return transforms
    if callable(transforms):
        return str(getattr(transforms, "__name__", "function"))
    return ", ".join(map(_named, transforms)) or "none"


def _shape_of(model: nn.Module, shape: tuple[int, ...] | None, asked: Layout | None) -> tuple[Shape, Layout]:
    """Shape of the clips, C x T x H x W, and the layout in which the model takes them."""
    spec = input_of(model)
    if shape is None:
        if spec is None:
            raise UsageError("the model does not say what its input is: give shape=(channels, frames, rows, columns)")
        if asked is not None:
            layout_of(model, torch.empty(spec.shape, device="meta"), asked)
        return (spec.channel_count, spec.frames, *spec.size), spec.layout
    if len(shape) not in {3, 4} or not all(is_whole(extent) and extent > 0 for extent in shape):
        raise UsageError(f"shape {shape} is neither (channels, frames, rows, columns) nor (channels, rows, columns)")
    channels, *frames, rows, columns = shape
    full = channels, frames[0] if frames else 1, rows, columns
    if spec is None and frames:
        return _shape_of_clips(model, full, asked)
    layout: Layout = spec.layout if spec is not None else "NCHW"
    if asked is not None:
        layout_of(model, torch.empty((1,) * len(layout), device="meta"), asked)
    if layout == "NCHW" and full[1] != 1:
        raise UsageError(f"the model takes images: shape {shape} has {full[1]} frames")
    return full, layout


def _shape_of_clips(model: nn.Module, shape: Shape, asked: Layout | None) -> tuple[Shape, Layout]:
    """The same for a module without an entry: what its config or its first layer says of both orders."""
    one, two, *size = shape
    draw = torch.Generator().manual_seed(0)
    batch = torch.rand((1, *shape), generator=draw).to(devices.like(model))
    swapped = batch.transpose(1, 2)
    turned = (two, one, size[0], size[1])
    layout = known_layout(model, 5) if asked is None else layout_of(model, batch, asked)
    if layout == "NTCHW":
        return turned if takes(model, swapped) is not True and takes(model, batch) else shape, layout
    if layout is None and layout_of(model, batch) == "NTCHW":
        return turned, "NTCHW"
    if layout is None and takes(model, batch) is not True and takes(model, swapped):
        return shape, "NTCHW"
    return shape, "NCTHW"


def _part_of(progress: Progress | None, part: int, total: int, steps: int) -> Progress | None:
    """Progress of one part as progress of the whole."""
    return None if progress is None else lambda done, _: progress(part * steps + done, total)

"""The loop: render, shift, run up to the layer, climb."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from explain.budget import MeasuredBytes, Progress, fitting, within_memory
from explain.display import to_input
from explain.layers import Capture, find_layer, is_folded
from explain.layouts import input_of
from explain.maximization.objectives import mean_of_units
from explain.maximization.parametrizations import find_parametrization
from explain.maximization.redirection import redirected
from explain.maximization.transforms import Transform, find_transform
from explain.preservation import prepared
from explain.progress import following
from explain.saving import Saved
from explain.targets import unit_index
from zoo import devices
from zoo.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from explain.maximization.parametrizations import Shape
    from zoo.entries import InputSpec, Layout

#: Step size of Adam, in units of the parametrisation.
LEARNING_RATE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Maximization(Saved):
    """Clips that activate units of one layer. Tensors are detached, on the model's device."""

    #: Name of the layer.
    layer: str
    #: Index of each unit (channel).
    units: tuple[int, ...]
    #: U x C x T x H x W, display range [0, 1], grey or RGB, before the model's own scaling and normalisation.
    clips: Tensor
    #: U: mean over time and space of the unit's map for its clip, no transform applied.
    activation: Tensor
    #: U: the same for the clip that the optimisation began with.
    initial: Tensor
    #: steps x U: the same at every step, as transformed there.
    history: Tensor
    #: Options as used ("steps": 256).
    settings: Mapping[str, Any] = field(default_factory=dict)


def maximize(
    model: nn.Module,
    layer: str,
    units: int | Sequence[int],
    *,
    shape: tuple[int, ...] | None = None,
    steps: int = 256,
    parametrization: str = "fourier3d",
    transforms: str | Transform = "default",
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Maximization:
    """Make clips that activate units of a layer as much as possible (Erhan et al., technical report 1341, 2009).

    What is raised is the mean of a unit's map over time, rows and columns, with Adam (step 0.05). Passes end at the
    layer and parameters are frozen, so shallow layers cost little. A unit that ReLU keeps silent gets its gradient
    around the ReLUs (`redirection`). Clips are rendered in [0, 1] and brought to the model's range, mean and deviation
    where it has an input specification. Each unit's clip begins from a seed of its
    own: alone and among others it comes out the same but for rounding. The model is left as it was found, also on
    failure.

    Args:
        model: Any module; one from `zoo.load` also knows the shape of its clips.
        layer: Name of a layer, as `explain.layers.layer_names` lists it.
        units: One unit (channel) of the layer, or several.
        shape: C x T x H x W of the clips, or C x H x W for a model of images; None asks the model's input
            specification.
        steps: Steps of the optimisation.
        parametrization: "fourier3d", "pixel", or "fourier2d", one image stacked over time (`parametrizations`): its
            clips' frames are equal, whatever the transforms.
        transforms: "default" (jitter), "none", or a function (clips, generator) -> clips (`transforms`).
        seed: The same seed gives the same bytes.
        progress: Called as progress(done, total), in steps; True shows a bar.

    Raises:
        UnknownNameError: No such layer, unit, parametrisation or transform; near names are offered.
        UsageError: No unit, fewer than one step, or a shape that is missing or cannot be.
        ModelError: The layer does not run, gives no maps, or does not depend on the input.
        MemoryLimitError: Not even one clip fits into memory.
    """
    find_layer(model, layer)
    wanted = [units] if isinstance(units, int) else list(units)
    if not wanted or steps < 1:
        raise UsageError("maximisation needs at least one unit and one step")
    clip_shape, layout = _shape_of(model, shape)
    climb = _Climb(
        model=model,
        layer=layer,
        shape=clip_shape,
        layout=layout,
        spec=input_of(model),
        steps=steps,
        parametrization=parametrization,
        transform=find_transform(transforms),
        seed=seed,
    )
    find_parametrization(parametrization)
    with prepared(model, seed=seed), following(progress) as told:
        tell = told(f"maximising {layer}")
        one = f"one clip of {clip_shape}"
        at_once, calls, count = within_memory(lambda _: climb.survey(), 1, one)
        wanted = [unit_index(layer, unit, count) for unit in wanted]

        def run(size: int) -> list[tuple[Tensor, ...]]:
            parts = [wanted[start : start + size] for start in range(0, len(wanted), size)]
            return [
                climb.run(part, calls, _part_of(tell, k, len(parts) * steps, steps)) for k, part in enumerate(parts)
            ]

        results = within_memory(run, min(at_once, len(wanted)), f"{one} up to layer {layer!r}")
    clips, activation, initial = (torch.cat([result[k] for result in results]) for k in range(3))
    history = torch.cat([result[3] for result in results], dim=1)
    return Maximization(
        layer=layer,
        units=tuple(wanted),
        clips=clips,
        activation=activation,
        initial=initial,
        history=history,
        settings={
            "shape": clip_shape,
            "steps": steps,
            "parametrization": parametrization,
            "transforms": transforms if isinstance(transforms, str) else getattr(transforms, "__name__", "function"),
            "learning_rate": LEARNING_RATE,
            "seed": seed,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Climb:
    """Everything that stays the same between the units of one call."""

    model: nn.Module
    layer: str
    shape: Shape
    layout: Layout
    spec: InputSpec | None
    steps: int
    parametrization: str
    transform: Transform
    seed: int

    def survey(self) -> tuple[int, int, int]:
        """One whole pass on grey: clips that fit at once, calls of the layer, and its number of units."""
        grey = torch.full((1, *self.shape), 0.5).to(devices.like(self.model))
        with torch.no_grad(), Capture(self.model, self.layer) as capture, MeasuredBytes() as measured:
            capture.run(self.to_input(grey))
        if is_folded(capture.calls, 1):
            return 1, 1, capture.maps(1).shape[1]  # only a batch of one tells which frame is whose
        return fitting(measured.total, grey.device, kept=3.0), len(capture.calls), capture.maps(1).shape[1]

    def run(self, units: list[int], calls: int, progress: Progress | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clips, activation, initial activation and history of some units."""
        seeds = [(self.seed * 1_000_003 + unit) % 2**63 for unit in units]
        parametrization = find_parametrization(self.parametrization)(self.shape, seeds, devices.like(self.model))
        objective = mean_of_units(units)
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        optimizer = torch.optim.Adam([parametrization.values], lr=LEARNING_RATE)

        def activation(clips: Tensor) -> Tensor:
            with Capture(self.model, self.layer, stop_after=calls) as capture:
                capture.run(self.to_input(clips))
                return objective(capture.maps(len(clips)))

        with torch.no_grad():
            initial = activation(parametrization.clips())
        history = []
        for step in range(self.steps):
            drawn = generator.get_state()
            reached = activation(self.transform(parametrization.clips(), generator))

            def replay(drawn: Tensor = drawn) -> Tensor:
                again = torch.Generator().set_state(drawn)
                return activation(self.transform(parametrization.clips(), again))

            if not reached.requires_grad:
                raise ModelError(f"layer {self.layer!r} does not depend on the input, or not differentiably so")
            parametrization.values.grad = -self.gradient(reached, parametrization.values, replay)
            optimizer.step()
            history.append(reached.detach())
            if progress is not None:
                progress(step + 1, self.steps)
        with torch.no_grad():
            clips = parametrization.clips()
            return clips, activation(clips), initial, torch.stack(history)

    def gradient(self, reached: Tensor, values: Tensor, replay: Callable[[], Tensor]) -> Tensor:
        """Direction of ascent; for clips whose unit is silent (no gradient at all), past the ReLUs that block it."""
        (gradient,) = torch.autograd.grad(reached.sum(), [values])
        silent = gradient.flatten(1).abs().amax(dim=1) == 0
        if not silent.any():
            return gradient
        with redirected(self.model):
            (around,) = torch.autograd.grad(replay().sum(), [values])
        return torch.where(silent.view(-1, *[1] * (values.ndim - 1)), around, gradient)

    def to_input(self, clips: Tensor) -> Tensor:
        """Display values U x C x T x H x W as the model takes them."""
        return to_input(clips, self.spec, self.layout)


def _shape_of(model: nn.Module, shape: tuple[int, ...] | None) -> tuple[Shape, Layout]:
    """Shape of the clips, C x T x H x W, and the layout in which the model takes them."""
    spec = input_of(model)
    if shape is None:
        if spec is None:
            raise UsageError("the model does not say what its input is: give shape=(channels, frames, rows, columns)")
        return (spec.channel_count, spec.frames, *spec.size), spec.layout
    if len(shape) not in {3, 4} or min(shape) < 1:
        raise UsageError(f"shape {shape} is neither (channels, frames, rows, columns) nor (channels, rows, columns)")
    layout: Layout = spec.layout if spec is not None else "NCTHW" if len(shape) == 4 else "NCHW"
    channels, *frames, rows, columns = shape
    full = channels, frames[0] if frames else 1, rows, columns
    if layout == "NCHW" and full[1] != 1:
        raise UsageError(f"the model takes images: shape {shape} has {full[1]} frames")
    return full, layout


def _part_of(progress: Progress | None, part: int, total: int, steps: int) -> Progress | None:
    """Progress of one part as progress of the whole."""
    return None if progress is None else lambda done, _: progress(part * steps + done, total)

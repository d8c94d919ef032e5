"""A unit in single frames: the frame that excites it, what it looks at there, and the image that it would like best.

After 3TConv (arXiv 2006.15983, section 4.3 and Figure 3), where they stand beside a filter's temporal parameters: the
images tell what a filter looks for, the parameters how that moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from explain.attribution import attribute
from explain.maximization import maximize
from explain.model.diagnosis import diagnosing
from explain.model.layouts import input_of, layout_of, to_display, to_ncthw
from explain.model.memory import Progress
from explain.results import Results, Saved
from zoo.entries import Layout
from zoo.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class UnitView(Saved):
    """One unit (channel) of a layer on one clip. Tensors are detached, on the model's device."""

    #: Name of the layer.
    layer: str
    #: Index of the unit.
    unit: int
    #: The unit's highest activation on the clip.
    activation: float
    #: Where it has it: time step, row and column of the layer's output.
    position: tuple[int, int, int]
    #: The frame of the clip that adds most to it (`explain.attribution.maps`).
    frame: int
    #: C x H x W in [0, 1]: that frame.
    picture: Tensor
    #: H x W, >= 0: magnitude of the activation's gradient in that frame, in activation per unit of input.
    gradient: Tensor
    #: T: each frame's share of the gradient's magnitude.
    time: Tensor
    #: C x H x W in [0, 1]: the image that, shown in every frame, excites the unit most.
    image: Tensor
    #: Mean of the unit's map over time, rows and columns for that image, and for the grey one that it began with.
    maximized: float
    initial: float
    #: T: seconds of each frame on the clock of the clip's source (`Attribution.times`); None where they are not known.
    times: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Make shares of the sums that version 0.1 saved."""
        total = self.time.sum()
        if float(total) > 0 and not torch.isclose(total, torch.ones_like(total)):
            object.__setattr__(self, "time", self.time / total)

    def plot(self) -> Figure:
        """Draw the frame, what the unit looks at there, the image that it would like best, and the gradient in time."""
        return self._plot()


@diagnosing
def view_units(
    model: nn.Module,
    batch: Tensor,
    layer: str,
    units: int | Sequence[int],
    *,
    layout: Layout | None = None,
    steps: int = 256,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> list[UnitView]:
    """Show units of a layer in single frames: `attribute` their highest activation, `maximize` one image for each.

    The model is left as it was found, also on failure.

    Args:
        model: Any module that takes `batch`.
        batch: One sample, as `zoo.preprocess` gives it (`explain.attribute`).
        layer: Name of a layer, as `explain.model.layers.layer_names` lists it.
        units: One unit (channel) of the layer, or several.
        layout: Order of the batch's axes, as in `explain.attribute`.
        steps: Steps of the maximisation.
        seed: The same seed gives the same bytes with the same number of threads, machine, versions and free memory,
            which says how many clips are made at once; otherwise they differ by rounding, which later steps enlarge.
        progress: Called as progress(done, total), in steps of the maximisation; True shows a bar.

    Raises:
        UnknownNameError: No such layer or unit; near names are offered.
        UsageError: A batch of several samples, no unit, or fewer than one step.
        ModelError: The layer does not run or gives no maps, or a unit is equally active everywhere in the clip.
        MemoryLimitError: Memory does not hold one sample.
    """
    layout = layout_of(model, batch, layout)
    if len(batch) != 1:
        raise UsageError(f"single frames are shown of one sample, this batch holds {len(batch)}")
    wanted = [units] if isinstance(units, int) else list(units)
    found = [attribute(model, batch, method="saliency", target=f"{layer}/{unit}:max", seed=seed) for unit in wanted]
    shown = to_display(batch, input_of(model), layout)[0]
    shape = tuple(to_ncthw(batch, layout).shape[1:])
    made = maximize(
        model,
        layer,
        wanted,
        shape=(shape[0], *shape[2:]) if layout == "NCHW" else shape,
        layout=layout,
        steps=steps,
        parametrization="fourier2d",
        seed=seed,
        progress=progress,
    )
    views = Results()
    for index, (unit, attribution) in enumerate(zip(wanted, found, strict=True)):
        time, row, column = cast("Tensor", attribution.target.positions)[0].tolist()
        frame = int(cast("Tensor", attribution.frame)[0])
        views.append(
            UnitView(
                layer=layer,
                unit=unit,
                activation=float(attribution.target.value[0]),
                position=(time, row, column),
                frame=frame,
                picture=shown[:, frame],
                gradient=attribution.map[0, frame],
                time=attribution.time[0],
                image=made.clips[index, :, 0],
                maximized=float(made.activation[index]),
                initial=float(made.initial[index]),
                times=attribution.times,
            )
        )
    return views

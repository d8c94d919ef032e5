"""What `attribute` returns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from explain.attribution.maps import over_time, parts_over_time, read_parts
from explain.attribution.methods import TimeUnit, find_method
from explain.attribution.options import FORMER
from explain.model.targets import Target
from explain.results import Saved
from zoo.entries import Layout
from zoo.errors import UnknownNameError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Share of the difference that it should make which a map's sum may miss before readers are told.
TOLERATED = 0.1


class Settings(dict[str, Any]):
    """Options as used, by name; what version 0.1 called otherwise ("steps") is found under that name, with a warning.

    Args:
        given: Names and values; former names become those of today.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__({FORMER.get(name, name): value for name, value in given.items()})

    def __missing__(self, name: str) -> Any:
        """Give what has a new name."""
        now = FORMER.get(name)
        if now is None or now not in self:
            raise KeyError(name)
        warnings.warn(f"the setting {name} is now called {now}", DeprecationWarning, stacklevel=2)
        return self[now]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Attribution(Saved):
    """One method's answer for one batch. Tensors are detached, on the batch's device."""

    #: Name of the method.
    method: str
    #: What was explained; `str(target)` reads "digit = 7". `target.positions` says where a unit is highest.
    target: Target
    #: As the method computes it: shaped like the batch, or N x 1 x T' x H' x W' at the layer's size (Grad-CAM, with
    #: sign).
    raw: Tensor
    #: N x T x H x W at the input's size; signs and units as `explain.attribution.maps` says.
    map: Tensor
    #: N x T: one number for each frame, positive where it supports the output, in `time_unit`. A result without a unit,
    #: as version 0.1 saved it, gets both from its map.
    time: Tensor
    #: What these numbers are: "change", "sum" or "mean", in units of the output, or "share" of the map's magnitude
    #: (`explain.attribution.maps`).
    time_unit: str = ""
    #: N: sum of `raw` minus the difference between the outputs for clip and baseline, which it should equal; None where
    #: the method makes no such promise.
    delta: Tensor | None = None
    #: N: frame that adds most to a unit's highest activation (`explain.attribution.maps`); None for other targets.
    frame: Tensor | None = None
    #: The layer looked at; None for methods that look at none.
    layer: str | None = None
    #: Why this layer, where the caller did not choose it; that the model draws random numbers; that the map is zero
    #: everywhere, where it is.
    note: str = ""
    #: The options that took part, as used ("n_steps": 32).
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: What is known of the model's weights: "status" and "text" of `zoo.models.provenance.Origin`, and the "sha256" of
    #: their file where every tensor is that file's; empty for modules that are not of the zoo.
    weights: Mapping[str, str] = field(default_factory=dict)
    #: N x C x T x H x W, uint8: the batch as it can be looked at (`explain.model.layouts.to_display`), for pictures;
    #: None where it is not known.
    clip: Tensor | None = None
    #: Order of the axes of the batch and of `raw`; None where it is not known.
    layout: Layout | None = None
    #: T: seconds of each frame on the clock of the clip's source, of a batch of one sample that `zoo.preprocess` made;
    #: None where they are not known.
    times: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Compute what each frame has of the map where that is not said in a unit; name settings as they are today."""
        object.__setattr__(self, "settings", Settings(self.settings))
        if not self.time_unit:
            unit, time = _timed(self.method, self.map, self.settings)
            object.__setattr__(self, "time_unit", unit)
            object.__setattr__(self, "time", time)

    @property
    def peak(self) -> Tensor:
        """N: the frame with the largest number in `time`, whatever its sign."""
        return self.time.nan_to_num().abs().argmax(dim=1)

    @property
    def still(self) -> Tensor | None:
        """N x H x W: the map in `frame` alone; None where there is none."""
        if self.frame is None:
            return None
        return self.map[torch.arange(len(self.map), device=self.map.device), self.frame]

    @property
    def missed(self) -> Tensor:
        """N: what `delta` is of the difference that the numbers should add up to; 0 where the method promises none."""
        if self.delta is None:
            return torch.zeros(len(self.map), dtype=torch.float64)
        delta = self.delta.double()
        difference = self.raw.double().flatten(1).sum(dim=1) - delta
        return delta.abs() / difference.abs().clamp(min=1e-12)

    def plot(self, sample: int = 0, frames: Sequence[int] | None = None) -> Figure:
        """Draw frames of the clip, the map over them, and its magnitude over time.

        Args:
            sample: Which sample of the batch.
            frames: Which frames; None takes, of each eighth of the clip, that where the map is largest.

        Raises:
            UsageError: There is no such sample or frame.
        """
        return self._plot(sample, frames)


def _timed(name: str, heat: Tensor, settings: Mapping[str, Any]) -> tuple[TimeUnit, Tensor]:
    """Unit and numbers of each frame, N x T, of a map of the method of that name."""
    try:
        method = find_method(name)
    except UnknownNameError:  # a plugin's that is not installed
        return "share", over_time(heat, "share")
    if method.time != "sum" or method.reduction != "mean":
        return method.time, over_time(heat, method.time)
    window = settings.get("window")
    if settings.get("feature_mask") != "grid" or window is None:
        return "sum", read_parts(heat)
    from explain.attribution.removal import grid

    parts = grid(heat[0].shape, window, heat.device)
    corners = [(parts == number).nonzero()[0].unbind() for number in range(int(parts.max()) + 1)]
    rows = [parts_over_time(torch.stack([one[at] for at in corners]).double(), parts) for one in heat]
    return "sum", torch.stack(rows).to(heat)

"""What a maximisation gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from explain.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Maximization(Saved):
    """Clips that raise activations or other objectives. Tensors are detached, on the model's device."""

    #: Name of the layer whose units were maximised; None for other objectives.
    layer: str | None
    #: For each clip: the index of its unit (channel) in the layer, or the name of its objective.
    units: tuple[int | str, ...]
    #: U x C x T x H x W, display range [0, 1], grey or RGB, before the model's own scaling and normalisation.
    clips: Tensor
    #: U: mean over time and space of the unit's map, or the objective's value, for its clip, no transform applied.
    activation: Tensor
    #: U: the same for the clip that the optimisation began with.
    initial: Tensor
    #: steps x U: the same at every step, as transformed there.
    history: Tensor
    #: Options as used ("steps": 256).
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What each clip is for: "layer1/3", or its objective's name."""
        return tuple(unit if isinstance(unit, str) else f"{self.layer}/{unit}" for unit in self.units)

    def plot(self, clips: Sequence[int] | None = None) -> Figure:
        """Draw frames of clips, and how their activations rose.

        Args:
            clips: Which, by their place in `units`; None takes the first six.

        Raises:
            UsageError: There is no such clip.
        """
        return self._plot(clips)

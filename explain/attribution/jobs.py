"""What a method is handed, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from explain.targets import Score
    from zoo.entries import Layout


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One call of a method on samples that fit into memory together.

    The model is prepared (`explain.preservation.prepared`): eval mode, parameters frozen, random state seeded.
    """

    model: nn.Module
    #: The number explained: `score(batch, samples)` gives one for each sample; `samples` tells which each of them is.
    score: Score
    #: n samples in the model's layout, without gradient.
    batch: Tensor
    #: Which samples of the caller's batch these are: n integers on the batch's device.
    samples: Tensor
    layout: Layout
    #: Stands for "nothing there"; same shape as `batch`.
    baseline: Tensor
    #: Most evaluations to run at once, at least n.
    size: int
    #: Name of the layer; None unless the method needs one.
    layer: str | None
    steps: int
    integration: str
    #: Extent (T, H, W) and stride (T, H, W) of the occluding block.
    window: tuple[int, int, int]
    stride: tuple[int, int, int]
    seed: int

    @property
    def value(self) -> Tensor:
        """The number explained for the unchanged samples: n."""
        return self.score.target.value[self.samples]

    def expect(self, evaluations: int) -> None:
        """Tell the progress display how many evaluations each sample takes."""
        self.score.total = evaluations * len(self.score.target)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raw:
    """A method's result before it is reduced to a map."""

    #: As the batch, or n x 1 x T' x H' x W' at the layer's size for methods whose reduction is "positive".
    values: Tensor
    #: What the attributions' sum lacks or has too much of the difference they should make: n, or None.
    delta: Tensor | None = None

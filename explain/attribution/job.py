"""What an attribution method is handed, and what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from explain.attribution.options import FORMER, NamedOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from explain.model.targets import Score, Target
    from zoo.entries import Layout


#: The options that version 0.1 had as attributes of a job.
_NAMED = frozenset(one.name for one in dataclasses.fields(NamedOptions))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One call of a method on samples that fit into memory together.

    The model is prepared (`explain.model.preservation.prepared`): eval mode, parameters frozen, random state seeded.
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
    seed: int
    #: The method's options, an object of its class (`explain.attribution.options`), with window and stride filled in.
    options: Any = NamedOptions()  # noqa: RUF009 - frozen
    #: What stands for "nothing there" where a method takes the mean over several; `baseline` is the first.
    references: tuple[Tensor, ...] = ()
    #: How often the whole method runs for one result.
    repeats: int = 1
    #: The pass that methods of one call share; None where the method is to run its own.
    passed: Pass | None = None

    def __getattr__(self, name: str) -> Any:
        """Give an option under its name, or that of version 0.1: `job.draws` is `job.options.n_samples`."""
        now = FORMER.get(name, name)
        if now in _NAMED:
            return getattr(object.__getattribute__(self, "options"), now)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def value(self) -> Tensor:
        """The number explained for the unchanged samples: n."""
        return self.score.target.value[self.samples]

    def expect(self, evaluations: int) -> None:
        """Tell the progress display how many evaluations each sample takes."""
        self.score.total = evaluations * self.repeats * len(self.score.target)

    def against(self, reference: Tensor) -> Job:
        """The same job with another baseline."""
        return dataclasses.replace(self, baseline=reference, references=(reference,))

    def repeated(self, batch: Tensor, repeats: int, times: int) -> Job:
        """The same job on several versions of its samples, all of the first version before the next.

        Args:
            batch: `repeats` versions of the samples, (repeats n) x ...
            repeats: How many there are in it.
            times: How often in all the method runs for one result.
        """

        def again(tensor: Tensor) -> Tensor:
            return tensor.repeat(repeats, *([1] * (tensor.ndim - 1)))

        return dataclasses.replace(
            self,
            batch=batch,
            samples=again(self.samples),
            baseline=again(self.baseline),
            references=tuple(again(reference) for reference in self.references),
            repeats=self.repeats * times,
            passed=None,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raw:
    """A method's result before it is reduced to a map."""

    #: As the batch, or n x 1 x T' x H' x W' at the layer's size for methods whose reduction is "positive".
    values: Tensor
    #: What the attributions' sum lacks or has too much of the difference they should make: n, or None.
    delta: Tensor | None = None
    #: What each frame has of it, n x T; None where the map says it (`Method.time`).
    time: Tensor | None = None
    #: n: whether there was evidence against the output that `values` no longer show; None where they show all.
    against: Tensor | None = None
    #: The type of the numbers that it was computed in; empty where that is the model's.
    precision: str = ""
    #: What was explained, n samples' target, where the method says so itself; None for that of the job.
    target: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a pass is asked for."""

    #: The gradient at the input.
    gradient: bool = False
    #: Layers whose maps are wanted with the gradient there, and without.
    slopes: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """What one pass leaves, without gradient and at least in 32-bit numbers."""

    #: What was explained.
    target: Target
    #: The gradient of the number explained with respect to the input, shaped like it; None unless wanted.
    gradient: Tensor | None = None
    #: Layers' outputs, n x C x T' x H' x W', and the gradients with respect to them, by name.
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    slopes: Mapping[str, Tensor] = field(default_factory=dict)

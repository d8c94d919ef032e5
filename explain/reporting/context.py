"""Inputs of sections: the model, the clip, the target, and the computation that may be spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

    from explain.drawing.sprites import Sprite
    from explain.fields.theoretical import Trace
    from explain.model.targets import Target
    from zoo.clips import Clip
    from zoo.entries import ModelEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of a report that its sections follow."""

    #: Attribution methods, in display order; None uses the default ones.
    methods: tuple[str, ...] | None = None
    #: Layer for methods that use one; None leaves the choice to each method.
    layer: str | None = None
    #: Steps of integrated gradients.
    steps: int = 32
    #: Layers whose units are maximized: how many, or which.
    unit_layers: int | tuple[str, ...] = 3
    #: Number of units in each of them.
    units: int = 2
    #: Steps of activation maximization.
    unit_steps: int = 64
    #: Whether maps are tested in full, at every layer and in more steps.
    thorough: bool = False


def silent(step: str, done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model in a comparison; with a clip, a `Context`. Passed to the hook `explain_comparisons`, one per model."""

    #: None without a clip.
    model: nn.Module | None = None
    #: The resolved entry (`weights` contains only the loaded file); None for a model from outside the zoo.
    entry: ModelEntry | None
    #: `architecture.tag`, or the class name of a module from outside the zoo; unique in a comparison.
    name: str
    #: The stored evaluation, as returned by `zoo.training.evaluation.stored`, and its `file`, if one was named; None if
    #: there is none.
    evaluation: Mapping[str, Any] | None = None
    #: The decoded clip; None without a clip.
    clip: Clip | None = None
    #: The model's input, a batch of one sample; None without a clip.
    batch: Tensor | None = None
    #: The target, fixed for the sample; None without a clip.
    target: Target | None = None
    #: Device of the model; None if it was not loaded.
    device: str | None = None
    seed: int = 0
    options: Options = Options()
    #: Progress callback: the step, how much of it is done, and how much there is.
    progress: Callable[[str, int, int], None] = silent
    #: Seconds of each step, in order; `timed` fills it.
    seconds: dict[str, float] = field(default_factory=dict)
    #: Start time, on the clock of `time.perf_counter`.
    began: float = field(default_factory=time.perf_counter)
    #: Results that several sections share, by name.
    kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @contextmanager
    def timed(self, step: str) -> Iterator[Callable[[int, int], None]]:
        """Record the seconds of a step; yields the callback progress(done, total)."""
        self.progress(step, 0, 1)
        start = time.perf_counter()
        try:
            yield lambda done, total: self.progress(step, done, total)
        finally:
            self.seconds[step] = time.perf_counter() - start
            self.progress(step, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Subject):
    """One model on one clip; passed to every section's `build` and to the hook `explain_sections`."""

    model: nn.Module
    clip: Clip
    #: The clip at the model's input before normalization: uint8, T x H x W x C, C is 1 (gray) or 3 (RGB).
    frames: npt.NDArray[np.uint8]
    #: `frames` as a sprite, which every page holds; named "clip" if the page has one model.
    picture: Sprite
    batch: Tensor
    target: Target
    #: The target as requested; `explain.attribute` takes it.
    asked: Any
    #: Whether every head is explained, and not the target alone.
    everything: bool = False
    #: The prediction for the sample: head -> output of `explain.reporting.reading.ask`.
    prediction: Mapping[str, Mapping[str, Any]]
    #: The following frames, on the CPU, in the shape of the heads that predict them; empty if the clip ends before.
    truths: Mapping[str, Tensor] = field(default_factory=dict)
    device: str

    @property
    def times(self) -> tuple[float, ...] | None:
        """Return the seconds of each frame of the batch on the clock of its source; None if unknown."""
        from zoo import clips

        return clips.times_of(self.clip, self.entry.input) if self.entry is not None else self.clip.times

    def moment(self, frame: int) -> str:
        """Describe when a frame of the batch is shown: its time if known, and its index."""
        from zoo.clips import moment

        return moment(frame, len(self.frames), self.times)

    def output_times(self, head: str, count: int) -> tuple[float, ...] | None:
        """Return the seconds of an output's frames: of those it predicts, or of the batch's if it has as many."""
        from zoo import clips

        if self.prediction.get(head, {}).get("follows"):
            return clips.times_of(self.truths[head]) if head in self.truths else None
        return self.times if count == len(self.frames) else None

    @property
    def explained_at(self) -> str:
        """Describe when the frames of the target are shown, if it covers a part of them; else return ""."""
        from zoo.clips import instant

        target = self.target
        run = target.times or (target.region[0] if target.region else None)
        if target.head is None or run is None:
            return ""
        said = self.prediction[target.head]
        count = len(said["frames"]) if target.times else said["shape"][-3] if len(said["shape"]) == 4 else 1
        times = self.output_times(target.head, count)
        return "" if times is None or run == (0, count) else instant(run[0], times, run[1] - 1)

    @property
    def fields(self) -> Trace:
        """Return the receptive fields of all layers, computed once."""
        if "fields" not in self.kept:
            from explain.fields.theoretical import trace

            with self.timed("receptive fields") as progress:
                self.kept["fields"] = trace(self.model, tuple(self.batch.shape), progress=progress)
        found: Trace = self.kept["fields"]
        return found

    @property
    def outputs(self) -> dict[str, Tensor]:
        """Return the model's output for the sample, 1 x ... by head, on the CPU; computed once."""
        from zoo.models.prediction import outputs

        if "outputs" not in self.kept:
            self.kept["outputs"] = {name: head.cpu() for name, head in outputs(self.model, self.batch).items()}
        found: dict[str, Tensor] = self.kept["outputs"]
        return found

    @property
    def default_layer(self) -> tuple[str, str]:
        """Return the default layer of methods that use one, and the reason.

        Raises:
            ModelError: No layer is suitable.
        """
        from explain.attribution.layer_choice import default_layer

        if "layer" not in self.kept:
            self.kept["layer"] = default_layer(self.model, self.batch, self.fields.rows)
        layer, why = self.kept["layer"]
        return layer, why


#: Floating-point operations of a forward pass above which passes are expensive: a third of a second on two cores.
DEAR = 2e10

#: Floating-point operations of a forward pass above which a report runs only its maps and their tests.
FORBIDDING = 3e11


def operations(context: Context) -> int:
    """Return the floating-point operations of one forward pass, counted once for all clips of a page."""
    if "operations" not in context.kept:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from explain.model.preservation import prepared

        with prepared(context.model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            context.model(context.batch.clone())
        context.kept["operations"] = int(counter.get_total_flops())
    return int(context.kept["operations"])

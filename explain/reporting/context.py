"""What a section gets to know: the model, the clip, what is explained, and how much may be spent."""

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

    #: Attribution methods, in the order shown; None takes the usual ones.
    methods: tuple[str, ...] | None = None
    #: Layer of the methods that look at one; None leaves it to each method.
    layer: str | None = None
    #: Steps of integrated gradients.
    steps: int = 32
    #: Layers whose units are maximised: how many, or which.
    unit_layers: int | tuple[str, ...] = 3
    #: Units in each of them.
    units: int = 2
    #: Steps of activation maximisation.
    unit_steps: int = 64
    #: Whether maps are tested at length.
    thorough: bool = False


def silent(step: str, done: int, total: int) -> None:
    """Tell nobody of progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model in a comparison; on a clip it is a `Context`. Given to the hook `explain_comparisons`, one a model."""

    #: None where no clip was given.
    model: nn.Module | None = None
    #: The resolved entry (`weights` holds the loaded file alone); None for a model that the zoo does not know.
    entry: ModelEntry | None
    #: `architecture.tag`, or the class name of a module from outside the zoo; unique in a comparison.
    name: str
    #: What was measured, as `zoo.training.evaluation.stored` gives it, and the `file` that was named, if one was; None
    #: where nothing was.
    evaluation: Mapping[str, Any] | None = None
    #: The clip as it was read; None where none was given.
    clip: Clip | None = None
    #: The batch of one sample that the model was given; None where no clip was.
    batch: Tensor | None = None
    #: What is explained, fixed for the sample; None where no clip was given.
    target: Target | None = None
    #: Where the model is; None where it was not loaded.
    device: str | None = None
    seed: int = 0
    options: Options = Options()
    #: Told what goes on: the step, how much of it is done, and how much there is.
    progress: Callable[[str, int, int], None] = silent
    #: Seconds that each step took, in order; `timed` fills it.
    seconds: dict[str, float] = field(default_factory=dict)
    #: When all began, on the clock of `time.perf_counter`.
    began: float = field(default_factory=time.perf_counter)
    #: What several sections need and one made, by name.
    kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @contextmanager
    def timed(self, step: str) -> Iterator[Callable[[int, int], None]]:
        """Note the seconds that a step takes; gives the function to be called as progress(done, total)."""
        self.progress(step, 0, 1)
        start = time.perf_counter()
        try:
            yield lambda done, total: self.progress(step, done, total)
        finally:
            self.seconds[step] = time.perf_counter() - start
            self.progress(step, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Subject):
    """One model on one clip; given to every section's `build` and to the hook `explain_sections`."""

    model: nn.Module
    clip: Clip
    #: The clip as the model sees it before normalisation: uint8, T x H x W x C, C is 1 (grey) or 3 (RGB).
    frames: npt.NDArray[np.uint8]
    #: `frames` as a sprite, which every page holds; the only model of a page calls it "clip".
    picture: Sprite
    batch: Tensor
    target: Target
    #: What the target was asked for as; `explain.attribute` takes it.
    asked: Any
    #: Whether every output is explained, and not the target alone.
    everything: bool = False
    #: What the model says of the sample: head -> what `explain.reporting.reading.ask` gives.
    prediction: Mapping[str, Mapping[str, Any]]
    #: How the clip goes on, on the CPU, in the shape of the outputs that predict it; none where it ends before.
    truths: Mapping[str, Tensor] = field(default_factory=dict)
    device: str

    @property
    def times(self) -> tuple[float, ...] | None:
        """Seconds of each frame of the batch on the clock of its source; None where they are not known."""
        from zoo import clips

        return clips.times_of(self.clip, self.entry.input) if self.entry is not None else self.clip.times

    def moment(self, frame: int) -> str:
        """When a frame of the batch is shown, in words: its time if that is known, and its index."""
        from zoo.clips import moment

        return moment(frame, len(self.frames), self.times)

    def output_times(self, head: str, count: int) -> tuple[float, ...] | None:
        """Seconds of the frames of an output: of those that it predicts, or of the batch's where it has as many."""
        from zoo import clips

        if self.prediction.get(head, {}).get("follows"):
            return clips.times_of(self.truths[head]) if head in self.truths else None
        return self.times if count == len(self.frames) else None

    @property
    def explained_at(self) -> str:
        """When the frames are shown that the target stands for, if it does for a part of them; else empty."""
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
        """The receptive fields of all layers, found once."""
        if "fields" not in self.kept:
            from explain.fields.theoretical import trace

            with self.timed("receptive fields") as progress:
                self.kept["fields"] = trace(self.model, tuple(self.batch.shape), progress=progress)
        found: Trace = self.kept["fields"]
        return found

    @property
    def outputs(self) -> dict[str, Tensor]:
        """What the model gives for the sample, 1 x ... by head, on the CPU; found once."""
        from zoo.models.prediction import outputs

        if "outputs" not in self.kept:
            self.kept["outputs"] = {name: head.cpu() for name, head in outputs(self.model, self.batch).items()}
        found: dict[str, Tensor] = self.kept["outputs"]
        return found

    @property
    def default_layer(self) -> tuple[str, str]:
        """The layer that methods look at which are told none, and why.

        Raises:
            ModelError: There is none to choose.
        """
        from explain.attribution.layer_choice import default_layer

        if "layer" not in self.kept:
            self.kept["layer"] = default_layer(self.model, self.batch, self.fields.rows)
        layer, why = self.kept["layer"]
        return layer, why


#: Floating-point operations of a forward pass from which on every pass is dear: a third of a second on two cores.
DEAR = 2e10

#: The same from which on a report runs no passes but those of its maps and their tests.
FORBIDDING = 3e11


def operations(context: Context) -> int:
    """Floating-point operations of one forward pass, counted once for all clips of a page."""
    if "operations" not in context.kept:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from explain.model.preservation import prepared

        with prepared(context.model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            context.model(context.batch.clone())
        context.kept["operations"] = int(counter.get_total_flops())
    return int(context.kept["operations"])

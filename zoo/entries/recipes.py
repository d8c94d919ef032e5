"""Training recipes of weights files, as plain data without torch.

Every callable is a `"package.module:function"` string, resolved when training starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: Optimizers of `torch.optim` that a stage can ask for.
OPTIMIZERS = ("Adam", "Adamax", "AdamW", "NAdam", "RAdam")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of a training run, with a fresh optimizer.

    The learning rate rises linearly over `warmup` steps and falls along a cosine to `final_rate` times its height.
    """

    #: Unique in the recipe; `zoo train --until` and searches call the stage by it.
    name: str
    #: Steps of the optimizer.
    steps: int
    #: Clips of a step.
    batch_size: int
    #: Its height, after the warm-up.
    learning_rate: float
    #: `data(module, stage, seed, device) -> batch_at`, called once as the stage begins; `batch_at(step)` gives the
    #: batch of a step and depends on nothing but its argument, so that a resumed run sees the same batches. For
    #: several processes to share it, every tensor in it has the clips first.
    data: str
    #: `loss(module, batch, stage) -> (loss, terms)`: a scalar tensor, and scalar tensors to report by name; means over
    #: the clips of the batch. One that divides by anything else than their number (masked frames, summed weights)
    #: divides by `zoo.training.parallel.divisor` of it, so that several processes add up to the loss of one.
    loss: str
    #: Steps over which the learning rate rises; it is there at once where this is 0.
    warmup: int = 0
    #: Share of the height that is left at the end.
    final_rate: float = 0.0
    #: As the optimizer takes it.
    weight_decay: float = 0.0
    #: One of `OPTIMIZERS`: "Adam", "Adamax", "AdamW", "NAdam", "RAdam".
    optimizer: str = "AdamW"
    #: Longest gradient allowed (L2 norm over all parameters).
    clip_norm: float = 1.0
    #: Convolutions and products run in bfloat16 where autocast allows it and the device computes it itself (GPUs, CPUs
    #: with AVX-512 or its like); else everything is float32. Other CPUs would add up the weight gradients of a batch in
    #: bfloat16: of one 3D convolution they were 2 to 4% off (0.2% if rounded once), and a step of a 3D ResNet-18 took
    #: 15 times as long as in float32.
    autocast: bool = True
    #: Decay of the running average of the weights that the stage leaves behind; 0 leaves the last weights.
    averaging: float = 0.0
    #: Batches over which BatchNorm's running statistics are collected anew, in float32, as the stage ends; 0 keeps
    #: those gathered on the way. These lag behind the weights and carry bfloat16's rounding, and where most of a clip
    #: is empty a deep network amplifies such offsets from layer to layer.
    recalibration: int = 0
    #: Further settings for `data` and `loss`.
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The distribution that a search draws a setting from: uniform between two bounds, inclusive, or a choice.

    Two integer bounds give integers.

    Raises:
        ValueError: if neither or both are set, or the bounds are invalid.
    """

    #: The two ends.
    low: float | None = None
    high: float | None = None
    #: Even in the logarithm.
    log: bool = False
    #: The choices, if there are no bounds.
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid span."""
        ends = None not in (self.low, self.high)
        if ends == bool(self.choices) or (ends and not (self.low or 0) <= (self.high or 0)):
            raise ValueError(f"a span has two ends, low <= high, or choices, not {self}")
        if self.log and not (self.low or 0) > 0:
            raise ValueError("a span that is even in the logarithm begins above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The settings that `zoo search` draws in each trial of a recipe, and the metrics that it compares.

    If the batch size is drawn, a stage sees as many clips as before, in more or fewer steps.

    Raises:
        ValueError: if there is no metric, or `compared` is not one of the settings with choices.
    """

    #: Settings by their places: "arguments.NAME" (of `build`), "STAGE.FIELD", "STAGE.arguments.NAME".
    space: Mapping[str, Span]
    #: Names of metrics that the recipe's evaluation gives: the first ranks trials, all are drawn.
    metrics: tuple[str, ...]
    #: The setting, one of choices, whose values are set side by side.
    compared: str
    #: Whether higher metrics are better.
    maximize: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be ranked or set side by side."""
        if not self.metrics:
            raise ValueError("a search names one metric or more, of which the first ranks trials")
        if self.compared not in self.space or not self.space[self.compared].choices:
            known = [place for place, span in self.space.items() if span.choices]
            raise ValueError(f"a search compares a setting of choices ({known}), not {self.compared!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole training run, from a seed to a weights file."""

    #: "architecture.tag", the weights that the recipe makes.
    name: str
    #: `build(**arguments) -> nn.Module`: what is trained, auxiliary parts included. One that begins with other trained
    #: weights has their names and sha256 in the module's attribute `zoo_start: dict[str, str]`, for the run's record.
    build: str
    #: `export(module) -> nn.Module`: the network that is kept; empty if it is the module itself.
    export: str = ""
    #: `evaluate(network, device, clips=None, **evaluate_arguments) -> {"metrics": [{dataset, split, name, value}],
    #: "clips_measured": N, "breakdown": {table: [row]}}`: the network on a fixed test set, or on its first `clips`
    #: clips (`UsageError` where there are fewer). A row holds what it is of, its `clips`, and the metrics by name. The
    #: table `constant answers` says what answers get that do not depend on the clip: what a model must beat to have
    #: learned anything. "per_clip" may be left out; it keeps each clip's own ({metric:
    #: `zoo.training.evaluation.per_clip(values)`}), so that models are compared clip by clip.
    evaluate: str
    #: Further keywords of `evaluate`.
    evaluate_arguments: Mapping[str, Any] = field(default_factory=dict)
    #: `example(**example_arguments) -> Tensor`: one batch for the golden tensors; empty if it is the first of the
    #: architecture's samples, preprocessed as the input says.
    example: str = ""
    #: Keywords of `example`.
    example_arguments: Mapping[str, Any] = field(default_factory=dict)
    #: One after the other.
    stages: tuple[Stage, ...]
    #: Of the first weights and of the data; `zoo train --seed` gives another.
    seed: int = 0
    #: Keywords of `build`.
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: What differs from the architecture's entry (arguments, input, outputs), written into the file's header.
    header: Mapping[str, Any] = field(default_factory=dict)
    #: Short description of the weights, in one line.
    summary: str = ""
    #: Settings that `zoo search` may vary.
    search: Search | None = None

    @property
    def steps(self) -> int:
        """Return the number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def clips(self) -> int:
        """Return the number of clips seen in all stages, repetitions included."""
        return sum(stage.steps * stage.batch_size for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that determine the weights as JSON-ready values, without the search space.

        Fields that records did not have at first are left out where they hold their default.
        """
        found = asdict(self)
        del found["search"]
        for name in ("export", "evaluate_arguments", "example", "example_arguments"):
            if not found[name]:
                del found[name]
        for stage in found["stages"]:
            if stage["optimizer"] == "AdamW":
                del stage["optimizer"]
        return found

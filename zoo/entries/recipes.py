"""Training recipes of weights files, as plain data without torch.

Every callable is a `"package.module:function"` string, resolved when training starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: Optimizers of `torch.optim` available to a stage.
OPTIMIZERS = ("Adam", "Adamax", "AdamW", "NAdam", "RAdam")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of a training run, with a fresh optimizer.

    The learning rate rises linearly over `warmup` steps and falls along a cosine to `final_rate` times its height.
    """

    #: Unique name in the recipe, used by `zoo train --until` and searches.
    name: str
    #: Number of optimizer steps.
    steps: int
    #: Clips per step (batch size).
    batch_size: int
    #: Peak learning rate, after the warm-up.
    learning_rate: float
    #: `data(module, stage, seed, device) -> batch_at`, called once as the stage begins; `batch_at(step)` returns the
    #: batch of a step and depends only on its argument, so that a resumed run sees the same batches. For
    #: distributed training, the first axis of every tensor in it must be the clips.
    data: str
    #: `loss(module, batch, stage) -> (loss, terms)`: a scalar tensor, and scalar tensors to report by name; means over
    #: the clips of the batch. One that divides by any other number (masked frames, summed weights)
    #: divides by `zoo.training.parallel.divisor` of it, so that the losses of several processes add up to that of one.
    loss: str
    #: Warm-up steps over which the learning rate rises; 0 starts at the peak.
    warmup: int = 0
    #: Final learning rate as a share of the peak.
    final_rate: float = 0.0
    #: Weight decay, as the optimizer defines it.
    weight_decay: float = 0.0
    #: One of `OPTIMIZERS`: "Adam", "Adamax", "AdamW", "NAdam", "RAdam".
    optimizer: str = "AdamW"
    #: Maximum gradient norm (L2 norm over all parameters).
    clip_norm: float = 1.0
    #: Convolutions and products run in bfloat16 where autocast allows it and the device computes it itself (GPUs, CPUs
    #: with AVX-512 or its like); else everything is float32. Other CPUs would add up the weight gradients of a batch in
    #: bfloat16: of one 3D convolution they were 2 to 4% off (0.2% if rounded once), and a step of a 3D ResNet-18 took
    #: 15 times as long as in float32.
    autocast: bool = True
    #: Decay of the running average of the weights that the stage returns; 0 returns the last weights.
    averaging: float = 0.0
    #: Batches over which BatchNorm's running statistics are recomputed, in float32, as the stage ends; 0 keeps
    #: those of training. These lag behind the weights and carry bfloat16's rounding, and if most of a clip
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

    #: The two bounds.
    low: float | None = None
    high: float | None = None
    #: Whether to draw uniformly in the logarithm.
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

    #: Settings by path: "arguments.NAME" (of `build`), "STAGE.FIELD", "STAGE.arguments.NAME".
    space: Mapping[str, Span]
    #: Names of metrics of the recipe's evaluation: the first ranks trials, all are drawn in the figure.
    metrics: tuple[str, ...]
    #: The setting, one with choices, whose values are compared side by side.
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

    #: "architecture.tag", the weights made by the recipe.
    name: str
    #: `build(**arguments) -> nn.Module`: the module to train, auxiliary parts included. If it starts from other trained
    #: weights, their names and sha256 are in the module's attribute `zoo_start: dict[str, str]`, for the run's record.
    build: str
    #: `export(module) -> nn.Module`: the network to keep; empty if it is the module itself.
    export: str = ""
    #: `evaluate(network, device, clips=None, **evaluate_arguments) -> {"metrics": [{dataset, split, name, value}],
    #: "clips_measured": N, "breakdown": {table: [row]}}`: evaluate on a fixed test set, or on its first `clips`
    #: clips (`UsageError` if there are fewer). A row holds its description, its `clips`, and the metrics by name. The
    #: table `constant answers` holds the metrics of predictions that do not depend on the clip, which a model must
    #: beat to have learned anything. "per_clip" is optional; it keeps the metrics of each clip ({metric:
    #: `zoo.training.evaluation.per_clip(values)`}), so that models are compared clip by clip.
    evaluate: str
    #: Further keywords of `evaluate`.
    evaluate_arguments: Mapping[str, Any] = field(default_factory=dict)
    #: `example(**example_arguments) -> Tensor`: one batch for the golden tensors; if empty, the first of the
    #: architecture's samples, preprocessed by the input spec.
    example: str = ""
    #: Keywords of `example`.
    example_arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Stages, in order.
    stages: tuple[Stage, ...]
    #: Seed of the initial weights and of the data; `zoo train --seed` replaces it.
    seed: int = 0
    #: Keywords of `build`.
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Overrides of the architecture's entry (arguments, input, outputs), written into the file's header.
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

"""Entries by which plugins describe their models: plain data without torch."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from zoo.entries.typechecks import check_types, is_count
from zoo.limits import LONGEST_SIDE, MOST_PIXELS

Layout = Literal["NCTHW", "NTCHW", "NCHW"]

Channels = Literal["RGB", "BGR", "L", "other"]

Sampling = Literal["uniform", "consecutive"]

Resize = Literal["exact", "short_side"]

Interpolation = Literal["bilinear", "bicubic"]

Kind = Literal["classes", "value", "clip"]

_Entry = TypeVar("_Entry")


def warn_of_licence(where: str, stacklevel: int = 3) -> None:
    """Warn that a field is called by its former name."""
    warnings.warn(f"{where}: `licence` is now called `license`; the old name will go", DeprecationWarning, stacklevel)


def _takes_licence(kind: type[_Entry]) -> type[_Entry]:
    """Accept and expose the field `license` of a class also as `licence`, as in version 0.1."""
    plain = kind.__init__

    @functools.wraps(plain)
    def init(self: Any, **fields: Any) -> None:
        if "licence" in fields:
            warn_of_licence(kind.__name__)
            fields["license"] = fields.pop("licence")
        plain(self, **fields)

    def licence(self: Any) -> str:
        warn_of_licence(kind.__name__)
        return str(self.license)

    kind.__init__ = init  # type: ignore[method-assign]  # the dataclass's own, with one more name
    kind.licence = property(licence)  # type: ignore[attr-defined]  # deprecated, so that type checkers do not offer it
    return kind


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The preprocessing from a clip to the batch that a model expects.

    A clip of uint8 frames is sampled in time, resized, cropped, turned into the channels named,
    scaled linearly from 0..255 to `range`, and normalized as (x - mean) / std.

    Raises:
        ValueError: if the fields contradict each other or their types.
    """

    #: Order of the axes of a batch: N samples, C channels, T frames, H rows, W columns.
    layout: Layout = "NCTHW"
    #: Channels and their order; "L" is gray (ITU-R 601 luma); "other" are no colors, and no clip is turned into them.
    channels: Channels = "RGB"
    #: Number of channels, with "other".
    other_channels: int | None = None
    #: Frames in a batch (1 for an image model).
    frames: int
    #: Rows and columns of a batch.
    size: tuple[int, int]
    #: "uniform": frames evenly spread over the clip; "consecutive": successive frames, from the start.
    sampling: Sampling = "uniform"
    #: With "consecutive": every `stride`-th frame.
    stride: int = 1
    #: Frames per second of the training videos, before `stride`. With "consecutive", frames are
    #: then `stride / frame_rate` seconds apart whatever the rate of the clip; None takes every `stride`-th frame.
    frame_rate: float | None = None
    #: "exact": to `resized`, aspect not kept; "short_side": the shorter side to `short_side`. Then a central crop.
    resize: Resize = "short_side"
    #: Length of the shorter side before the crop; None is the larger side of `size`.
    short_side: int | None = None
    #: With "exact": rows and columns before the crop; None is `size`.
    resized: tuple[int, int] | None = None
    #: Interpolation used to resize frames.
    interpolation: Interpolation = "bilinear"
    #: Whether to antialias when downsampling.
    antialias: bool = True
    #: Values to which 0 and 255 are mapped before normalization.
    range: tuple[float, float] = (0.0, 1.0)
    #: One mean for each channel, in units of `range`.
    mean: tuple[float, ...] = (0.0,)
    #: Standard deviation of each channel, in units of `range`.
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Raise ValueError where the fields contradict each other or their types."""
        check_types(self)
        sizes = (self.frames, self.stride, *self.size, *([] if self.short_side is None else [self.short_side]))
        others = self.other_channels
        if (self.channels == "other") != (others is not None) or not (others is None or is_count(others)):
            raise ValueError('other_channels, a positive number, goes with channels="other" alone')
        if not all(map(is_count, sizes)):
            raise ValueError(f"frames, stride and size (rows, columns) are positive integers, not {sizes}")
        if self.frame_rate is not None and not 1e-3 <= self.frame_rate <= 1e6:
            raise ValueError(f"frame_rate is 0.001 to 1,000,000 frames per second, or None, not {self.frame_rate:g}")
        if self.resized is not None and any(map(int.__lt__, self.resized, self.size)):
            raise ValueError(f"resized is two integers (rows, columns), none below {self.size}, not {self.resized}")
        sides = (self.short_side or 1, *(self.resized or ()))
        if any(side > LONGEST_SIDE for side in sides):
            raise ValueError(f"frames are resized to at most {LONGEST_SIDE:,} pixels a side, not {sides}")
        if self.frames * math.prod(self.size) * (others or 1) > MOST_PIXELS:
            of = f"{self.size}" if others is None else f"{self.size} and {others} channels"
            raise ValueError(f"an input holds at most {MOST_PIXELS:,} pixels, not {self.frames} frames of {of}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in {1, self.channel_count}:
                raise ValueError(f"{name} has one number, or one for each of the {self.channel_count} channels")
        if 0 in self.std:
            raise ValueError("no standard deviation is 0")

    @property
    def channel_count(self) -> int:
        """Return the number of channels of a batch: 1 for "L", 3 for colors."""
        return self.other_channels or (1 if self.channels == "L" else 3)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a batch of one clip, in the order of `layout`."""
        sizes = {"N": 1, "C": self.channel_count, "T": self.frames, "H": self.size[0], "W": self.size[1]}
        return tuple(sizes[axis] for axis in self.layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """One output of a model (a head)."""

    #: Key of the head in the model's output; "output" for a model that returns one tensor.
    name: str = "output"
    #: "classes": logits N x K; "value": N x 1, a number (each number of a vector is a head of its own); "clip":
    #: N x C x T x H x W whatever the input's layout, or N x C x H x W of one frame. A clip of as many channels as the
    #: input is shown in the input's units. Logits N x 1 x K are those of N x K.
    kind: Kind = "classes"
    #: For classes or a value: whether each frame has its own, N x T x K or, for a value, N x T. The prediction for
    #: the clip is their mean over time.
    per_frame: bool = False
    #: One label for each class, in the order of the logits.
    labels: tuple[str, ...] = ()
    #: Unit of a value ("pixels per frame").
    unit: str = ""
    #: Keyword of the builder that sets the number of this head's classes ("num_classes"), if there is one.
    argument: str = ""
    #: For a clip: whether its frames, however many, predict those that follow the input's, in its size and
    #: units; the input's `sampling` is then "consecutive".
    follows: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown kind, or a value that is not text."""
        check_types(self)
        if self.per_frame and self.kind == "clip":
            raise ValueError("a clip has its frames already; per_frame is for classes and values")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measured figure."""

    #: Data set of the measurement.
    dataset: str
    #: Split of the data set ("test").
    split: str
    #: Name of the metric; if it ends in "accuracy", a share from 0 to 1, which cards show in percent.
    name: str
    value: float

    def __post_init__(self) -> None:
        """Raise ValueError for a value that is not text, or not a finite number."""
        check_types(self)


@_takes_licence
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsEntry:
    """One weights file of an architecture, and everything a reader must know before trusting it."""

    #: snake_case; `architecture.tag` names the weights.
    tag: str
    #: "package:path/in/package.safetensors" (bundled), a path on disk, "hub:ORG/REPO@REVISION:FILE" (on the Hugging
    #: Face Hub, pinned to a commit of 40 hexadecimal digits, `zoo.weights.hub`), or the URL of a foreign file: a state
    #: dictionary that torch.save wrote, converted to safetensors once (`zoo.weights.torch_files`). A file
    #: `*.safetensors.index.json` names its shards.
    source: str
    #: Size of the file; of a foreign one as far as it is published; of shards and their index together.
    bytes: int
    #: Full SHA-256 of the file, 64 hexadecimal digits; of a foreign one the beginning that is published, 8 or more; of
    #: shards that of the lines which `sha256sum` prints of the index and of them, by name.
    sha256: str
    #: SPDX identifier.
    license: str = "Apache-2.0"
    #: Name of the recipe that made the file.
    recipe: str | None = None
    #: Metrics measured with these weights.
    metrics: tuple[Metric, ...] = ()
    #: One input and its outputs, same form as `source`; `zoo verify` recomputes them.
    golden: str | None = None
    #: The JSON that training wrote beside the file (recipe, log, metrics and their breakdown), same form as `source`;
    #: `zoo.training.evaluation.stored` reads it.
    record: str | None = None
    #: Differences from the architecture's entry; None if there are none.
    arguments: Mapping[str, Any] | None = None
    input: InputSpec | None = None
    outputs: tuple[OutputSpec, ...] | None = None
    parameters: int | None = None
    #: Prefixes of the names of a foreign file's tensors that the architecture does not use.
    left: tuple[str, ...] = ()
    #: Deprecated tags of these weights: they load with a warning, and are not listed.
    formerly: tuple[str, ...] = ()
    #: Parts of names in a foreign file that were renamed since: as in the file, and as in the model.
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Check whether the file is third-party, behind a URL."""
        return self.source.startswith(("https://", "http://"))

    @property
    def is_hub(self) -> bool:
        """Check whether the file is on the Hugging Face Hub."""
        return self.source.startswith("hub:")


@_takes_licence
@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Named clips that a plugin ships: `sample:NAME` is the first, `sample:NAME/3` the one at index 3."""

    #: snake_case.
    name: str
    #: "package:path.safetensors" with one uint8 tensor `clips`, K x T x H x W x C.
    resource: str
    #: Label of each clip, K texts.
    labels: tuple[str, ...]
    #: SPDX identifier.
    license: str
    #: Source of the clips.
    source: str
    #: The class of each clip by category, K mappings ({"digit": "4", "motion": "zoom in"}), or none: the truth that
    #: a model's predictions are compared with, under an output's own name or if the class is one of its labels.
    classes: tuple[Mapping[str, Any], ...] = ()


@_takes_licence
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One architecture: how to build it, what goes in, what comes out, and its weights.

    The first weights entry is the default one. `zoo.info("architecture.tag")` gives the entry resolved
    for one weights file: its overrides applied, and `weights` holding that file alone.
    """

    #: snake_case; it may begin with a digit.
    name: str
    #: "package.module:function", called with `arguments` as keywords.
    builder: str
    #: Short description, in one line.
    summary: str
    #: Trainable and frozen parameters together, as built.
    parameters: int
    #: Floating-point operations of one sample's forward pass, a multiply-add counted as two (`zoo.models.flops`).
    flops: int | None = None
    #: Preprocessing from a clip to a batch.
    input: InputSpec
    #: The heads, in order; the first is explained by default.
    outputs: tuple[OutputSpec, ...]
    #: Keywords of the builder, as JSON values.
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: The first is the default; empty if nothing was trained.
    weights: tuple[WeightsEntry, ...] = ()
    #: Foreign files that are never downloaded: a file given by path is recognized by its SHA-256 and
    #: read by its entry. `source` is its origin.
    known: tuple[WeightsEntry, ...] = ()
    #: Bundled sample clips.
    samples: tuple[Sample, ...] = ()
    #: "package:path.md" of the model card; None for first-party cards, found by the architecture's name.
    card: str | None = None
    #: Citation with its identifier.
    paper: str = ""
    #: SPDX identifier of the code.
    license: str = "Apache-2.0"
    #: Deprecated names of this architecture, or of others that it replaces: they load with a warning that names
    #: it, and are not listed.
    formerly: tuple[str, ...] = ()
    #: Whether the builder can run with parameters on meta (`zoo.models.meta.parameters_on_meta`); use False if
    #: it computes with their values: loading then builds as usual without trying.
    meta: bool = True

    def resolve(self, weights: WeightsEntry | None) -> ModelEntry:
        """Return the entry resolved for one weights file, or for none."""
        if weights is None:
            return dataclasses.replace(self, weights=())
        return dataclasses.replace(
            self,
            weights=(weights,),
            arguments={**self.arguments, **(weights.arguments or {})},
            input=weights.input or self.input,
            outputs=self._named(weights.outputs or self.outputs),
            parameters=weights.parameters or self.parameters,
            flops=None if weights.arguments or weights.input else self.flops,  # counted for the architecture's own
        )

    def _named(self, outputs: tuple[OutputSpec, ...]) -> tuple[OutputSpec, ...]:
        """Return the outputs of a file's overrides, with the builder's keywords of the architecture."""
        known = {head.name: head.argument for head in self.outputs}
        return tuple(
            head if head.argument or not known.get(head.name) else dataclasses.replace(head, argument=known[head.name])
            for head in outputs
        )

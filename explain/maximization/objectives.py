"""What is maximised: one number for each clip, added, scaled and negated as terms of a sum.

`0.2 * channel("layer2", 20) + 0.8 * channel("layer3", 21) - 0.5 * total_variation()` is an objective, too. As in lucid
(Olah, Mordvintsev & Schubert, Feature Visualization, Distill 2017), objectives know nothing of parametrisations and
transforms. What is asked of a layer or an output looks at the clip as transformed, a regulariser at the clip itself.
Layers' maps are N x units x T' x H' x W' (`explain.model.layers.as_maps`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from explain.model.regions import Region
from explain.model.targets import unit_index
from zoo.errors import UsageError

#: Least cosine that `direction` raises to its power: below, no gradient would lead anywhere.
LEAST_COSINE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What one pass showed of N clips."""

    #: N x C x T x H x W in [0, 1], before transforms.
    clips: Tensor
    #: Maps of each layer asked for, of 32 bits or more, as all numbers here.
    maps: Mapping[str, Tensor]
    #: N: the model's output for each target asked for.
    outputs: Mapping[int | str | Region, Tensor]

    def split(self, sizes: Sequence[int]) -> list[Seen]:
        """The same in parts of so many clips."""
        # One call for all parts: gradients come back by one concatenation.
        parted = torch.split_with_sizes
        clips = parted(self.clips, list(sizes))
        maps = {name: parted(tensor, list(sizes)) for name, tensor in self.maps.items()}
        outputs = {name: parted(tensor, list(sizes)) for name, tensor in self.outputs.items()}
        return [
            Seen(
                clips=clips[place],
                maps={name: parts[place] for name, parts in maps.items()},
                outputs={name: parts[place] for name, parts in outputs.items()},
            )
            for place in range(len(sizes))
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Objective:
    """One number for each clip, to be raised. Adds (`+`, `-`, `sum`), scales (`2 *`) and negates (`-`)."""

    #: What it is called in results; the clip it begins with is drawn from its name and the seed.
    name: str
    #: What a pass showed of N clips -> N numbers.
    value: Callable[[Seen], Tensor]
    #: Layers that it reads.
    layers: frozenset[str] = field(default_factory=frozenset)
    #: Outputs that it reads, as `explain.model.targets` takes them.
    targets: frozenset[int | str | Region] = field(default_factory=frozenset)
    #: Whether clips of the same objective bear on each other, so that they are made together.
    coupled: bool = False

    def __add__(self, other: Objective | float) -> Objective:
        """The sum of both; adding 0 changes nothing, so that `sum` works."""
        if not isinstance(other, Objective):
            return self if other == 0 else NotImplemented
        first, second = self.value, other.value
        joined = f"{self.name} - {other.name[1:]}" if other.name.startswith("-") else f"{self.name} + {other.name}"
        return Objective(
            name=joined,
            value=lambda seen: first(seen) + second(seen),
            layers=self.layers | other.layers,
            targets=self.targets | other.targets,
            coupled=self.coupled or other.coupled,
        )

    __radd__ = __add__

    def __mul__(self, weight: float) -> Objective:
        """The objective, scaled."""
        if not isinstance(weight, int | float):
            return NotImplemented
        value = self.value
        inner = f"({self.name})" if " + " in self.name or " - " in self.name else self.name
        name = f"-{inner}" if weight == -1 else f"{weight:g} {inner}"
        return Objective(
            name=name,
            value=lambda seen: weight * value(seen),
            layers=self.layers,
            targets=self.targets,
            coupled=self.coupled,
        )

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        """What lowers it."""
        return self * -1

    def __sub__(self, other: Objective) -> Objective:
        """The difference."""
        return self + -other if isinstance(other, Objective) else NotImplemented


def channel(layer: str, index: int) -> Objective:
    """The mean of a channel's map over time, rows and columns (what `maximize(model, layer, index)` raises)."""

    def value(seen: Seen) -> Tensor:
        maps = seen.maps[layer]
        return maps[:, unit_index(layer, index, maps.shape[1])].mean(dim=(1, 2, 3))

    return Objective(name=f"{layer}/{index}", value=value, layers=frozenset({layer}))


def unit(layer: str, index: int, position: tuple[int, int, int] | None = None) -> Objective:
    """One position of a channel's map: a single unit, which sees its receptive field and no more.

    Args:
        layer: Name of the layer.
        index: Channel.
        position: Time step, row and column in the map; None is its centre (T' // 2, H' // 2, W' // 2).
    """

    def value(seen: Seen) -> Tensor:
        maps = seen.maps[layer]
        size = tuple(maps.shape[2:])
        time, row, column = position or (size[0] // 2, size[1] // 2, size[2] // 2)
        if not (0 <= time < size[0] and 0 <= row < size[1] and 0 <= column < size[2]):
            raise UsageError(f"position {position} is not in the maps of {layer!r}, {' x '.join(map(str, size))}")
        return maps[:, unit_index(layer, index, maps.shape[1]), time, row, column]

    place = "" if position is None else "@" + ",".join(map(str, position))
    return Objective(name=f"{layer}/{index}{place or '@centre'}", value=value, layers=frozenset({layer}))


def layer(name: str) -> Objective:
    """The mean square of a whole layer, whatever of it a clip excites ("DeepDream", Mordvintsev et al. 2015)."""
    return Objective(
        name=f"all of {name}",
        value=lambda seen: seen.maps[name].square().mean(dim=(1, 2, 3, 4)),
        layers=frozenset({name}),
    )


def logit(target: int | str | Region) -> Objective:
    """One output of the model, before any softmax (Simonyan, Vedaldi & Zisserman, arXiv 1312.6034, section 2).

    Args:
        target: A class by index or label ("tabby"), "head:class" or "head:#3" where there are several outputs, the
            name of an output that is a value, or a region of one that is a clip, "output[3, 10:18, 4:12]".
    """
    return Objective(
        name=f"class {target}" if isinstance(target, int) else str(target),
        value=lambda seen: seen.outputs[target],
        targets=frozenset({target}),
    )


def direction(layer: str, vector: Tensor | Sequence[float], *, power: float = 0.0) -> Objective:
    """How far a layer's maps go in a direction: the dot product, averaged over time, rows and columns.

    With a power p it is the mean of (a . v) max(0.1, cos(a, v))^p: the higher p, the more it counts that the maps a
    point where v does, rather than that they are large (Carter et al., Activation Atlas, Distill 2019).

    Args:
        layer: Name of the layer.
        vector: One number for each channel; its length counts, too.
        power: p.
    """
    along = torch.as_tensor(vector).detach()

    def value(seen: Seen) -> Tensor:
        maps = seen.maps[layer]
        if along.shape != (maps.shape[1],):
            raise UsageError(f"a direction in layer {layer!r} has {maps.shape[1]} numbers, not {tuple(along.shape)}")
        wanted = along.to(maps)
        dot = torch.einsum("ncthw,c->nthw", maps, wanted)
        if power:
            cosine = dot / (maps.norm(dim=1) * wanted.norm()).clamp_min(1e-12)
            dot = dot * cosine.clamp_min(LEAST_COSINE) ** power
        return dot.mean(dim=(1, 2, 3))

    return Objective(name=f"direction in {layer}", value=value, layers=frozenset({layer}))


def diversity(layer: str) -> Objective:
    """How unlike in style clips of one objective are: minus the mean cosine of a clip's Gram matrix and the others'.

    The Gram matrix holds the products of every two channels, averaged over time, rows and columns. This one couples the
    clips that `copies` asks for: each depends on the others made beside it, and comes out different alone.
    """

    def value(seen: Seen) -> Tensor:
        flat = seen.maps[layer].flatten(2)
        if len(flat) < 2:
            raise UsageError("diversity is between several clips of one objective: give copies of 2 or more")
        gram = F.normalize((flat @ flat.transpose(1, 2) / flat.shape[2]).flatten(1), dim=1)
        cosine = gram @ gram.T
        return -(cosine.sum(dim=1) - cosine.diagonal()) / (len(flat) - 1)

    return Objective(name=f"diversity in {layer}", value=value, layers=frozenset({layer}), coupled=True)


def total_variation() -> Objective:
    """Mean absolute difference of neighbouring pixels, down plus across (Rudin, Osher & Fatemi 1992). Subtract it."""

    def value(seen: Seen) -> Tensor:
        return sum((_mean(seen.clips.diff(dim=axis).abs()) for axis in (3, 4)), start=seen.clips.new_zeros(()))

    return Objective(name="total variation", value=value)


def flicker() -> Objective:
    """Mean squared difference of neighbouring frames: subtract it for motion that is smooth in time."""
    return Objective(name="flicker", value=lambda seen: _mean(seen.clips.diff(dim=2).square()))


def contrast() -> Objective:
    """Mean squared distance of the clip's values to the grey that it begins with: subtract it for fainter clips."""
    return Objective(name="contrast", value=lambda seen: _mean((seen.clips - 0.5).square()))


def _mean(values: Tensor) -> Tensor:
    """The mean of each clip's values; 0 where there are none, as between the frames of an image."""
    return values.flatten(1).sum(dim=1) / max(1, values[0].numel())


#: Regularisers by name.
REGULARISERS: dict[str, Callable[[], Objective]] = {
    "total_variation": total_variation,
    "flicker": flicker,
    "contrast": contrast,
}

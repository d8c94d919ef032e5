"""The motion of single filters in words and pixels: what the *pattern* of a filter does from slice to slice.

Signs, here and in every drawing: to the right, downwards, clockwise and growing are positive, later slices compared
with earlier ones, as on screen. Slices follow each other as the frames that they look at do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explain.temporal import LayerParameters

#: What is too little to be told in words: pixels, degrees and growth (as a logarithm) of one step.
_LITTLE_SHIFT, _LITTLE_TURN, _LITTLE_GROWTH = 0.05, 0.5, 0.005
#: Eighths of a full turn, clockwise from the right, as they read.
_DIRECTIONS = ("right", "down and right", "down", "down and left", "left", "up and left", "up", "up and right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """What the pattern of one filter does, step by step; a step leads from one slice to the next.

    Pixels are those of the layer's input.
    """

    layer: str
    #: Index of the filter: of the layer's output channel.
    channel: int
    #: "3tconv" or "fit", as in `LayerParameters`.
    kind: str
    #: D, rows and columns of the kernel.
    kernel_size: tuple[int, int, int]
    #: Factor by which the pattern grows, at each step; 1 stands still.
    size: tuple[float, ...]
    #: Degrees that it turns clockwise about the kernel's centre.
    rotation: tuple[float, ...]
    #: Pixels that it moves to the right, and down.
    right: tuple[float, ...]
    down: tuple[float, ...]
    #: Pixels (right, down) at which a point that began in the kernel's centre is, in each slice: all motions together.
    positions: tuple[tuple[float, float], ...]
    #: Pixels a step by which the pattern's points come away from where they began: root mean square over the kernel's
    #: square, of the way from the first slice to the last. Turning and growing count, too.
    displacement: float
    #: How much of each next slice the motion explains, and how much the slice before does left where it is; None where
    #: slices are made by their motion.
    r2: tuple[float, ...] | None = None
    r2_still: tuple[float, ...] | None = None

    @property
    def shift(self) -> tuple[float, float]:
        """Pixels a step that the kernel's centre moves to the right and down, from the first slice to the last."""
        steps = len(self.size)
        return self.positions[-1][0] / steps, self.positions[-1][1] / steps

    @property
    def turn(self) -> float:
        """Degrees a step, clockwise, on average."""
        return sum(self.rotation) / len(self.rotation)

    @property
    def growth(self) -> float:
        """Factor a step by which the pattern grows: the geometric mean."""
        return math.exp(sum(math.log(abs(size)) for size in self.size) / len(self.size))

    @property
    def data(self) -> dict[str, Any]:
        """Every number of it."""
        return {
            "layer": self.layer,
            "channel": self.channel,
            "kind": self.kind,
            "kernel_size": list(self.kernel_size),
            "size": list(self.size),
            "rotation": list(self.rotation),
            "right": list(self.right),
            "down": list(self.down),
            "positions": [list(position) for position in self.positions],
            "displacement": self.displacement,
            "shift": list(self.shift),
            "turn": self.turn,
            "growth": self.growth,
            "r2": None if self.r2 is None else list(self.r2),
            "r2_still": None if self.r2_still is None else list(self.r2_still),
        }

    def sentence(self, step: str = "step") -> str:
        """What the pattern does, in words.

        Args:
            step: What a step is for the reader: "frame" where slices lie one frame apart.
        """
        right, down = self.shift
        shift, turn, growth = math.hypot(right, down), self.turn, self.growth
        said = []
        if shift >= _LITTLE_SHIFT:
            said.append(f"moves {shift:.2g} pixel{'' if f'{shift:.2g}' == '1' else 's'} {direction(right, down)}")
        if abs(turn) >= _LITTLE_TURN:
            said.append(f"turns {abs(turn):.2g}° {'clockwise' if turn > 0 else 'counter-clockwise'}")
        if abs(math.log(growth)) >= _LITTLE_GROWTH:
            said.append(f"{'grows' if growth > 1 else 'shrinks'} by {100 * abs(growth - 1):.2g} %")
        if not said:
            return "Follows a pattern that ends where, and as, it began."
        told = said[0] if not said[1:] else f"{', '.join(said[:-1])} and {said[-1]}"
        return f"Follows a pattern that {told} per {step}."


def direction(right: float, down: float) -> str:
    """The nearest of eight directions, in words."""
    return _DIRECTIONS[round(math.atan2(down, right) / (math.pi / 4)) % 8]


def displacements(layer: LayerParameters) -> Tensor:
    """`Motion.displacement` of each filter; NaN where a step is not identified or sees no data, or shrinks to nothing.

    All steps together bring p to S R(phi) p + b. Over the kernel's square, h pixels each way from its centre, the mean
    of the squared way is (S^2 - 2 S cos(phi) + 1) (h_x^2 + h_y^2) / 3 + |b|^2.
    """
    pattern = layer.pattern()
    growth, turn = pattern.scale.prod(dim=0), pattern.rotation.sum(dim=0).deg2rad()
    half = sum((extent - 1) ** 2 / 4 for extent in layer.kernel_size[1:])
    away = (growth.square() - 2 * growth * turn.cos() + 1) * half / 3
    total = (away + pattern.path()[-1].square().sum(dim=1)).clamp_min(0).sqrt() / len(layer.scale)
    told: Tensor = torch.where((layer.identified & layer.counted() & (layer.scale > 0)).all(dim=0), total, torch.nan)
    return told


def motion(layer: LayerParameters, channel: int) -> Motion:
    """The motion of one filter of a layer, by its index."""
    pattern = layer.pattern()
    size, rotation, right, down = (
        tuple(values[:, channel].tolist())
        for values in (pattern.scale, pattern.rotation, pattern.x_pixels, pattern.y_pixels)
    )
    return Motion(
        layer=layer.name,
        channel=channel,
        kind=layer.kind,
        kernel_size=layer.kernel_size,
        size=size,
        rotation=rotation,
        right=right,
        down=down,
        positions=tuple((x, y) for x, y in pattern.path()[:, channel].tolist()),
        displacement=float(displacements(layer)[channel]),
        r2=None if layer.r2 is None else tuple(layer.r2[:, channel].tolist()),
        r2_still=None if layer.r2_still is None else tuple(layer.r2_still[:, channel].tolist()),
    )


def most_moving(layers: Iterable[LayerParameters], count: int) -> list[Motion]:
    """The filters whose patterns move most, the first one most (`Motion.displacement`).

    Filters that stand still, or whose motion cannot be told at every step, have none to show and are left out.
    """
    found: list[tuple[float, LayerParameters, int]] = []
    for layer in layers:
        moved = displacements(layer).nan_to_num(-1.0)
        values, channels = moved.topk(min(count, len(moved)))
        found += [
            (value, layer, channel)
            for value, channel in zip(values.tolist(), channels.tolist(), strict=True)
            if value > 0
        ]
    found.sort(key=lambda one: -one[0])
    return [motion(layer, channel) for _, layer, channel in found[:count]]

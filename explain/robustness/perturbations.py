"""Perturbations of clips: each is one function of display values, a level and random numbers.

Clips are C x T x H x W in [0, 1], 32-bit (or 64-bit) floats on the CPU; results are within [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import torch
from torch import Tensor
from torch.nn import functional as F

from explain.model.diagnosis import is_whole
from zoo.errors import UnknownNameError, UsageError
from zoo.registry import plugins

Extent = tuple[int, int, int]

#: Values of missing parts by name; "mean" is the clip's mean color.
FILLS: dict[str, float | None] = {"black": 0.0, "grey": 0.5, "white": 1.0, "mean": None}
#: Largest level of noise: its standard deviation on white, or the share of pixels.
_NOISIEST = 0.5
#: Smallest deviation of Poisson noise: below, photon counts are too large to draw, and the noise is invisible.
_LEAST_DEVIATION = 1e-6
#: Largest standard deviation of a blur, as a share of the shorter side of a frame.
_BLURRIEST = 1 / 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """A perturbation of a clip at increasing levels."""

    name: str
    #: Heading, and description of a level.
    title: str
    level: str
    #: Up to so many levels for a clip of extent (T, H, W), ascending, all above 0; empty if it does not apply.
    levels: Callable[[int, Extent], tuple[float, ...]]
    #: The largest valid level for that extent.
    most: Callable[[Extent], float]
    #: `apply(clip, level, generator, fill)` returns the perturbed clip; `fill` holds C values.
    apply: Callable[[Tensor, float, torch.Generator, Tensor], Tensor]
    #: Whether it is random.
    drawn: bool = True
    #: Whether all levels share one draw: parts that are missing at one level are missing at the next, too.
    grows: bool = False
    #: Whether it acts on whole frames, so that a single frame shows nothing.
    over_time: bool = False
    #: Whether levels are integers.
    whole: bool = False
    #: The level at which nothing is changed.
    none: float = 0.0

    def generator(self, seed: int, level: float, sample: int, draw: int) -> torch.Generator:
        """Return the random generator of one level, sample and draw, independent of device and batch."""
        key = f"{seed}/{self.name}/{'' if self.grows else repr(float(level))}/{sample}/{draw}"
        return torch.Generator().manual_seed(int.from_bytes(sha256(key.encode()).digest()[:4], "big"))

    def checked(self, levels: Sequence[float], extent: Extent) -> tuple[float, ...]:
        """Return user-supplied levels, validated and ascending.

        Raises:
            UsageError: A level is invalid.
        """
        most = self.most(extent)
        for level in levels:
            if not self.none < level <= most or math.isinf(level) or (self.whole and level != int(level)):
                kind = "whole number" if self.whole else "number"
                raise UsageError(
                    f"{self.name} has no level {level:g} here; expected a {kind} above {self.none:g}"
                    f"{'' if math.isinf(most) else f', at most {most:g}'} ({self.level})"
                )
        if not levels:
            raise UsageError(f"{self.name} was given no level; name at least one, or how many")
        return tuple(sorted({float(level) for level in levels}))


def fill_values(fill: str | float, clip: Tensor) -> Tensor:
    """Return the C values that replace missing parts of a clip C x T x H x W.

    Raises:
        UsageError: Neither a name of `FILLS` nor a number in [0, 1].
    """
    value = check_fill(fill)
    if value is None:
        return clip.mean(dim=(1, 2, 3))
    return clip.new_full((clip.shape[0],), value)


def check_fill(fill: str | float) -> float | None:
    """Return the number of a fill; None for the mean color. Raises as `fill_values` does."""
    if isinstance(fill, str) and fill in FILLS:
        return FILLS[fill]
    try:
        value = float(fill)
    except (TypeError, ValueError):
        raise UnknownNameError("fill", str(fill), FILLS, "or a number from 0 (black) to 1 (white)") from None
    if not 0 <= value <= 1:
        raise UsageError(f"fill {fill} is outside of 0 (black) to 1 (white)")
    return value


def check_counts(**counts: int) -> None:
    """Raise UsageError unless each of these is an integer of at least 1."""
    for name, count in counts.items():
        if not is_whole(count) or count < 1:
            raise UsageError(f"{name} must be at least 1 and whole, got {count!r}")


def all_perturbations() -> tuple[Perturbation, ...]:
    """Return the built-in perturbations and those of plugins; a plugin cannot replace a built-in one."""
    known = {one.name: one for one in BUILT_IN}
    for _, one in plugins.collect("explain_perturbations", Perturbation):
        known.setdefault(one.name, one)
    return tuple(known.values())


def find(names: str | Iterable[str] | None) -> list[Perturbation]:
    """Return the perturbations of these names, in the order of the table; all for None.

    Raises:
        UnknownNameError: A name is unknown.
        UsageError: There is no name, or it is not a string.
    """
    known = {one.name: one for one in all_perturbations()}
    if names is None:
        return list(known.values())
    if not isinstance(names, Iterable):
        raise UsageError(f"perturbations are names, or names with the levels of each, not {names!r}")
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in list(known):
            raise UnknownNameError("perturbation", str(name), known)
    if not chosen:
        raise UsageError(f"no perturbation is named; name some of {', '.join(known)}, or give None for all")
    return [one for name, one in known.items() if name in chosen]


def listed(asked: Mapping[str, Iterable[float] | None]) -> dict[str, list[float]]:
    """Return the levels of each perturbation as numbers; empty for None.

    Raises:
        UsageError: They are not a list of numbers.
    """
    found = {}
    for name, levels in asked.items():
        try:
            found[name] = [float(level) for level in _no_text(() if levels is None else levels)]
        except (TypeError, ValueError):
            raise UsageError(f"levels of {name} are a list of numbers, such as [1, 2], not {levels!r}") from None
    return found


def _no_text(levels: Iterable[float] | str) -> Iterable[float]:
    if isinstance(levels, str):  # a string of digits would iterate as levels
        raise TypeError
    return levels


def _even(most: float) -> Callable[[int, Extent], tuple[float, ...]]:
    return lambda count, _: tuple(most * step / count for step in range(1, count + 1))


def _blurs(count: int, extent: Extent) -> tuple[float, ...]:
    most = _BLURRIEST * min(extent[1:])
    return tuple(most * step / count for step in range(1, count + 1))


def _whole(low: int, high: int, count: int) -> tuple[float, ...]:
    """Return at most `count` integers up to `high`, evenly spaced."""
    if high < low:
        return ()
    steps = {max(low, low + round((high - low + 1) * step / count) - 1) for step in range(1, count + 1)}
    return tuple(map(float, sorted(steps)))


def _doubling(count: int, extent: Extent) -> tuple[float, ...]:
    """Return at most `count` integers from 2 to the number of frames, in a roughly geometric series."""
    frames = extent[0]
    return tuple(float(one) for one in sorted({round(frames ** (step / count)) for step in range(1, count + 1)} - {1}))


def _gaussian(clip: Tensor, level: float, generator: torch.Generator, _fill: Tensor) -> Tensor:
    noise = torch.randn(clip.shape, generator=generator, dtype=torch.float32)
    return (clip + level * noise.to(clip)).clamp(0, 1)


def _poisson(clip: Tensor, level: float, generator: torch.Generator, _fill: Tensor) -> Tensor:
    photons = max(level, _LEAST_DEVIATION) ** -2
    counted = torch.poisson((photons * clip).float(), generator=generator)
    return (counted.to(clip) / photons).clamp(0, 1)


def _salt_and_pepper(clip: Tensor, level: float, generator: torch.Generator, _fill: Tensor) -> Tensor:
    chance = torch.rand(clip.shape[1:], generator=generator, dtype=torch.float32)
    return clip.masked_fill(chance < level / 2, 0.0).masked_fill((chance >= level / 2) & (chance < level), 1.0)


def _square(clip: Tensor, level: float, generator: torch.Generator, fill: Tensor) -> Tensor:
    changed = clip.clone()
    place = torch.rand(2, generator=generator, dtype=torch.float64)
    ranges = []
    for size, share in zip(clip.shape[2:], place.tolist(), strict=True):
        side = min(int(level), size)
        first = min(max(int(share * size) - side // 2, 0), size - side)
        ranges.append(slice(first, first + side))
    changed[:, :, ranges[0], ranges[1]] = fill.view(-1, 1, 1, 1)
    return changed


def _frozen(clip: Tensor, level: float, generator: torch.Generator, _fill: Tensor) -> Tensor:
    count = clip.shape[1]
    kept = torch.ones(count, dtype=torch.bool)
    kept[1 + torch.randperm(count - 1, generator=generator)[: int(level)]] = False  # the first frame has no predecessor
    return clip[:, torch.where(kept, torch.arange(count), 0).cummax(0).values]


def _missing(clip: Tensor, level: float, generator: torch.Generator, fill: Tensor) -> Tensor:
    changed = clip.clone()
    changed[:, torch.randperm(clip.shape[1], generator=generator)[: int(level)]] = fill.view(-1, 1, 1, 1)
    return changed


def _shuffled(clip: Tensor, level: float, generator: torch.Generator, _fill: Tensor) -> Tensor:
    moved = torch.randperm(clip.shape[1], generator=generator)[: round(level * clip.shape[1])]
    order = torch.arange(clip.shape[1])
    order[moved] = moved.roll(1)  # a random cycle, so that no frame keeps its position
    return clip[:, order]


def _blurred(clip: Tensor, level: float, _generator: torch.Generator, _fill: Tensor) -> Tensor:
    reach = math.ceil(3 * level)
    at = torch.arange(-reach, reach + 1, dtype=clip.dtype)
    weights = (-0.5 * (at / level).square()).exp()
    weights = weights / weights.sum()
    frames = clip.flatten(0, 1)[:, None]
    frames = F.conv2d(F.pad(frames, (0, 0, reach, reach), mode="replicate"), weights.view(1, 1, -1, 1))
    frames = F.conv2d(F.pad(frames, (reach, reach, 0, 0), mode="replicate"), weights.view(1, 1, 1, -1))
    return frames.view(clip.shape).clamp(0, 1)


def _held(clip: Tensor, level: float, _generator: torch.Generator, _fill: Tensor) -> Tensor:
    hold = int(level)
    return clip[:, torch.arange(clip.shape[1]) // hold * hold]


#: All perturbations, in display order.
BUILT_IN: tuple[Perturbation, ...] = (
    Perturbation(
        name="gaussian_noise",
        title="Gaussian noise",
        level="standard deviation; white is 1",
        levels=_even(_NOISIEST),
        most=lambda _: math.inf,
        apply=_gaussian,
    ),
    Perturbation(
        name="poisson_noise",
        title="Poisson noise",
        level="standard deviation on white, 1 / √photons",
        levels=_even(_NOISIEST),
        most=lambda _: math.inf,
        apply=_poisson,
    ),
    Perturbation(
        name="salt_and_pepper",
        title="Salt and pepper",
        level="share of pixels turned black or white",
        levels=_even(_NOISIEST),
        most=lambda _: 1.0,
        apply=_salt_and_pepper,
    ),
    Perturbation(
        name="blur",
        title="Blur",
        level="standard deviation in pixels",
        levels=_blurs,
        most=lambda extent: float(min(extent[1:])),
        apply=_blurred,
        drawn=False,
    ),
    Perturbation(
        name="missing_square",
        title="A missing square",
        level="side in pixels, the same place in all frames",
        levels=lambda count, extent: _whole(1, max(extent[1:]), count),
        most=lambda extent: float(max(extent[1:])),
        apply=_square,
        grows=True,
        whole=True,
    ),
    Perturbation(
        name="missing_frames",
        title="Missing frames",
        level="frames replaced by one colour",
        levels=lambda count, extent: _whole(1, extent[0], count) if extent[0] > 1 else (),
        most=lambda extent: float(extent[0]),
        apply=_missing,
        grows=True,
        over_time=True,
        whole=True,
    ),
    Perturbation(
        name="dropped_frames",
        title="Dropped frames",
        level="frames replaced by the one before",
        levels=lambda count, extent: _whole(1, extent[0] - 1, count),
        most=lambda extent: float(extent[0] - 1),
        apply=_frozen,
        grows=True,
        over_time=True,
        whole=True,
    ),
    Perturbation(
        name="lower_frame_rate",
        title="Lower frame rate",
        level="frames for which each kept one stands",
        levels=_doubling,
        most=lambda extent: float(extent[0]),
        apply=_held,
        drawn=False,
        over_time=True,
        whole=True,
        none=1.0,
    ),
    Perturbation(
        name="shuffled_frames",
        title="Shuffled frames",
        level="share of frames that change places",
        levels=lambda count, extent: tuple(moved / extent[0] for moved in _whole(2, extent[0], count)),
        most=lambda _: 1.0,
        apply=_shuffled,
        grows=True,
        over_time=True,
    ),
)

"""Motion fitted to dense slices: least-squares similarity maps, many filters at once.

Slice i+1 of a filter is taken for g times slice i, resampled as 3TConv does it: bilinear, zeros outside, one map for
all input channels (arXiv 2006.15983, equations 2 to 5). The sum of squares over pixels and channels is minimised.

Resampling is linear in the slice, a matrix M of pixels x pixels that depends on the map alone. With A the sum over
channels of a aᵀ and X that of b aᵀ, the loss |b|² - 2 g <M, X> + g² <M A, M> needs nothing else, so that a layer of 512
channels costs no more than one of nine, and a grid of starts is tried on all filters in one matrix product. From the
best start for each of five turns, and from standing still, Levenberg-Marquardt steps go on with exact derivatives; the
best end is begun again from beside it.

The factor g is free, because dense filters change contrast in time and a fit without it would take fading for
shrinking. It is at least 0: a filter that flips its sign flickers and does not move; were g free to be negative, a
drifting grating would move both ways alike. R² is the share of the energy of slice i+1 that is explained, no mean being
removed. R² of the slice left where it is stands beside it: that of a filter that repeats itself, or only changes
contrast, is 1 too.

Identified is a motion that explains at least half, is known to a quarter of a pixel in its worst direction, has no
rival elsewhere that explains nearly as much, and is no larger than what is searched: twice or half the size, a quarter
turn, half a kernel. Zeros from outside count as structure, as in the layer: stripes that fill a kernel are held by its
border alone. Kernels that are not square move as their pixels do: a turn is a turn, and the shift along each axis is in
halves of that extent.

Planted motion (up to 10 %, 0.2 radians and a quarter of half a kernel a step, two steps, smooth slices of 32 filters,
white noise added to every slice as a share of its root mean square; `benchmarks/temporal_fit.py`): share identified,
root mean square error of s, r, tx and ty of those, and the largest error of any of them.

====  ========  =====  ==========  =================================  =======
k     channels  noise  identified  s       r       tx      ty         largest
====  ========  =====  ==========  =================================  =======
7     1         0      100 %       0.0000  0.0000  0.0000  0.0000     0.0000
7     1         0.1    100 %       0.0130  0.0195  0.0144  0.0142     0.0779
7     1         0.2    91 %        0.0273  0.0405  0.0293  0.0302     0.1368
7     16        0      100 %       0.0000  0.0000  0.0000  0.0000     0.0000
7     16        0.1    100 %       0.0038  0.0046  0.0038  0.0036     0.0161
7     16        0.2    100 %       0.0090  0.0122  0.0085  0.0090     0.0400
5     1         0      100 %       0.0000  0.0000  0.0000  0.0000     0.0000
5     1         0.1    97 %        0.0218  0.0297  0.0255  0.0325     0.1039
5     1         0.2    83 %        0.0529  0.0603  0.0647  0.0784     0.2605
5     16        0      100 %       0.0000  0.0000  0.0000  0.0000     0.0000
5     16        0.1    100 %       0.0044  0.0077  0.0060  0.0055     0.0341
5     16        0.2    100 %       0.0106  0.0178  0.0147  0.0139     0.0772
3     1         0      72 %        0.0000  0.0000  0.0000  0.0000     0.0000
3     1         0.1    45 %        0.0801  0.0827  0.1045  0.0741     0.4422
3     1         0.2    13 %        0.1004  0.1968  0.2041  0.1337     0.4688
3     16        0      100 %       0.0000  0.0000  0.0000  0.0000     0.0000
3     16        0.1    100 %       0.0173  0.0200  0.0196  0.0188     0.0616
3     16        0.2    100 %       0.0405  0.0472  0.0467  0.0424     0.1247
====  ========  =====  ==========  =================================  =======

Slices that have nothing to do with each other seem to move now and then where they hold few numbers: of one channel,
3 to 5 % of white 3 x 3 ones and 2 to 3 % of smooth ones of any size; of four channels, 2 in 1,000 at most. R² says it
as well: its median is 0.7 for unrelated white 3 x 3 slices of one channel, 0.2 of four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explain.budget import Progress

#: Numbers that one batch of fits works on, per tensor.
BLOCK = 2**21
#: Largest motion of one step: growth and shrinking by this factor, a turn by these radians, a shift by half a kernel.
LARGEST_SCALE, LARGEST_TURN = 2.0, math.pi / 2
#: Scales and turns that the search begins from; every shift of the grid is tried with each pair of them.
SCALES, TURNS = (0.8, 1.0, 1.25), (-0.8, -0.4, 0.0, 0.4, 0.8)
#: Least R² of a motion that counts as identified, corrected for the five fitted numbers and two for having searched:
#: of 3 x 3 x 3 kernels with one channel, which hold nine numbers a slice, R² must be above 0.88.
LEAST_R2, FREEDOM = 0.5, 7
#: Least share of the pattern's energy that must change where it moves by a pixel, whichever way.
LEAST_CHANGE = 0.01
#: Largest standard error of an identified motion, in pixels, in the direction that is known worst.
LARGEST_ERROR = 0.25
#: Motions further apart than this (pixels) are two; where the second explains nearly as much, neither is identified.
APART, NEARLY = 0.5, 0.02

#: Pixels to the side at which the best fit is begun once more, each way.
HOP = 0.3

_ITERATIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Motions of filters; every tensor is steps x filters, as `LayerParameters` describes them."""

    scale: Tensor
    rotation: Tensor
    translate_x: Tensor
    translate_y: Tensor
    gain: Tensor
    r2: Tensor
    r2_still: Tensor
    identified: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """P pairs of slices, as sums over channels: all that least squares needs, because resampling is linear.

    With a the slice, b the next one, both scaled to energy 1, and n pixels each.
    """

    height: int
    width: int
    #: P x n x n: sums over channels of a aᵀ.
    own: Tensor
    #: P x n x n: sums over channels of b aᵀ.
    cross: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Fits on their way: where they are, and what the pairs of slices say there."""

    #: Q x 4: log s, r, and the shift in pixels along x and y.
    at: Tensor
    #: Q: the explained share of the next slice's energy, the best factor at least 0 being taken.
    r2: Tensor
    #: Q: that factor.
    gain: Tensor
    #: Q x 4: half the slope of `r2`.
    slope: Tensor
    #: Q x 4 x 4: the Gauss-Newton matrix, the factor projected out.
    curvature: Tensor


def fit(slices: Tensor, progress: Progress | None = None) -> Fit:
    """The similarity map from each slice to the next that explains it best, all input channels together.

    Args:
        slices: Filters x channels x D x kh x kw, of any floating-point type, on any device, all finite; D, kh, kw > 1.
        progress: Called as progress(filters done, filters).
    """
    filters, channels, depth, height, width = slices.shape
    pixels = height * width
    size = max(1, BLOCK // ((depth - 1) * pixels * max(pixels, 16 * 8, channels)))
    parts = []
    for first in range(0, filters, size):
        parts.append(_fit(slices[first : first + size].detach().double()))
        if progress is not None:
            progress(min(first + size, filters), filters)
    names = Fit.__dataclass_fields__
    return Fit(**{name: torch.cat([getattr(part, name) for part in parts], dim=1).cpu() for name in names})


def _fit(slices: Tensor) -> Fit:
    filters, channels, depth, height, width = slices.shape
    flat = slices.permute(2, 0, 3, 4, 1).flatten(2, 3)  # D x F x n x C
    energy = flat.square().sum(dim=(2, 3))
    flat = flat / energy.sqrt().clamp_min(torch.finfo(flat.dtype).tiny)[..., None, None]
    before, after = flat[:-1].flatten(0, 1), flat[1:].flatten(0, 1)
    pairs = _Pairs(height, width, before @ before.mT, after @ before.mT)
    still, starts = _starts(pairs)
    count, each = starts.shape[:2]
    pair = torch.arange(count, device=flat.device).repeat_interleave(each)
    state, before_descent = _descend(pairs, starts.flatten(0, 1), pair)
    r2 = state.r2.reshape(count, each)
    best = r2.argmax(dim=1, keepdim=True)
    chosen = (torch.arange(count, device=flat.device).unsqueeze(1) * each + best).squeeze(1)
    arrived = _hop(pairs, _pick(state, chosen))
    at, found = arrived.at, arrived.r2
    # starts count, too: of round patterns all turns explain nearly the same, and every start comes to one end
    others = torch.cat([state.at.reshape(count, each, 4), starts], dim=1)
    apart = _distance(pairs, at.unsqueeze(1) - others) > APART
    near = torch.cat([r2, before_descent.reshape(count, each)], dim=1) > found.unsqueeze(1) - NEARLY
    rival = (apart & near).any(dim=1)
    identified = ~rival & _is_determined(pairs, arrived, channels)
    ratio = (energy[1:] / energy[:-1].clamp_min(torch.finfo(flat.dtype).tiny)).sqrt()
    alive = (energy[:-1] > 0) & (energy[1:] > 0)
    steps = (depth - 1, filters)
    at = torch.where(alive.flatten().unsqueeze(1), at, 0.0)
    return Fit(
        scale=at[:, 0].exp().reshape(steps),
        rotation=at[:, 1].reshape(steps),
        translate_x=at[:, 2].reshape(steps) * 2 / (width - 1),
        translate_y=at[:, 3].reshape(steps) * 2 / (height - 1),
        gain=torch.where(alive, arrived.gain.reshape(steps) * ratio, 0.0),
        r2=found.reshape(steps),
        r2_still=still.reshape(steps),
        identified=identified.reshape(steps) & alive,
    )


def _is_determined(pairs: _Pairs, state: _State, channels: int) -> Tensor:
    """Whether a fit explains enough, inside the bounds, and knows every direction of motion well enough."""
    at, r2 = state.at, state.r2
    numbers = pairs.height * pairs.width * channels
    unexplained = (1 - r2).clamp_min(0) * (numbers / max(numbers - FREEDOM, 1))
    unit = _pixels(pairs, at)
    curvature = state.curvature / (unit.unsqueeze(0) * unit.unsqueeze(1))
    least: Tensor = torch.linalg.eigvalsh(curvature)[:, 0].clamp_min(0)
    error = (unexplained / numbers / least.clamp_min(1e-300)).sqrt()
    enough = (1 - unexplained >= LEAST_R2) & (least >= LEAST_CHANGE * r2) & (error <= LARGEST_ERROR)
    inside = (at.abs() < _bounds(pairs, at) * (1 - 1e-9)).all(dim=1)
    return enough & inside


def _starts(pairs: _Pairs) -> tuple[Tensor, Tensor]:
    """R² of the slice left where it is (P), and the maps to begin from (P x starts x 4).

    These are standing still, and the best map of a grid for each of its turns. The resampling matrices of the grid are
    the same for all pairs, so that trying it is one matrix product.
    """
    own, cross = pairs.own.flatten(1), pairs.cross.flatten(1)
    identity = torch.zeros(1, 4, dtype=own.dtype, device=own.device)
    still = _scores(*_resampling(pairs, identity), own, cross)[0]
    starts = [identity.expand(len(own), 1, 4)]
    for maps in _grid(pairs):
        best = torch.full_like(still, -1.0)
        chosen = torch.zeros(len(own), dtype=torch.long, device=own.device)
        size = max(1, BLOCK // max(own.shape[1], len(own)))
        for first in range(0, len(maps), size):
            scores, found = _scores(*_resampling(pairs, maps[first : first + size]), own, cross).max(dim=0)
            chosen = torch.where(scores > best, found + first, chosen)
            best = torch.maximum(scores, best)
        starts.append(maps[chosen].unsqueeze(1))
    return still, torch.cat(starts, dim=1)


def _grid(pairs: _Pairs) -> Iterator[Tensor]:
    """For each turn the maps to try, as `_State.at`."""
    like = pairs.own
    shifts = [
        torch.linspace(-reach, reach, 2 * min(math.ceil(2 * reach), 4) + 1, dtype=like.dtype, device=like.device)
        for reach in (_reach(pairs.width) / 2, _reach(pairs.height) / 2)
    ]
    scales = like.new_tensor(SCALES).log()
    for turn in TURNS:
        yield torch.cartesian_prod(scales, like.new_tensor([turn]), *shifts)


def _reach(extent: int) -> float:
    return (extent - 1) / 2


def _scores(forward: Tensor, squared: Tensor, own: Tensor, cross: Tensor) -> Tensor:
    """R² of G resampling matrices for P pairs: G x P."""
    return _explained(forward @ cross.T, squared @ own.T)


def _explained(agreement: Tensor, energy: Tensor) -> Tensor:
    """The share of a slice's energy that another one explains, taken by the best factor that is at least 0."""
    return agreement.clamp_min(0).square() / energy.clamp_min(1e-12)


def _resampling(pairs: _Pairs, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The resampling matrices M of maps (G x 4) and their MᵀM, each flattened: G x n²."""
    index, weights = _taps(pairs, maps)
    pixels = pairs.height * pairs.width
    matrix = weights.new_zeros(len(maps), pixels, pixels).scatter_add_(2, index, weights[..., 0])
    return matrix.flatten(1), (matrix.mT @ matrix).flatten(1)


def _taps(pairs: _Pairs, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Where bilinear resampling reads, and with which weights.

    Args:
        pairs: For the extent of the slices.
        maps: Q x 4, as `_State.at`.

    Returns:
        Q x n x 4, the pixels read for each pixel; and Q x n x 4 x 5, their weights followed by the derivatives by the
        four parameters. Pixels outside, which count as 0, have weight 0.
    """
    height, width = pairs.height, pairs.width
    row, column = torch.arange(height, device=maps.device), torch.arange(width, device=maps.device)
    y, x = torch.meshgrid(row - _reach(height), column - _reach(width), indexing="ij")
    log_scale, turn, shift_x, shift_y = maps.unsqueeze(2).unbind(1)  # each Q x 1
    scale = log_scale.exp()
    cosine, sine = scale * turn.cos(), scale * turn.sin()
    x, y = x.flatten().to(maps) + shift_x, y.flatten().to(maps) + shift_y
    u, v = cosine * x - sine * y, sine * x + cosine * y
    # by log s, r and the shifts
    du = torch.stack([u, -v, cosine.expand_as(u), -sine.expand_as(u)], dim=-1)
    dv = torch.stack([v, u, sine.expand_as(u), cosine.expand_as(u)], dim=-1)
    u, v = u + _reach(width), v + _reach(height)
    left, top = u.floor(), v.floor()
    right, below = u - left, v - top
    columns = torch.stack([left, left + 1, left, left + 1], dim=-1)
    rows = torch.stack([top, top, top + 1, top + 1], dim=-1)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    by_u = torch.stack([below - 1, 1 - below, -below, below], dim=-1)
    by_v = torch.stack([right - 1, -right, 1 - right, right], dim=-1)
    weights = torch.stack([(1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right], dim=-1)
    slopes = by_u.unsqueeze(-1) * du.unsqueeze(2) + by_v.unsqueeze(-1) * dv.unsqueeze(2)
    everything = torch.cat([weights.unsqueeze(-1), slopes], dim=-1)
    index = torch.where(inside, rows * width + columns, 0.0).long()
    return index, torch.where(inside.unsqueeze(-1), everything, 0.0)


def _state(pairs: _Pairs, at: Tensor, pair: Tensor) -> _State:
    """What the pairs of slices numbered `pair` (Q) say of the maps `at` (Q x 4)."""
    index, weights = _taps(pairs, at)
    pixels = pairs.height * pairs.width
    start = (pair * pixels * pixels).reshape(-1, 1, 1)
    row = torch.arange(pixels, device=at.device).reshape(1, -1, 1) * pixels
    read = pairs.cross.take(start + row + index)
    block = pairs.own.take(start.unsqueeze(-1) + index.unsqueeze(-1) * pixels + index.unsqueeze(-2))
    flat = weights.flatten(1, 2)  # Q x 4n x 5
    products = flat.mT @ (block @ weights).flatten(1, 2)  # of the moved slice and its derivatives, with each other
    agreement = (read.flatten(1).unsqueeze(1) @ flat).squeeze(1)  # with the next slice
    energy = products[:, 0, 0].clamp_min(1e-12)
    gain = agreement[:, 0].clamp_min(0) / energy
    mixed = products[:, 0, 1:]
    slope = gain.unsqueeze(1) * (agreement[:, 1:] - gain.unsqueeze(1) * mixed)
    curvature = products[:, 1:, 1:] - mixed.unsqueeze(2) * mixed.unsqueeze(1) / energy[:, None, None]
    r2 = _explained(agreement[:, 0], products[:, 0, 0])
    return _State(at, r2, gain, slope, gain.square()[:, None, None] * curvature)


def _descend(pairs: _Pairs, at: Tensor, pair: Tensor) -> tuple[_State, Tensor]:
    """Levenberg-Marquardt from each start; a fit that has arrived is left out of the further work.

    Returns:
        Where the fits arrived, and the R² that they began with (Q).
    """
    final = _state(pairs, at, pair)
    begun = final.r2.clone()
    bounds = _bounds(pairs, at)
    active = torch.arange(len(at), device=at.device)
    now, damping = final, torch.full_like(final.r2, 1e-3)
    for _ in range(_ITERATIONS):
        diagonal = now.curvature.diagonal(dim1=1, dim2=2)
        floor = 1e-6 * diagonal.mean(dim=1, keepdim=True) + 1e-12
        matrix = now.curvature + torch.diag_embed(damping.unsqueeze(1) * (diagonal + floor) + 1e-3 * floor)
        step = torch.linalg.solve(matrix, now.slope)
        wanted = (now.at + step).clamp(-bounds, bounds)
        moved = _distance(pairs, wanted - now.at)
        then = _state(pairs, wanted, pair[active])
        better = then.r2 > now.r2
        now = _merge(better, then, now)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-9, 1e9)
        final = _put(final, active, now)
        going = (moved > 1e-7) & (damping < 1e8)
        if not bool(going.any()):
            break
        active, now, damping = active[going], _pick(now, going), damping[going]
    return final, begun


def _hop(pairs: _Pairs, state: _State) -> _State:
    """The best end of descents that begin a little beside each fit, both ways along each parameter.

    Bilinear resampling bends where a point crosses a pixel: there the loss has small valleys beside the deepest one.
    """
    count = len(state.at)
    ways = torch.diag(HOP / _pixels(pairs, state.at))
    starts = (state.at.unsqueeze(1) + torch.cat([ways, -ways])).flatten(0, 1)
    ends, _ = _descend(pairs, starts, torch.arange(count, device=starts.device).repeat_interleave(8))
    best = ends.r2.reshape(count, 8).argmax(dim=1)
    found = _pick(ends, torch.arange(count, device=starts.device) * 8 + best)
    return _merge(found.r2 > state.r2 + 1e-12, found, state)  # more than rounding


def _merge(condition: Tensor, first: _State, second: _State) -> _State:
    """`first` where the condition holds, else `second`."""
    fields = ("at", "r2", "gain", "slope", "curvature")
    pairs = [(getattr(first, name), getattr(second, name)) for name in fields]
    return _State(*(torch.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def _pick(state: _State, which: Tensor) -> _State:
    return _State(state.at[which], state.r2[which], state.gain[which], state.slope[which], state.curvature[which])


def _put(state: _State, where: Tensor, part: _State) -> _State:
    """`state` with some fits replaced, in place."""
    for name in ("at", "r2", "gain", "slope", "curvature"):
        getattr(state, name)[where] = getattr(part, name)
    return state


def _pixels(pairs: _Pairs, like: Tensor) -> Tensor:
    """By how many pixels the slice moves, at its mean distance from the centre, for each unit of the parameters: 4."""
    radius = math.sqrt((pairs.height**2 + pairs.width**2 - 2) / 12)
    return like.new_tensor([radius, radius, 1.0, 1.0])


def _bounds(pairs: _Pairs, like: Tensor) -> Tensor:
    return like.new_tensor([math.log(LARGEST_SCALE), LARGEST_TURN, _reach(pairs.width), _reach(pairs.height)])


def _distance(pairs: _Pairs, difference: Tensor) -> Tensor:
    """How far apart two maps put a pixel, about; ... x 4 to ... ."""
    return (difference * _pixels(pairs, difference)).square().sum(dim=-1).sqrt()

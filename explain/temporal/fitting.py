"""Motion fitted to dense slices: least-squares similarity maps, many filters at once.

Slice i+1 of a filter is taken for g times slice i, resampled bilinearly by one map for all input channels. What moves
in at the border is unknown: the slices of an ordinary convolution are windows on something larger. With M the matrix of
the resampling, a the slice, b the next one and c the coverage of each pixel, the share of its source that lies inside
(the row sum of M), the residual is b - g M a / c, weighted by c to the power of 8. A fit that counts zeros outside as
content takes every shift for growth: by 22 % at k = 5.

Weights are held while a step is tried, and renewed after it (iteratively reweighted least squares); a fit that could
gain by what it leaves out would shrink until nothing is compared. Noise of slice i is averaged by the resampling: the
variance of a residual is that of b's noise times 1 + the sum of squared shares, and residuals are divided by it, or
every fit would end between pixels. R², standard errors and identification count channels times the sum of weights; that
is at least 0.3 of all, and a fit that ends there is not identified.

Slices of a folded 3TConv are padded with zeros (arXiv 2006.15983, equations 2 to 5), and a Conv3d does not say so. The
numbers do: where the fit with zeros explains a slice up to the rounding of its type, and no worse than the other, it is
taken (`Fit.padded`), and recovers the layer's parameters to that rounding.

Resampling is linear in the slice. With A the sum over channels of a aᵀ, X that of b aᵀ, and the sums of b² for each
pixel, least squares needs nothing else, so that a layer of 512 channels costs no more than one of nine, and a grid of
starts is tried on all filters in one matrix product. From the best start for each of five turns, and from standing
still, Levenberg-Marquardt steps go on with exact derivatives; the best end is begun again from beside it.

The factor g is free, because dense filters change contrast in time and a fit without it would take fading for
shrinking. It is at least 0: a filter that flips its sign flickers and does not move; were g free to be negative, a
drifting grating would move both ways alike. R² is the share of the energy compared that is explained, no mean being
removed. R² of the slice left where it is stands beside it: that of a filter that repeats itself, or only changes
contrast, is 1 too.

A motion is identified if it explains at least 0.6, less the standard error of that share, which is large where few
numbers are compared; is known to a fifth of a pixel in its worst direction; has no rival elsewhere that explains nearly
as much; reads at least 0.3 of the pixels wholly from inside; and is no larger than what is searched: twice or half the
size, a quarter turn, half a kernel. Kernels that are not square move as their pixels do: a turn is a turn, and the
shift along each axis is in halves of that extent. A pattern that shrinks in a 3 x 3 kernel leaves one pixel whose
source is wholly inside, and is not identified.

`benchmarks/temporal_fit.py` measures errors on planted motion, and how often unrelated slices seem to move.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from explain.model.memory import Progress

#: Numbers that one batch of fits works on, per tensor.
BLOCK = 2**21
#: Largest motion of one step: growth and shrinking by this factor, a turn by these radians, a shift by half a kernel.
LARGEST_SCALE, LARGEST_TURN = 2.0, math.pi / 2
#: Scales and turns that the search begins from; every shift of the grid is tried with each pair of them.
SCALES, TURNS = (0.8, 1.0, 1.25), (-0.8, -0.4, 0.0, 0.4, 0.8)
#: Power of a pixel's coverage, the share of its source that lies inside the slice, by which the pixel is weighted.
POWER = 8
#: Least share of the pixels, by weight, that a fit compares; one that ends within `MARGIN` of it is not identified.
LEAST_COVERED, MARGIN = 0.3, 0.02
#: Numbers that the fit takes out of those compared: five fitted ones, and two for having searched.
FREEDOM = 7
#: Least R² of a motion that counts as identified, corrected for `FREEDOM` and less its standard error.
LEAST_R2 = 0.6
#: Least coverage of a pixel that counts as wholly inside; an identified motion leaves `LEAST_COVERED` of the pixels so.
WHOLE = 0.98
#: Least share of the pattern's energy that must change where it moves by a pixel, whichever way.
LEAST_CHANGE = 0.01
#: Largest standard error of an identified motion, in pixels, in the direction that is known worst.
LARGEST_ERROR = 0.2
#: Motions further apart than this (pixels) are two; where the second explains nearly as much, neither is identified.
APART, NEARLY = 0.5, 0.02
#: Largest share of its energy that a slice that was made by padding with zeros may leave unexplained: the rounding of
#: bfloat16 leaves 3e-6.
EXACT = 1e-4
#: Where padding leaves more than this unexplained at its most promising start, no further one is tried.
HOPELESS = 0.1

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
    #: Whether the slice was found to be made by padding with zeros, as in a folded 3TConv.
    padded: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """P pairs of slices, as sums over channels: all that least squares needs, because resampling is linear.

    With a the slice, b the next one, both scaled to energy 1, and n pixels each.
    """

    height: int
    width: int
    channels: int
    #: Whether zeros lie outside of a slice; otherwise what lies there is unknown.
    padded: bool
    #: P x n x n: sums over channels of a aᵀ.
    own: Tensor
    #: P x n x n: sums over channels of b aᵀ.
    cross: Tensor
    #: P x n: sums over channels of b².
    target: Tensor

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def part(self, which: Tensor, *, padded: bool) -> _Pairs:
        """Some of the pairs, under one of the two hypotheses."""
        own, cross, target = self.own[which], self.cross[which], self.target[which]
        return _Pairs(self.height, self.width, self.channels, padded=padded, own=own, cross=cross, target=target)


@dataclass(frozen=True, slots=True, eq=False)
class _Taps:
    """Where resampling by Q maps reads, and how much the n pixels of the next slice count."""

    #: Q x n x 4: the pixels read for each pixel.
    index: Tensor
    #: Q x n x 4 x 5: their shares, followed by the derivatives by the four parameters. Pixels outside have share 0; the
    #: others add up to 1 where there is no padding.
    shares: Tensor
    #: Q x n: how much of a pixel's source lies inside, to the power of `POWER`.
    weights: Tensor
    #: Q x n: what noise of both slices leaves of a residual, inverted: resampling averages the noise that it reads.
    precision: Tensor
    #: Q x n x 4: its derivatives.
    precision_slopes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Fits on their way: where they are, and what the pairs of slices say there."""

    #: Q x 4: log s, r, and the shift in pixels along x and y.
    at: Tensor
    #: Q: the unexplained share of the energy compared, the best factor at least 0 being taken.
    unexplained: Tensor
    #: Q: that factor.
    gain: Tensor
    #: Q x n: the weights of the pixels.
    weights: Tensor
    #: Q: how many numbers are compared, by weight.
    numbers: Tensor
    #: Q x 4: half the slope of the explained share, the weights being held.
    slope: Tensor
    #: Q x 4 x 4: the Gauss-Newton matrix, the factor projected out.
    curvature: Tensor

    @property
    def loss(self) -> Tensor:
        """Q: the unexplained share, corrected for the numbers that the fit takes out."""
        return self.unexplained * _correction(self.numbers)


def fit(slices: Tensor, progress: Progress | None = None) -> Fit:
    """Find the similarity map from each slice to the next that explains it best, all input channels together.

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
    target = after.square().sum(dim=2)
    pairs = _Pairs(
        height, width, channels, padded=False, own=before @ before.mT, cross=after @ before.mT, target=target
    )
    every = torch.arange(len(before), device=before.device)
    still, _ = _state(pairs, before.new_zeros(len(before), 4), every)
    found, identified = _search(pairs)
    found, identified, padded = _try_padding(pairs, found, identified)
    ratio = (energy[1:] / energy[:-1].clamp_min(torch.finfo(flat.dtype).tiny)).sqrt()
    alive = (energy[:-1] > 0) & (energy[1:] > 0)
    steps = (depth - 1, filters)
    at = torch.where(alive.flatten().unsqueeze(1), found.at, 0.0)
    return Fit(
        scale=at[:, 0].exp().reshape(steps),
        rotation=at[:, 1].reshape(steps),
        translate_x=at[:, 2].reshape(steps) * 2 / (width - 1),
        translate_y=at[:, 3].reshape(steps) * 2 / (height - 1),
        gain=torch.where(alive, found.gain.reshape(steps) * ratio, 0.0),
        r2=torch.where(alive, 1 - found.unexplained.reshape(steps), 0.0),
        r2_still=torch.where(alive, 1 - still.unexplained.reshape(steps), 0.0),
        identified=identified.reshape(steps) & alive,
        padded=padded.reshape(steps) & alive,
    )


def _try_padding(pairs: _Pairs, found: _State, identified: Tensor) -> tuple[_State, Tensor, Tensor]:
    """Take zeros outside for those pairs that they explain exactly, and better.

    One descent from the most promising start sorts out the pairs for which there is no hope.

    Args:
        pairs: All pairs.
        found: The fits without padding.
        identified: Whether those are identified (P).

    Returns:
        The fits, whether they are identified, and whether they are padded.
    """
    every = torch.arange(len(found.at), device=found.at.device)
    whole = pairs.part(every, padded=True)
    starts = torch.cat([found.at.unsqueeze(1), _starts(whole)], dim=1)
    best = starts[every, _tried(whole, starts).argmin(dim=1)]
    hopeful = (_descend(whole, best, every).loss < HOPELESS).nonzero()[:, 0]
    padded = torch.zeros_like(identified)
    if not len(hopeful):
        return found, identified, padded
    inside, told = _search(pairs.part(hopeful, padded=True))
    exact = (inside.loss <= EXACT) & (inside.loss <= found.loss[hopeful])
    chosen = hopeful[exact]
    found, identified = _put(found, chosen, _pick(inside, exact)), identified.clone()
    identified[chosen], padded[chosen] = told[exact], True
    return found, identified, padded


def _search(pairs: _Pairs) -> tuple[_State, Tensor]:
    """The best map of each pair, and whether it is identified."""
    starts = _starts(pairs)
    count, each = starts.shape[:2]
    pair = torch.arange(count, device=starts.device)
    state = _descend(pairs, starts.flatten(0, 1), pair.repeat_interleave(each))
    loss = state.loss.reshape(count, each)
    arrived = _hop(pairs, _pick(state, pair * each + loss.argmin(dim=1)))
    # starts count, too: of round patterns all turns explain nearly the same, and every start comes to one end
    others = torch.cat([state.at.reshape(count, each, 4), starts], dim=1)
    apart = _distance(pairs, arrived.at.unsqueeze(1) - others) > APART
    near = torch.cat([loss, _tried(pairs, starts)], dim=1) < arrived.loss.unsqueeze(1) + NEARLY
    return arrived, ~(apart & near).any(dim=1) & _is_determined(pairs, arrived)


def _tried(pairs: _Pairs, maps: Tensor) -> Tensor:
    """`_State.loss` of some maps (P x S x 4) of each pair: P x S."""
    count, each = maps.shape[:2]
    pair = torch.arange(count, device=maps.device).repeat_interleave(each)
    return _state(pairs, maps.flatten(0, 1), pair)[0].loss.reshape(count, each)


def _is_determined(pairs: _Pairs, state: _State) -> Tensor:
    """Whether a fit explains enough, inside the bounds, and knows every direction of motion well enough.

    The standard error of an R² over N numbers is 2 (1 - R²) (R² / N)^½: unrelated slices reach 0.7 over ten numbers.
    """
    unit = _pixels(pairs, state.at)
    curvature = state.curvature / (unit.unsqueeze(0) * unit.unsqueeze(1))
    least: Tensor = torch.linalg.eigvalsh(curvature)[:, 0].clamp_min(0)
    error = (state.loss / state.numbers / least.clamp_min(1e-300)).sqrt()
    r2 = 1 - state.loss
    explained = r2 - 2 * state.loss * (r2.clamp_min(0) / state.numbers).sqrt() >= LEAST_R2
    known = (least >= LEAST_CHANGE * (1 - state.unexplained)) & (error <= LARGEST_ERROR)
    inside = (state.at.abs() < _bounds(pairs, state.at) * (1 - 1e-9)).all(dim=1)
    share = state.numbers / (pairs.pixels * pairs.channels)
    whole = (state.weights >= WHOLE**POWER).double().mean(dim=1)
    compared = (share >= LEAST_COVERED + MARGIN) & (whole >= LEAST_COVERED) & (state.numbers > FREEDOM + 1)
    return explained & known & inside & compared


def _starts(pairs: _Pairs) -> Tensor:
    """The maps to begin from: standing still, and the best of a grid for each of its turns; P x starts x 4.

    The resampling matrices of the grid are the same for all pairs, so that trying it is one matrix product.
    """
    own = pairs.own
    starts = [own.new_zeros(len(own), 1, 4)]
    for maps in _grid(pairs):
        least = own.new_full((len(own),), torch.inf)
        chosen = torch.zeros(len(own), dtype=torch.long, device=own.device)
        size = max(1, BLOCK // max(pairs.pixels**2, len(own)))
        for first in range(0, len(maps), size):
            losses, found = _losses(pairs, maps[first : first + size]).min(dim=0)
            chosen = torch.where(losses < least, found + first, chosen)
            least = torch.minimum(losses, least)
        starts.append(maps[chosen].unsqueeze(1))
    return torch.cat(starts, dim=1)


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


def _losses(pairs: _Pairs, maps: Tensor) -> Tensor:
    """`_State.loss` of G maps (G x 4) for all pairs: G x P; infinite where they leave too little to compare."""
    taps = _taps(pairs, maps)
    root = (taps.weights * taps.precision).sqrt().unsqueeze(2)
    moved = root.new_zeros(len(maps), pairs.pixels, pairs.pixels).scatter_add_(2, taps.index, taps.shares[..., 0])
    moved = root * moved
    agreement = (root * moved).flatten(1) @ pairs.cross.flatten(1).T
    energy = (moved.mT @ moved).flatten(1) @ pairs.own.flatten(1).T
    target = root.squeeze(2).square() @ pairs.target.T
    unexplained, _ = _unexplained(agreement, energy, target, taps.weights @ pairs.target.T)
    numbers = taps.weights.sum(dim=1) * pairs.channels
    enough = (numbers >= LEAST_COVERED * pairs.pixels * pairs.channels).unsqueeze(1)
    return torch.where(enough, unexplained * _correction(numbers).unsqueeze(1), torch.inf)


def _unexplained(agreement: Tensor, energy: Tensor, target: Tensor, compared: Tensor) -> tuple[Tensor, Tensor]:
    """The residual that the best factor of at least 0 leaves, as a share of the energy compared; and that factor.

    Residuals are taken by their precision, the energy compared is not: it must not matter how a map averages noise.
    """
    gain = agreement.clamp_min(0) / energy.clamp_min(1e-12)
    return (target - gain * agreement).clamp_min(0) / compared.clamp_min(1e-12), gain


def _correction(numbers: Tensor) -> Tensor:
    """What an unexplained share is multiplied by for the `FREEDOM` of a fit to so many numbers.

    It is N / (N - FREEDOM), and goes on falling with N where this would not.
    """
    enough = numbers > FREEDOM + 1
    return torch.where(enough, numbers / (numbers - FREEDOM).clamp_min(1), (FREEDOM + 1) ** 2 / numbers.clamp_min(1e-6))


def _taps(pairs: _Pairs, maps: Tensor) -> _Taps:
    """Bilinear resampling by maps (Q x 4, as `_State.at`)."""
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
    shares = torch.stack([(1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right], dim=-1)
    slopes = by_u.unsqueeze(-1) * du.unsqueeze(2) + by_v.unsqueeze(-1) * dv.unsqueeze(2)
    shares = torch.where(inside.unsqueeze(-1), torch.cat([shares.unsqueeze(-1), slopes], dim=-1), 0.0)
    index = torch.where(inside, rows * width + columns, 0.0).long()
    if pairs.padded:
        return _Taps(index, shares, torch.ones_like(u), torch.ones_like(u), torch.zeros_like(du))
    covered = shares.sum(dim=2, keepdim=True)
    coverage = covered[..., :1].clamp_min(1e-6)
    shares = shares / coverage
    shares[..., 1:] -= shares[..., :1] * covered[..., 1:] / coverage
    precision = 2 / (1 + shares[..., 0].square().sum(dim=2))
    change = (shares[..., :1] * shares[..., 1:]).sum(dim=2)
    slopes = -change * precision.square().unsqueeze(-1)
    return _Taps(index, shares, covered[:, :, 0, 0] ** POWER, precision, slopes)


def _state(pairs: _Pairs, at: Tensor, pair: Tensor, held: Tensor | None = None) -> tuple[_State, Tensor]:
    """What the pairs of slices numbered `pair` (Q) say of the maps `at` (Q x 4).

    Returns:
        That, and the unexplained share (Q) by the weights `held` (Q x n), or by the maps' own; infinite where the maps
        leave too little to compare.
    """
    taps = _taps(pairs, at)
    index, shares, pixels = taps.index, taps.shares, pairs.pixels
    start = (pair * pixels * pixels).reshape(-1, 1, 1)
    row = torch.arange(pixels, device=at.device).reshape(1, -1, 1) * pixels
    read = pairs.cross.take(start + row + index)
    block = pairs.own.take(start.unsqueeze(-1) + index.unsqueeze(-1) * pixels + index.unsqueeze(-2))
    mixed = block @ shares
    # of each pixel: its square in the next slice, its product with the moved slice, and the square in the moved slice
    after, both = pairs.target[pair], (read * shares[..., 0]).sum(dim=2)
    square = (shares[..., 0] * mixed[..., 0]).sum(dim=2)

    def judged(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        balanced = weights * taps.precision
        agreement, energy, target = ((balanced * one).sum(dim=1) for one in (both, square, after))
        return *_unexplained(agreement, energy, target, (weights * after).sum(dim=1)), energy.clamp_min(1e-12)

    unexplained, gain, energy = judged(taps.weights)
    weighted = ((taps.weights * taps.precision)[..., None, None] * shares).flatten(1, 2)
    products = weighted[..., 1:].mT @ mixed.flatten(1, 2)  # of the slopes of the moved slice, with it and each other
    agreement = (read.flatten(1).unsqueeze(1) @ weighted[..., 1:]).squeeze(1)  # with the next slice
    factor = gain.unsqueeze(1)
    slope = factor * (agreement - factor * products[..., 0])
    curvature = products[..., 1:] - products[..., :1] * products[..., :1].mT / energy[:, None, None]
    residual = after - 2 * factor * both + factor.square() * square
    slope = slope - ((taps.weights * residual).unsqueeze(1) @ taps.precision_slopes).squeeze(1) / 2
    compared = (taps.weights * after).sum(dim=1).clamp_min(1e-12)
    numbers = taps.weights.sum(dim=1) * pairs.channels
    state = _State(
        at=at,
        unexplained=unexplained,
        gain=gain,
        weights=taps.weights,
        numbers=numbers,
        slope=slope / compared.unsqueeze(1),
        curvature=(gain.square() / compared)[:, None, None] * curvature,
    )
    tried = unexplained if held is None else judged(held)[0]
    return state, torch.where(numbers < LEAST_COVERED * pixels * pairs.channels, torch.inf, tried)


def _descend(pairs: _Pairs, at: Tensor, pair: Tensor) -> _State:
    """Levenberg-Marquardt from each start; a fit that has arrived is left out of the further work.

    A step is judged by the weights at its beginning: it must not gain by what it leaves out.
    """
    final, _ = _state(pairs, at, pair)
    bounds = _bounds(pairs, at)
    active = torch.arange(len(at), device=at.device)
    now, damping = final, torch.full_like(final.gain, 1e-3)
    for _ in range(_ITERATIONS):
        diagonal = now.curvature.diagonal(dim1=1, dim2=2)
        floor = 1e-6 * diagonal.mean(dim=1, keepdim=True) + 1e-12
        matrix = now.curvature + torch.diag_embed(damping.unsqueeze(1) * (diagonal + floor) + 1e-3 * floor)
        step = torch.linalg.solve(matrix, now.slope)
        wanted = (now.at + step).clamp(-bounds, bounds)
        moved = _distance(pairs, wanted - now.at)
        then, tried = _state(pairs, wanted, pair[active], now.weights)
        better = tried < now.unexplained
        now = _merge(better, then, now)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-9, 1e9)
        final = _put(final, active, now)
        going = (moved > 1e-7) & (damping < 1e8)
        if not bool(going.any()):
            break
        active, now, damping = active[going], _pick(now, going), damping[going]
    return final


def _hop(pairs: _Pairs, state: _State) -> _State:
    """The best end of descents that begin a little beside each fit, both ways along each parameter.

    Bilinear resampling bends where a point crosses a pixel: there the loss has small valleys beside the deepest one.
    """
    count = len(state.at)
    ways = torch.diag(HOP / _pixels(pairs, state.at))
    starts = (state.at.unsqueeze(1) + torch.cat([ways, -ways])).flatten(0, 1)
    every = torch.arange(count, device=starts.device)
    ends = _descend(pairs, starts, every.repeat_interleave(8))
    found = _pick(ends, every * 8 + ends.loss.reshape(count, 8).argmin(dim=1))
    return _merge(found.loss < state.loss - 1e-12, found, state)  # more than rounding


def _merge(condition: Tensor, first: _State, second: _State) -> _State:
    """`first` where the condition holds, else `second`."""
    pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(_State)]
    return _State(*(torch.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def _pick(state: _State, which: Tensor) -> _State:
    return _State(*(getattr(state, field.name)[which] for field in fields(_State)))


def _put(state: _State, where: Tensor, part: _State) -> _State:
    """`state` with some fits replaced, in place."""
    for field in fields(_State):
        getattr(state, field.name)[where] = getattr(part, field.name)
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

"""Parametrizations of a clip (pixels, Fourier coefficients in two and three dimensions) and their color spaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explain.model.layouts import exact
from zoo.errors import UnknownNameError

#: Channels, frames, rows, columns.
Shape = tuple[int, int, int, int]

#: Spread of the first values, before the sigmoid that makes display values of them: clips begin as almost even grey.
SPREAD = 0.01

#: Clips to begin from are held off pure black and white by so much: there, a sigmoid passes no gradient.
EDGE = 0.02

#: Size of `fourier3d`'s signal, as lucid has it: with more of it, the sigmoid is soon driven to pure black and white.
GAIN = 0.25

#: Power of the frequency by which amplitudes fall where there is time; 1 in images.
FALL_IN_FILMS = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Parametrization:
    """Numbers to optimise, and the clips they stand for."""

    #: U x ..., a leaf: sample u's numbers decide sample u's clip alone.
    values: Tensor
    #: values -> U x C x T x H x W, in the display range [0, 1].
    render: Callable[[Tensor], Tensor]
    #: The inverse, of clips away from pure black and white.
    values_of: Callable[[Tensor], Tensor]

    def begin(self, clips: Tensor) -> None:
        """Let every clip begin as C x T x H x W display values, or as near to them as can be rendered."""
        with torch.no_grad():
            self.values.copy_(self.values_of(clips.to(self.values)[None].clamp(EDGE, 1 - EDGE)).expand_as(self.values))

    def clips(self) -> Tensor:
        """The clips as they are now, U x C x T x H x W in [0, 1]."""
        return self.render(self.values)


def pixel(shape: Shape, seeds: Sequence[int], like: Tensor, *, colour: bool = False) -> Parametrization:
    """One number for each pixel of each frame, through a sigmoid. Tends to high-frequency patterns.

    Args:
        shape: Channels, frames, rows, columns.
        seeds: One seed for each clip; drawn on the CPU, so that every device begins alike.
        like: Device and dtype; of 16 bits, 32 are taken.
        colour: Mix the three channels as in real pictures (`explain.maximization.parametrizations`).
    """
    return Parametrization(
        _draw(shape, seeds, like),
        lambda values: _displayed(values, colour=colour),
        lambda clips: _signal(clips, colour=colour),
    )


def fourier3d(shape: Shape, seeds: Sequence[int], like: Tensor, *, colour: bool = False) -> Parametrization:
    """The spectrum over time, rows and columns, scaled as in natural films, through a sigmoid.

    The same step then moves all scales alike, where `pixel` moves the finest (Olah, Mordvintsev & Schubert, Feature
    Visualization, Distill 2017, "Preconditioning and Parameterization", with a third axis for time). Amplitudes fall
    as 1 / f in images and as 1 / f^1.5 in films, where power falls with about the third power of f (Dong & Atick,
    Network 6, 1995): either way every octave has the same share. A frequency f is in cycles a frame and a pixel; below
    the lowest one that the clip's longest axis holds, the scale no longer grows. The transform is periodic: the clips
    loop.

    Args:
        shape: Channels, frames, rows, columns.
        seeds: One seed for each clip; drawn on the CPU, so that every device begins alike.
        like: Device and dtype; of 16 bits, 32 are taken.
        colour: Mix the three channels as in real pictures (`explain.maximization.parametrizations`).
    """
    channels, *size = shape
    like = exact(like)
    axes = [torch.fft.fftfreq(length, device=like.device, dtype=like.dtype) for length in size[:2]]
    axes.append(torch.fft.rfftfreq(size[2], device=like.device, dtype=like.dtype))
    grid = torch.meshgrid(*axes, indexing="ij")
    frequency = torch.stack([axis.square() for axis in grid]).sum(dim=0).sqrt()
    scale = GAIN / frequency.clamp(min=1.0 / max(size)) ** (FALL_IN_FILMS if size[0] > 1 else 1.0)
    values = _draw((channels, *frequency.shape, 2), seeds, like)

    def render(values: Tensor) -> Tensor:
        spectrum = torch.view_as_complex(values)
        signal = torch.fft.irfftn(spectrum * scale, s=size, dim=(-3, -2, -1), norm="ortho")
        return _displayed(signal, colour=colour)

    def values_of(clips: Tensor) -> Tensor:
        spectrum = torch.fft.rfftn(_signal(clips, colour=colour), s=size, dim=(-3, -2, -1), norm="ortho")
        return torch.view_as_real(spectrum / scale)

    return Parametrization(values, render, values_of)


def fourier2d(shape: Shape, seeds: Sequence[int], like: Tensor, *, colour: bool = False) -> Parametrization:
    """One image, parametrised as a frame of `fourier3d`, shown in every frame of the clip.

    "A single frame is optimized and stacked" (3TConv, arXiv 2006.15983, section 4.3): T times fewer numbers, and a
    pattern without its motion, to be read beside a filter's temporal parameters. What a unit answers to change alone
    with, it cannot show.

    Args:
        shape: Channels, frames, rows, columns.
        seeds: One seed for each clip; drawn on the CPU, so that every device begins alike.
        like: Device and dtype; of 16 bits, 32 are taken.
        colour: Mix the three channels as in real pictures (`explain.maximization.parametrizations`).
    """
    channels, frames, *size = shape
    image = fourier3d((channels, 1, size[0], size[1]), seeds, like, colour=colour)
    # Copies, not a view of one frame: a model may begin with an operation in place.
    return Parametrization(
        image.values,
        lambda values: image.render(values).repeat(1, 1, frames, 1, 1),
        lambda clips: image.values_of(clips.mean(dim=2, keepdim=True)),
    )


#: Parametrisations by name.
PARAMETRIZATIONS: dict[str, Callable[..., Parametrization]] = {
    "fourier3d": fourier3d,
    "fourier2d": fourier2d,
    "pixel": pixel,
}


def find_parametrization(name: str) -> Callable[..., Parametrization]:
    """The parametrisation of that name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in PARAMETRIZATIONS:
        raise UnknownNameError("parametrization", name, PARAMETRIZATIONS)
    return PARAMETRIZATIONS[name]


def _displayed(signal: Tensor, *, colour: bool) -> Tensor:
    """Any numbers as display values."""
    return torch.sigmoid(correlated(signal) if colour else signal)


def _signal(clips: Tensor, *, colour: bool) -> Tensor:
    """The inverse of `_displayed`."""
    signal = clips.logit()
    return independent(signal) if colour else signal


def _draw(shape: Sequence[int], seeds: Sequence[int], like: Tensor) -> Tensor:
    """One normal draw for each seed: a clip begins alike alone and among others. Adam's steps need 32 bits."""
    draws = [torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return (SPREAD * torch.stack(draws)).to(exact(like)).requires_grad_()


#: `measure` on 24 photographs and 24 videos, 8 frames of each (`benchmarks/colours.py`): rows red, green and blue,
#: columns the axes of greatest spread, which read grey, yellow-blue and green-magenta.
AXES = (
    (0.5745, 0.1958, 0.0615),
    (0.5840, -0.0101, -0.1311),
    (0.5735, -0.1859, 0.0719),
)


def measure(pictures: Iterable[Tensor]) -> Tensor:
    """The matrix that gives independent numbers of spread 1 the colour statistics of pictures.

    It is A S, with A the orthonormal eigenvectors of the covariance of red, green and blue over all pixels and S the
    square roots of its eigenvalues, largest first, divided by the largest of them. Each picture counts the same.

    Args:
        pictures: RGB frames, uint8, T x H x W x 3 each.

    Returns:
        3 x 3, float64: rows red, green and blue; the first row is positive.
    """
    means, squares = [], []
    for frames in pictures:
        pixels = frames.reshape(-1, 3).double() / 255
        means.append(pixels.mean(dim=0))
        squares.append(pixels.T @ pixels / len(pixels))
    mean = torch.stack(means).mean(dim=0)
    spread, axes = torch.linalg.eigh(torch.stack(squares).mean(dim=0) - torch.outer(mean, mean))
    axes = (axes * spread.clamp_min(0).sqrt()).flip(1) / spread[-1].sqrt()
    signed: Tensor = axes * torch.where(axes[0] < 0, -1.0, 1.0)
    return signed


def independent(signal: Tensor) -> Tensor:
    """The inverse of `correlated`."""
    axes = torch.tensor(AXES, dtype=signal.dtype, device=signal.device)
    found: Tensor = (signal.transpose(1, 4) @ torch.linalg.inv(axes).T).transpose(1, 4)
    return found


def correlated(signal: Tensor) -> Tensor:
    """Independent numbers, U x 3 x T x H x W, as red, green and blue that vary together as in real pictures."""
    axes = torch.tensor(AXES, dtype=signal.dtype, device=signal.device)
    return (signal.transpose(1, 4) @ axes.T).transpose(1, 4)

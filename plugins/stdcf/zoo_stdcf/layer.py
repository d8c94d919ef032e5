"""STDCF: 3D convolutions whose kernels are combinations of a few spatial and a few temporal atoms.

Miao, Wang, Cheng, Qiu: Spatiotemporal Joint Filter Decomposition in 3D Convolutional Neural Networks, NeurIPS 2021.
Equation 1: the kernel from channel c to channel o is W[o, c](t, u) = Σ_ij alpha[o, c, i, j] φ_j(t) ψ_i(u), where all
pairs of channels share the M atoms ψ in space and the N atoms φ in time.
"""

from __future__ import annotations

import copy
import math
from typing import Final, Literal, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ClipError, UsageError

Size = int | tuple[int, int, int]
Way = Literal["dense", "atoms"]

#: Cost of writing one number between two steps and reading it again, in multiply-adds of a dense convolution: on a
#: CPU 2 ns forward and more backward, beside 0.008 ns. `benchmarks/stdcf.py` measures the effect.
TRAFFIC: Final = 384


class Stdcf(nn.Module):
    """Atoms, coefficients and sizes shared by both directions.

    Parameters: `psi` M x k x k and `phi` N x k_t, at first random atoms of norm 1, orthogonal to each other
    (smaller ones where there are more atoms than an atom has elements); `alpha` C_out x C_in x M x N, drawn from
    N(0, 1 / (C_in M N)), times the strides where those spread an input over several outputs. That makes
    C_out C_in M N + M k² + N k_t, and C_out with a bias.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: (k_t, k, k), or k for all three; odd.
        spatial_atoms: M.
        temporal_atoms: N.
        stride: Of all axes, or (T, H, W).
        padding: Zeros on both sides, of all axes or (T, H, W); in time multiplied by `tempo`.
        tempo: Dilation of the atoms in time (τ), so that the layer reads every `tempo`-th frame.
        bias: Whether to add a bias to each output channel.
        way: "dense" convolves with `kernel()`, "atoms" convolves channel by channel with ψ, then φ, and combines with
            `alpha`; None selects the cheaper one for the input at hand (`cost`).

    Raises:
        UsageError: for no atoms, even or unequal sides of a kernel, or a size that is not a positive integer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        spatial_atoms: int,
        temporal_atoms: int,
        stride: Size = 1,
        padding: Size = 0,
        tempo: int = 1,
        bias: bool = False,
        way: Way | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = _triple(kernel_size, "kernel_size")
        self.stride = _triple(stride, "stride")
        self.padding = _triple(padding, "padding")
        length, k, width = self.kernel_size
        if not all(_is_count(size) for size in (in_channels, out_channels, length, k, *self.stride, tempo)) or any(
            size < 0 for size in self.padding
        ):
            raise UsageError(
                f"channels {in_channels} -> {out_channels}, kernel_size {self.kernel_size}, stride {self.stride} and "
                f"tempo {tempo} of an STDCF layer are positive whole numbers, padding {self.padding} is not negative"
            )
        if k != width or length % 2 == 0 or k % 2 == 0:
            raise UsageError(
                f"kernel_size {self.kernel_size} of an STDCF layer: expected odd sizes (k_t, k, k), such as (3, 3, 3)"
            )
        if not (_is_count(spatial_atoms) and _is_count(temporal_atoms)):
            raise UsageError(
                f"an STDCF layer with {spatial_atoms} spatial atoms (M) and {temporal_atoms} temporal atoms (N): "
                "both are at least 1"
            )
        if way not in (None, "dense", "atoms"):
            raise UsageError(f'way {way!r} of an STDCF layer: expected "dense", "atoms" or None')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.tempo = tempo
        self.way = way
        self.psi = nn.Parameter(torch.empty(spatial_atoms, k, k))
        self.phi = nn.Parameter(torch.empty(temporal_atoms, length))
        self.alpha = nn.Parameter(torch.empty(out_channels, in_channels, spatial_atoms, temporal_atoms))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        for atoms in (self.psi, self.phi):
            nn.init.orthogonal_(atoms)
        nn.init.normal_(self.alpha, std=math.sqrt(self._spread() / (in_channels * spatial_atoms * temporal_atoms)))

    def _spread(self) -> int:
        return 1

    def kernel(self) -> Tensor:
        """Compute equation 1: C_out x C_in x k_t x k x k, the weight of the equivalent ordinary convolution."""
        pairs = self.psi[:, None, None] * self.phi[None, :, :, None, None]
        kernel: Tensor = self.alpha.flatten(2) @ pairs.flatten(2).flatten(0, 1)
        return kernel.view(self.out_channels, self.in_channels, *self.kernel_size)

    def with_tempo(self, tempo: int) -> Self:
        """Return a copy, with parameters of its own, whose atoms are dilated in time by `tempo` (1: not at all).

        Raises:
            UsageError: if `tempo` is not a positive whole number.
        """
        return with_tempo(self, tempo)

    def _now(self, x: Tensor) -> Way:
        """Return the cheaper way for N x C_in x T x H x W."""
        if self.way is not None:
            return self.way
        costs = self.cost(x.shape)
        return "atoms" if costs["atoms"] < costs["dense"] else "dense"

    def cost(self, shape: tuple[int, ...] | torch.Size) -> dict[Way, int]:
        """Estimate the cost of each way for an input of this shape, N x C_in x T x H x W, in multiply-adds.

        A number passed between steps counts as `TRAFFIC` of them; products with few terms are memory-bound.
        """
        raise NotImplementedError

    def _check(self, x: Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != self.in_channels:
            raise ClipError(
                f"an STDCF layer of {self.in_channels} channels was given {tuple(x.shape)}; "
                f"expected N x {self.in_channels} x T x H x W"
            )

    def _costs(self, dense: int, products: int, handed_on: int) -> dict[Way, int]:
        combining = self.alpha.numel() * math.prod(self.kernel_size)
        return {"dense": dense + combining, "atoms": products + TRAFFIC * handed_on}

    @property
    def _time(self) -> tuple[int, int]:
        """Return padding and dilation in time."""
        return self.padding[0] * self.tempo, self.tempo

    def extra_repr(self) -> str:
        """Return channels and sizes, for `print`."""
        tempo = f", tempo={self.tempo}" if self.tempo != 1 else ""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, M={len(self.psi)}, "
            f"N={len(self.phi)}, stride={self.stride}, padding={self.padding}{tempo}"
        )


class StdcfConv3d(Stdcf):
    """A 3D convolution with a kernel of atoms: N x C_in x T x H x W to N x C_out x T' x H' x W'.

    Equals `nn.Conv3d` with the weight `kernel()`; sizes, parameters and errors are those of `Stdcf`.
    """

    def cost(self, shape: tuple[int, ...] | torch.Size) -> dict[Way, int]:
        """Estimate the costs as in `Stdcf.cost`."""
        clips, frames = shape[0], shape[2]
        length, k, _ = self.kernel_size
        padding, tempo = self._time
        rows, columns = ((shape[axis + 2] + 2 * self.padding[axis] - k) // self.stride[axis] + 1 for axis in (1, 2))
        frames_out = (frames + 2 * padding - tempo * (length - 1) - 1) // self.stride[0] + 1
        between, out = clips * frames * rows * columns, clips * frames_out * rows * columns
        after_psi = self.in_channels * len(self.psi) * between
        after_phi = self.in_channels * len(self.psi) * len(self.phi) * out
        return self._costs(
            self.out_channels * self.in_channels * length * k * k * out,
            k * k * after_psi + length * after_phi + self.out_channels * after_phi,
            after_psi + after_phi,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Raises:
            ClipError: for fewer frames than the stride in time or the atoms span, and for other axes or channels.
        """
        self._check(x)
        padding, tempo = self._time
        span = tempo * (self.kernel_size[0] - 1) + 1 - 2 * padding
        if x.shape[2] < max(self.stride[0], span):
            raise ClipError(
                f"a clip of {x.shape[2]} frames is too short for an STDCF layer of stride {self.stride[0]} in time "
                f"and kernel {self.kernel_size} at tempo {tempo}; expected {max(self.stride[0], span)} or more"
            )
        _, down, right = self.stride
        _, rows, columns = self.padding
        if self._now(x) == "dense":
            weight, around = self.kernel(), (padding, rows, columns)
            return F.conv3d(x, weight, self.bias, self.stride, around, (tempo, 1, 1))
        c, m = self.in_channels, len(self.psi)
        y = F.conv3d(
            x, self.psi[:, None, None].repeat(c, 1, 1, 1, 1), None, (1, down, right), (0, rows, columns), groups=c
        )
        in_time = self.phi[:, None, :, None, None].repeat(c * m, 1, 1, 1, 1)
        y = F.conv3d(y, in_time, None, (self.stride[0], 1, 1), (padding, 0, 0), (tempo, 1, 1), groups=c * m)
        return F.conv3d(y, self.alpha.flatten(1)[:, :, None, None, None], self.bias)


class StdcfConvTranspose3d(Stdcf):
    """The transposed form: the map from outputs back to inputs that a strided convolution has.

    Equals `nn.ConvTranspose3d` with the weight `kernel().transpose(0, 1)`: N x C_in x T x H x W becomes
    N x C_out x T' x H' x W' with T' = (T - 1) stride - 2 padding + k_t + output_padding. Its steps go the other way
    round: `alpha`, then φ, then ψ. Sizes, parameters and errors are those of `Stdcf`, and `output_padding`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        spatial_atoms: int,
        temporal_atoms: int,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        tempo: int = 1,
        bias: bool = False,
        way: Way | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            spatial_atoms=spatial_atoms,
            temporal_atoms=temporal_atoms,
            stride=stride,
            padding=padding,
            tempo=tempo,
            bias=bias,
            way=way,
        )
        self.output_padding = _triple(output_padding, "output_padding")
        if any(not 0 <= more < max(stride, 1) for more, stride in zip(self.output_padding, self.stride, strict=True)):
            raise UsageError(f"output_padding {self.output_padding}: expected 0 or more, below stride {self.stride}")

    def _spread(self) -> int:
        return math.prod(self.stride)

    def cost(self, shape: tuple[int, ...] | torch.Size) -> dict[Way, int]:
        """Estimate the costs as in `Stdcf.cost`."""
        clips, frames, rows, columns = shape[0], *shape[2:]
        length, k, _ = self.kernel_size
        padding, tempo = self._time
        frames_out = (frames - 1) * self.stride[0] - 2 * padding + tempo * (length - 1) + 1 + self.output_padding[0]
        before, between = clips * frames * rows * columns, clips * frames_out * rows * columns
        after_alpha = self.out_channels * len(self.psi) * len(self.phi) * before
        after_phi = self.out_channels * len(self.psi) * between
        return self._costs(
            self.out_channels * self.in_channels * length * k * k * before,
            self.in_channels * after_alpha + length * after_alpha + k * k * after_phi,
            after_alpha + after_phi,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, transposed.

        Raises:
            ClipError: if the input has not these axes and channels.
        """
        self._check(x)
        padding, tempo = self._time
        _, down, right = self.stride
        _, rows, columns = self.padding
        later, below, beside = self.output_padding
        if self._now(x) == "dense":
            weight, around = self.kernel().transpose(0, 1), (padding, rows, columns)
            return F.conv_transpose3d(x, weight, self.bias, self.stride, around, self.output_padding, 1, (tempo, 1, 1))
        o, m = self.out_channels, len(self.psi)
        mixing = self.alpha.permute(0, 2, 3, 1).flatten(0, 2)
        y = F.conv3d(x, mixing[:, :, None, None, None])
        in_time = self.phi[:, None, :, None, None].repeat(o * m, 1, 1, 1, 1)
        y = F.conv_transpose3d(
            y, in_time, None, (self.stride[0], 1, 1), (padding, 0, 0), (later, 0, 0), o * m, (tempo, 1, 1)
        )
        in_space = self.psi[:, None, None].repeat(o, 1, 1, 1, 1)
        y = F.conv_transpose3d(y, in_space, None, (1, down, right), (0, rows, columns), (0, below, beside), o)
        return y if self.bias is None else y + self.bias[:, None, None, None]


_Module = TypeVar("_Module", bound=nn.Module)


def with_tempo(module: _Module, tempo: int) -> _Module:
    """Return a copy of a network, or of a layer, in which every STDCF layer reads every `tempo`-th frame (dilation τ).

    Nothing is retrained, and clips keep their lengths if padding is half of the kernel. Weights trained on
    clips at one speed find their patterns in clips that play `tempo` times as slowly.

    Raises:
        UsageError: if `tempo` is not a positive whole number, or there is no STDCF layer.
    """
    if not _is_count(tempo):
        raise UsageError(f"tempo {tempo!r}: expected a positive whole number, 1 for the frames as they follow")
    changed = copy.deepcopy(module)
    layers = [part for part in changed.modules() if isinstance(part, Stdcf)]
    if not layers:
        raise UsageError(f"{type(module).__name__} has no STDCF layer whose tempo could be changed")
    for layer in layers:
        layer.tempo = tempo
    return changed


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _triple(size: Size, name: str) -> tuple[int, int, int]:
    if isinstance(size, int):
        return size, size, size
    if not (isinstance(size, tuple | list) and len(size) == 3 and all(isinstance(extent, int) for extent in size)):
        raise UsageError(f"{name} {size!r} of an STDCF layer: expected one whole number, or three: (T, H, W)")
    return size[0], size[1], size[2]

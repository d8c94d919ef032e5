"""The depthwise short-time Fourier layer of Kumawat et al., arXiv 2007.11365, section 3.1.

Around every position x of a clip, equation 2 takes F(v, x) = sum over y of f(y) exp(-j 2 pi v.(x - y)), y in a window
of n x n x n, at the K lowest frequencies v without their complex conjugates (figure 3): components -1/n, 0 and 1/n in
the order (T, H, W). Real and imaginary parts are 2 K fixed filters (equation 8), which every channel passes through
(equation 9): 26 where the window extends over all axes, 8 over space, 2 over time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import torch
from torch import Tensor, nn

from zoo.errors import ClipError, UsageError
from zoo_stft import execution

Axes = Literal["thw", "hw", "t"]
Size = int | tuple[int, int, int]

#: The frequencies by axes, in units of 1/n along (T, H, W): those of figure 3 and, over space, of section 3.2.
FREQUENCIES: dict[Axes, tuple[tuple[int, int, int], ...]] = {
    "thw": (
        (1, 0, 0),
        (1, 0, 1),
        (1, 0, -1),
        (0, 1, 0),
        (0, 1, 1),
        (0, 1, -1),
        (1, 1, 0),
        (1, 1, 1),
        (1, 1, -1),
        (1, -1, 0),
        (1, -1, 1),
        (1, -1, -1),
        (0, 0, 1),
    ),
    "hw": ((0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 1, -1)),
    "t": ((1, 0, 0),),
}


def kernel(axes: Axes = "thw", size: int = 3) -> Tensor:
    """Return the fixed filters 2K x n_t x n_h x n_w in float64, for correlation (equations 4 and 8).

    In the order of `FREQUENCIES`, the real part of each before its imaginary part; `size` is n, along all other axes
    it is 1.

    Raises:
        UsageError: if `axes` is unknown, or `size` is even or less than 3.
    """
    extents = _window(axes, size)
    steps = [torch.arange(extent, dtype=torch.float64, device="cpu") - extent // 2 for extent in extents]
    offsets = torch.cartesian_prod(*steps)  # y - x, rows in the order of a kernel's elements
    frequencies = torch.tensor(FREQUENCIES[axes], dtype=torch.float64, device="cpu")
    phases = 2 * torch.pi / size * offsets @ frequencies.T
    return torch.stack((phases.cos(), phases.sin()), dim=-1).flatten(1).T.reshape(-1, *extents)


def check_size(size: int) -> None:
    """Raise UsageError where a window's size n is even, less than 3 or no whole number."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 3 or size % 2 == 0:
        raise UsageError(f"kernel_size {size!r}: expected an odd whole number of at least 3")


def _window(axes: Axes, size: int) -> tuple[int, int, int]:
    if axes not in FREQUENCIES:
        raise UsageError(f"axes {axes!r}: expected one of {', '.join(map(repr, FREQUENCIES))}")
    check_size(size)
    depth, height, width = (size if axis in axes else 1 for axis in "thw")
    return depth, height, width


class ShortTimeFourier3d(nn.Module):
    """A depthwise convolution with fixed Fourier filters, padded to keep its size; it has no parameters.

    Input N x C x T x H x W, output N x 2KC x T' x H' x W' with T' = ceil(T / stride): the 2K filters of `kernel` of
    channel 0, then those of channel 1, and so on. K is 13 for axes "thw", 4 for "hw", 1 for "t". All filters sum to 0.

    The buffer `weight`, 2KC x 1 x n_t x n_h x n_w, is not part of the state: it is computed in float64 for every dtype.

    Args:
        channels: C.
        axes: Over which the window extends.
        kernel_size: n, odd; the frequencies are the lowest ones, whatever n.
        stride: Of all axes, or (T, H, W).

    Raises:
        UsageError: if a size is none.
    """

    weight: Tensor

    def __init__(self, channels: int, axes: Axes = "thw", kernel_size: int = 3, stride: Size = 1) -> None:
        super().__init__()
        self.axes: Axes = axes
        self.kernel_size = kernel_size
        self.window = _window(axes, kernel_size)
        self.stride = (stride, stride, stride) if isinstance(stride, int) else stride
        depth, height, width = self.window
        self.padding = depth // 2, height // 2, width // 2
        if not isinstance(channels, int) or channels < 1 or len(self.stride) != 3 or min(self.stride) < 1:
            raise UsageError(
                f"channels {channels} and stride {stride}: expected positive whole numbers, one stride or three"
            )
        self.channels = channels
        self.out_channels = 2 * len(FREQUENCIES[axes]) * channels
        self.register_buffer("weight", torch.empty(0), persistent=False)
        self._compute(torch.get_default_dtype())

    def _compute(self, dtype: torch.dtype) -> None:
        every = kernel(self.axes, self.kernel_size).repeat(self.channels, 1, 1, 1)
        self.weight = every[:, None].to(self.weight.device, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's
        """Apply as in any module; a change of dtype starts from the exact filters, not from rounded ones."""
        before = self.weight
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's own is untyped
        if self.weight.dtype != before.dtype or before.is_meta:
            self._compute(self.weight.dtype)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Transform N x C x T x H x W.

        Raises:
            ClipError: if the input has not these axes and channels, or is shorter or smaller than the stride.
        """
        if x.ndim != 5 or x.shape[1] != self.channels:
            raise ClipError(
                f"a Fourier layer of {self.channels} channels was given {tuple(x.shape)}; "
                f"expected N x {self.channels} x T x H x W"
            )
        frames, *sides = x.shape[2:]
        if any(size < step for size, step in zip(x.shape[2:], self.stride, strict=True)):
            least, *smallest = self.stride
            raise ClipError(
                f"clips of {frames} frames of {' x '.join(map(str, sides))} pixels do not outlast the stride of this "
                f"layer; expected at least {least} frames of {' x '.join(map(str, smallest))}"
            )
        return execution.depthwise(x, self.weight, None, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Return channels and sizes, for `print`."""
        return f"{self.channels}, axes={self.axes!r}, kernel_size={self.kernel_size}, stride={self.stride}"

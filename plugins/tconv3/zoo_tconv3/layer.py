"""The temporally factorised 3D convolution (3TConv) of Ras et al., arXiv 2006.15983.

A filter is one 2D slice and, for every step in time, a scale, a rotation and a translation that make each slice out of
the one before (equations 2 to 5). Coordinates are normalised to [-1, 1], centred, x to the right and y down; the map is
used from output to input, so that scale > 1 shrinks the pattern, rotation > 0 turns it counter-clockwise on the screen,
translate_x > 0 moves it to the left and translate_y > 0 upwards. A translation of t is one of t (k - 1) / 2 pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import UsageError

Size = int | tuple[int, int, int]

#: The temporal parameters by name, and their values at the identity.
IDENTITY = {"scale": 1.0, "rotation": 0.0, "translate_x": 0.0, "translate_y": 0.0}


class TConv3d(nn.Module):
    """A 3D convolution without bias whose kernel is one slice, scaled, turned and moved from step to step.

    Input N x C_in x T x H x W, output N x C_out x T' x H' x W', as `nn.Conv3d` with the kernel of `kernel()`.

    Parameters: `base` C_out x C_in x k x k, the first slice, drawn from N(0, 1); `scale`, `rotation` (radians),
    `translate_x`, `translate_y` (halves of the kernel's width), each (D - 1) x C_out, the identity at first. All input
    channels of a filter share its temporal parameters. That makes C_out C_in k² + 4 (D - 1) C_out.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        kernel_size: k, for D = k, or (D, k, k).
        stride: Of all axes, or (T, H, W).
        padding: Zeros on both sides, of all axes or (T, H, W).

    Raises:
        UsageError: where slices are not square or a size is not positive.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0
    ) -> None:
        super().__init__()
        self.kernel_size = _triple(kernel_size)
        self.stride = _triple(stride)
        self.padding = _triple(padding)
        depth, k, width = self.kernel_size
        if k != width:
            raise UsageError(f"a slice of a 3TConv kernel is square; kernel_size {self.kernel_size} is not (D, k, k)")
        if min(in_channels, out_channels, depth, k, *self.stride) < 1 or min(self.padding) < 0:
            raise UsageError(
                f"channels {in_channels} -> {out_channels}, kernel_size {self.kernel_size} and stride {self.stride} "
                f"are positive, padding {self.padding} is not negative"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.base = nn.Parameter(torch.randn(out_channels, in_channels, k, k))
        for name, value in IDENTITY.items():
            self.register_parameter(name, nn.Parameter(torch.full((depth - 1, out_channels), value)))
        self.scale: nn.Parameter
        self.rotation: nn.Parameter
        self.translate_x: nn.Parameter
        self.translate_y: nn.Parameter

    def temporal_parameters(self) -> dict[str, Tensor]:
        """The four temporal parameters by name, each (D - 1) x C_out, as the layer holds them."""
        return {name: getattr(self, name) for name in IDENTITY}

    def kernel(self) -> Tensor:
        """The kernel, C_out x C_in x D x k x k: the base and its D - 1 resamplings (bilinear, zero padding)."""
        with torch.autocast(self.base.device.type, enabled=False):  # small shifts would be lost in bfloat16
            return kernel(self.base, self.scale, self.rotation, self.translate_x, self.translate_y)

    @torch.no_grad()
    def inflate(self, weight: Tensor) -> None:
        """Take the weight of a 2D convolution, C_out x C_in x k x k, as the first slice, undivided (section 4)."""
        self.base.copy_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve N x C_in x T x H x W."""
        return F.conv3d(x, self.kernel(), stride=self.stride, padding=self.padding)

    def extra_repr(self) -> str:
        """Channels and sizes, for `print`."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}"
        )


def kernel(base: Tensor, scale: Tensor, rotation: Tensor, translate_x: Tensor, translate_y: Tensor) -> Tensor:
    """Kernels from their first slices, C_out x C_in x k x k, and D - 1 steps, each (D - 1) x C_out.

    Resampling is linear in the slice, so every step is a k² x k² matrix for each filter, shared by its input channels.
    """
    out, into, k, _ = base.shape
    columns, rows = _taps(k, scale, rotation, translate_x, translate_y)
    steps = (rows[..., :, None] * columns[..., None, :]).flatten(-2).mT  # D-1 x C_out x k² (from) x k² (to)
    maps = [torch.eye(k * k, dtype=base.dtype, device=base.device).expand(out, -1, -1)]
    for step in steps:
        maps.append(maps[-1] @ step)
    return (base.flatten(2) @ torch.cat(maps, dim=2)).view(out, into, -1, k, k)


def _taps(k: int, scale: Tensor, rotation: Tensor, translate_x: Tensor, translate_y: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear weights of the k columns and of the k rows at every sampled point, each D-1 x C_out x k² x k."""
    centre = (k - 1) / 2
    index = torch.arange(k, dtype=scale.dtype, device=scale.device)
    x = (index - centre).repeat(k) + centre * translate_x[..., None]
    y = (index - centre).repeat_interleave(k) + centre * translate_y[..., None]
    along, across = (scale * rotation.cos())[..., None], (scale * rotation.sin())[..., None]

    def weights(coordinate: Tensor) -> Tensor:
        below = coordinate.detach().floor()
        part = (coordinate - below)[..., None]
        offset = index - below[..., None]
        return (offset == 0) * (1 - part) + (offset == 1) * part

    return weights(along * x - across * y + centre), weights(across * x + along * y + centre)


def _triple(size: Size) -> tuple[int, int, int]:
    return (size, size, size) if isinstance(size, int) else size

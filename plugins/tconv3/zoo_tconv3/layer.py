"""The temporally factorized 3D convolution (3TConv) of Ras et al., arXiv 2006.15983.

A filter is one 2D slice and, for every step in time, a scale, a rotation and a translation that map each slice to
the next (equations 2 to 5). Coordinates are normalized to [-1, 1], centered, x to the right and y down; the map is
used from output to input, so that scale > 1 shrinks the pattern, rotation > 0 turns it counter-clockwise on the screen,
translate_x > 0 moves it to the left and translate_y > 0 upwards. A translation of t is one of t (k - 1) / 2 pixels.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import UsageError
from zoo_tconv3 import resampling

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
        UsageError: if slices are not square, or a size is not positive or no whole number.
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
        #: Parameters at the last call, their storage (so that no others reuse its address), and the resulting kernel.
        self._kept: tuple[list[Any], list[Tensor], Tensor] | None = None

    def temporal_parameters(self) -> dict[str, Tensor]:
        """Return the four temporal parameters by name, each (D - 1) x C_out, as the layer stores them."""
        return {name: getattr(self, name) for name in IDENTITY}

    def kernel(self) -> Tensor:
        """Compute the kernel, C_out x C_in x D x k x k: the base and its D - 1 resamplings (bilinear, zero padding).

        It can be differentiated once. At points on a pixel, as all are initially, the gradient is that from the
        side of the larger coordinate, as in `grid_sample`.
        """
        steps = self.temporal_parameters().values()
        if self.kernel_size[0] == 1:
            return self.base[:, :, None]
        exact = torch.promote_types(self.base.dtype, torch.float32)  # small shifts would be lost in bfloat16
        few = self.in_channels < 4 * self.kernel_size[1] ** 2  # then sampling costs less than k² x k² matrices do
        build = resampling.samples if few else resampling.products
        with torch.autocast(self.base.device.type, enabled=False):
            slices = build(self.base.to(exact), *(step.to(exact) for step in steps))
        return slices.to(self.base.dtype).view(self.out_channels, self.in_channels, *self.kernel_size)

    def fold(self) -> nn.Conv3d:
        """Return an ordinary convolution with this kernel."""
        with torch.no_grad():
            kernel = self.kernel()
        convolution = nn.Conv3d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding, bias=False, device="meta"
        )
        convolution.weight = nn.Parameter(kernel.contiguous(), requires_grad=self.base.requires_grad)
        return convolution.train(self.training)

    @torch.no_grad()
    def inflate(self, weight: Tensor) -> None:
        """Take the weight of a 2D convolution, C_out x C_in x k x k, as the first slice, undivided (section 4).

        Raises:
            UsageError: if the weight has another shape.
        """
        if weight.shape != self.base.shape:  # copying would repeat smaller ones unseen
            raise UsageError(f"the 2D weight is {list(weight.shape)}; expected {list(self.base.shape)}")
        self.base.copy_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve N x C_in x T x H x W."""
        return F.conv3d(x, self._kernel_now(), stride=self.stride, padding=self.padding)

    def _kernel_now(self) -> Tensor:
        """Return the kernel; in eval mode without gradients, it is cached until a parameter changes.

        Writes to `parameter.data` are not counted by torch: they take effect only after `train()`.
        """
        parameters = list(self.parameters())
        asked = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters)
        untold = (
            torch.compiler.is_compiling()
            or torch.compiler.is_exporting()
            or any(parameter.is_inference() for parameter in parameters)
        )
        if self.training or asked or untold:
            return self.kernel()
        state = [(parameter.data_ptr(), parameter._version, parameter.dtype) for parameter in parameters]  # noqa: SLF001
        if self._kept is None or self._kept[0] != state:
            with torch.inference_mode(mode=False), torch.no_grad():
                self._kept = state, [parameter.detach() for parameter in parameters], self.kernel()
        return self._kept[2]

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Set the mode as in any module; the cache is cleared, as training by `.data` changes parameters unseen."""
        if mode:
            self._kept = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies, which build their own kernel."""
        return {**self.__dict__, "_kept": None}

    def extra_repr(self) -> str:
        """Return channels and sizes, for `print`."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}"
        )


def fold(network: nn.Module) -> nn.Module:
    """Return a copy of a network with an ordinary `nn.Conv3d` for every 3TConv, and the same outputs."""
    folded = copy.deepcopy(network)
    if isinstance(folded, TConv3d):
        return folded.fold()
    for module in list(folded.modules()):
        for name, child in module.named_children():
            if isinstance(child, TConv3d):
                setattr(module, name, child.fold())
    return folded


def _triple(size: Size) -> tuple[int, int, int]:
    if isinstance(size, int):
        return size, size, size
    if not (isinstance(size, tuple | list) and len(size) == 3 and all(isinstance(extent, int) for extent in size)):
        raise UsageError(f"{size!r} is no size of a 3TConv; expected one whole number, or three: (T, H, W)")
    return size[0], size[1], size[2]

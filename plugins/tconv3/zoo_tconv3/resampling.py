"""All slices of 3TConv kernels, fast: what `affine_grid` and `grid_sample` give slice by slice, with its gradients.

Points of a slice are complex numbers x + iy in [-1, 1], x to the right and y down, so that scale, rotation and
translation (equation 3) are one product: source = s exp(ir) (p + t). Steps are (D - 1) x C_out throughout.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Interpolation, padding and align_corners, as the sampler of torch takes them.
_BILINEAR, _ZEROS, _CORNERS = 0, 0, True
_sampler_backward = torch.ops.aten.grid_sampler_2d_backward


def products(base: Tensor, scale: Tensor, rotation: Tensor, translate_x: Tensor, translate_y: Tensor) -> Tensor:
    """Compute slices of C_out x C_in x k x k bases by matrix products, C_out x C_in x D x k².

    Bilinear resampling is linear in the slice: each step is a k² x k² matrix for a filter, shared by its input
    channels, and a slice is the product of the steps until then, applied to the base.
    """
    out, into, k, _ = base.shape
    ways: list[Tensor] = []
    for step in _Matrices.apply(scale, rotation, translate_x, translate_y, k):  # type: ignore[no-untyped-call]
        ways.append(ways[-1] @ step if ways else step)
    slices: Tensor = _Ways.apply(base.flatten(2), torch.cat(ways, dim=2))  # type: ignore[no-untyped-call]
    return slices.view(out, into, -1, k * k)


def samples(base: Tensor, scale: Tensor, rotation: Tensor, translate_x: Tensor, translate_y: Tensor) -> Tensor:
    """Compute slices of C_out x C_in x k x k bases, each sampled from the one before, C_out x C_in x D x k²."""
    slices: Tensor = _Samples.apply(base, scale, rotation, translate_x, translate_y)  # type: ignore[no-untyped-call]
    return slices.flatten(3)


def _points(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the k² points of a slice, row by row (complex)."""
    points = _kept_points(k, dtype, device)
    if type(points) is not Tensor:  # torch is tracing: it makes tensors without values, which nothing may keep
        _kept_points.cache_clear()
    return points


@lru_cache(maxsize=32)
def _kept_points(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    line = torch.linspace(-1, 1, k, dtype=dtype) if k > 1 else torch.zeros(1, dtype=dtype)
    return torch.complex(line.repeat(k), line.repeat_interleave(k)).to(device)


def _sources(
    scale: Tensor, rotation: Tensor, translate_x: Tensor, translate_y: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """exp(ir), p + t and the points sampled, complex, the last two D-1 x C_out x k²."""
    turn = torch.polar(torch.ones_like(rotation), rotation)
    moved = _points(k, scale.dtype, scale.device) + torch.complex(translate_x, translate_y)[..., None]
    return turn, moved, (scale * turn)[..., None] * moved


def _gradients(grad: Tensor, scale: Tensor, turn: Tensor, moved: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return gradients of scale, rotation and translation from those of the points sampled (dL/dx + i dL/dy)."""
    of_map = (grad * moved.conj()).sum(-1) * turn.conj()
    of_shift = grad.sum(-1) * turn.conj() * scale
    return of_map.real, of_map.imag * scale, of_shift.real, of_shift.imag


class _Matrices(torch.autograd.Function):
    """The steps as matrices D-1 x C_out x k² (pixels before) x k² (pixels after)."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor, rotation: Tensor, translate_x: Tensor, translate_y: Tensor, k: int) -> Tensor:
        turn, moved, sources = _sources(scale, rotation, translate_x, translate_y, k)
        pixels = (torch.view_as_real(sources) + 1) * ((k - 1) / 2)
        below = pixels.floor()
        offset = torch.arange(k, dtype=scale.dtype, device=scale.device) - below[..., None]
        near, far = (offset == 0).to(scale), (offset == 1).to(scale)
        slope = far - near
        weights = near + (pixels - below)[..., None] * slope  # of the k columns, and of the k rows
        columns, rows = weights.unbind(-2)
        ctx.save_for_backward(scale, turn, moved, columns, rows, slope)
        return (rows[..., :, None] * columns[..., None, :]).flatten(-2).mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale, turn, moved, columns, rows, slope = ctx.saved_tensors
        k = columns.shape[-1]
        grad = grad.mT.reshape(*grad.shape[:-1], k, k)
        of_x = ((rows[..., None, :] @ grad)[..., 0, :] * slope[..., 0, :]).sum(-1)
        of_y = ((grad @ columns[..., None])[..., 0] * slope[..., 1, :]).sum(-1)
        return *_gradients(torch.complex(of_x, of_y) * ((k - 1) / 2), scale, turn, moved), None


class _Ways(torch.autograd.Function):
    """Bases C_out x C_in x k² and, beside them, their products with C_out x k² x (D-1)k²."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, ways: Tensor) -> Tensor:
        ctx.save_for_backward(base, ways)
        return torch.cat((base, base @ ways), dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        base, ways = ctx.saved_tensors
        first, later = grad[..., : base.shape[2]], grad[..., base.shape[2] :]
        of_base = (ways @ later.mT).mT.contiguous()  # in this order the product takes a third of the time
        return of_base.add_(first), base.mT @ later


class _Samples(torch.autograd.Function):
    """Slices C_out x C_in x D x k x k, with the points of all steps found at once."""

    @staticmethod
    def forward(
        ctx: Any, base: Tensor, scale: Tensor, rotation: Tensor, translate_x: Tensor, translate_y: Tensor
    ) -> Tensor:
        k = base.shape[-1]
        turn, moved, sources = _sources(scale, rotation, translate_x, translate_y, k)
        grids = torch.view_as_real(sources).view(len(scale), len(base), k, k, 2)
        slices = [base]
        for grid in grids.unbind():
            slices.append(torch.grid_sampler_2d(slices[-1], grid, _BILINEAR, _ZEROS, _CORNERS))
        ctx.save_for_backward(scale, turn, moved, grids, *slices[:-1])
        return torch.stack(slices, dim=2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        scale, turn, moved, grids, *slices = ctx.saved_tensors
        *earlier, of_slice = grad.unbind(2)
        of_grids = []
        for before, grid, own in zip(reversed(slices), reversed(grids.unbind()), reversed(earlier), strict=True):
            passed, of_grid = _sampler_backward(of_slice, before, grid, _BILINEAR, _ZEROS, _CORNERS, (True, True))
            of_slice = passed.add_(own)
            of_grids.append(of_grid)
        of_sources = torch.view_as_complex(torch.stack(of_grids[::-1])).flatten(2)
        return of_slice, *_gradients(of_sources, scale, turn, moved)

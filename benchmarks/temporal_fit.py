"""How well planted motion comes back from slices: `python benchmarks/temporal_fit.py [--device cuda]`.

Smooth slices are moved by `affine_grid` and `grid_sample`, white noise is added to all slices, and the motion is fitted
(`explain.temporal.fitting`, whose docstring holds the first two tables). The third is the time that large layers take,
beside that of their own forward pass on one clip of 8 frames of 28 x 28.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explain.temporal.fitting import Fit, fit

if TYPE_CHECKING:
    from collections.abc import Callable

#: Of each row with planted motion, and of each with none, where few seem to move.
FILTERS, UNRELATED = 32, 250


def smooth(filters: int, channels: int, k: int, draw: torch.Generator) -> Tensor:
    """White noise blurred by a Gaussian of a fifth of a kernel, at least of one pixel: filters x channels x k x k."""
    sigma = max(1.0, k / 5)
    noise = torch.randn(filters * channels, 1, k + 16, k + 16, generator=draw, dtype=torch.float64)
    at = torch.arange(-8, 9, dtype=torch.float64)
    blur = torch.exp(-at.square() / (2 * sigma**2))
    blurred = F.conv2d(F.conv2d(noise, blur.reshape(1, 1, 1, -1)), blur.reshape(1, 1, -1, 1))
    return (blurred / blurred.std()).reshape(filters, channels, k, k)


def motions(filters: int, draw: torch.Generator) -> Tensor:
    """s, r, tx and ty of two steps, 4 x 2 x filters: up to 10 % and 0.2 radians, a quarter of half a kernel."""
    reach = torch.tensor([0.1, 0.2, 0.25, 0.25], dtype=torch.float64).reshape(4, 1, 1)
    drawn = reach * (2 * torch.rand(4, 2, filters, generator=draw, dtype=torch.float64) - 1)
    drawn[0] += 1
    return drawn


def moved(slices: Tensor, planted: Tensor) -> Tensor:
    """Slices (filters x channels x k x k) and what each step makes of them: filters x channels x steps + 1 x k x k."""
    found = [slices]
    for scale, turn, x, y in planted.unbind(1):
        cosine, sine = scale * turn.cos(), scale * turn.sin()
        rows = [torch.stack([cosine, -sine, cosine * x - sine * y]), torch.stack([sine, cosine, sine * x + cosine * y])]
        theta = torch.stack(rows).permute(2, 0, 1)
        grid = F.affine_grid(theta, list(slices.shape), align_corners=True)
        found.append(F.grid_sample(found[-1], grid, align_corners=True))
    return torch.stack(found, dim=2)


def errors(found: Fit, planted: Tensor) -> Tensor:
    """Absolute errors of s, r, tx and ty: 4 x steps x filters."""
    return (torch.stack([found.scale, found.rotation, found.translate_x, found.translate_y]) - planted).abs()


def planted_table(device: str) -> None:
    """Errors of identified motions, by kernel, channels and noise."""
    print("planted: k, channels, noise; share identified, median R2, root mean square error of s, r, tx, ty, largest")
    for k in (7, 5, 3):
        for channels in (1, 16):
            for noise in (0.0, 0.1, 0.2):
                draw = torch.Generator().manual_seed(k * channels)
                planted = motions(FILTERS, draw)
                slices = moved(smooth(FILTERS, channels, k, draw), planted)
                deviation = noise * slices.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()
                slices = slices + deviation * torch.randn(slices.shape, generator=draw, dtype=torch.float64)
                found = fit(slices.to(device))
                wrong = errors(found, planted)[:, found.identified]
                each = " ".join(f"{float(one.square().mean().sqrt()):.4f}" for one in wrong)
                share, r2 = float(found.identified.double().mean()), float(found.r2.median())
                print(
                    f"{k} {channels:2} {noise:.2f}  {share:.3f} {r2:.3f}  {each}  {float(wrong.max()):.4f}", flush=True
                )


def unrelated_table(device: str) -> None:
    """How often slices that have nothing to do with each other seem to move."""
    print("unrelated slices: k, channels; share identified and median R2 of white ones; the same of smooth ones")
    for k in (7, 5, 3):
        for channels in (1, 4):
            draw = torch.Generator().manual_seed(k * channels)
            white = torch.randn(UNRELATED, channels, 3, k, k, generator=draw)
            blurred = smooth(UNRELATED, 3 * channels, k, draw).reshape(white.shape)
            parts = []
            for slices in (white, blurred):
                found = fit(slices.to(device))
                parts.append(f"{float(found.identified.double().mean()):.3f} {float(found.r2.median()):.3f}")
            print(f"{k} {channels:2}  {'  '.join(parts)}", flush=True)


def speed_table(device: str) -> None:
    """Seconds for whole layers; CPU time of all threads on a CPU, so that a busy machine does not count."""
    print("seconds: layer, fit, its forward pass")
    for into, out, k in ((3, 64, 7), (64, 64, 3), (512, 512, 3)):
        layer = nn.Conv3d(into, out, (k if k == 7 else 3, k, k), padding=k // 2, device=device)
        clip = torch.randn(1, into, 8, 28, 28, device=device)
        weight = layer.weight.detach()
        spent = [_seconds(partial(fit, weight), device), _seconds(partial(layer, clip), device)]
        print(f"{into} -> {out}, {'x'.join(map(str, layer.kernel_size))}  {spent[0]:.2f}  {spent[1]:.3f}", flush=True)


def _seconds(call: Callable[[], object], device: str) -> float:
    with torch.no_grad():
        call()
        clock = time.perf_counter if device == "cuda" else time.process_time
        started = clock()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
    return clock() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    device = parser.parse_args().device
    torch.manual_seed(0)
    planted_table(device)
    unrelated_table(device)
    speed_table(device)

"""3TConv: `python benchmarks/tconv3.py [--device cuda]`.

Kernel building, forward and backward, against `affine_grid` and `grid_sample` slice by slice; the forward pass in eval
mode against `nn.Conv3d`; and one training step of `3t_resnet18` against one of `3d_resnet18`, at the published input.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import milliseconds
from torch import Tensor, nn

import zoo
from zoo import devices
from zoo_tconv3.layer import TConv3d


def slice_by_slice(layer: TConv3d) -> Tensor:
    """Build the kernel by the paper's definition: each slice sampled from the previous one."""
    slices: list[Tensor] = [layer.base]
    for scale, rotation, x, y in zip(*layer.temporal_parameters().values(), strict=True):
        along, across = scale * rotation.cos(), scale * rotation.sin()
        top = torch.stack((along, -across, along * x - across * y), dim=-1)
        bottom = torch.stack((across, along, across * x + along * y), dim=-1)
        grid = F.affine_grid(torch.stack((top, bottom), dim=-2), list(layer.base.shape), align_corners=True)
        slices.append(F.grid_sample(slices[-1], grid, align_corners=True))
    return torch.stack(slices, dim=2)


def building(into: int, out: int, k: int, device: str) -> None:
    """Print how fast a layer's kernel is built, with its gradients."""
    layer = TConv3d(into, out, k).to(device)
    with torch.no_grad():
        for value in layer.temporal_parameters().values():
            value += 0.05 * torch.randn_like(value)
    upstream = torch.randn_like(layer.kernel())
    torch.testing.assert_close(layer.kernel(), slice_by_slice(layer), rtol=1e-3, atol=1e-3)

    def call(build: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(build(), list(layer.parameters()), upstream)

    calls = {"slice by slice": call(lambda: slice_by_slice(layer)), "ours": call(layer.kernel)}
    compare(f"kernel of {into} -> {out}, k = {k}, forward and backward", calls, device, 50, "slice by slice")


def forward(into: int, out: int, k: int, device: str) -> None:
    """Print how a layer compares with an ordinary convolution of the same kernel, in eval mode."""
    layer = TConv3d(into, out, k, padding=k // 2).to(device).eval()
    plain = layer.fold()
    clip = torch.randn(1, into, 8, 38, 56, device=device)
    with torch.inference_mode():
        calls = {"nn.Conv3d": lambda: plain(clip), "ours": lambda: layer(clip)}
        compare(f"eval forward of {into} -> {out}, k = {k}, on 8 x 38 x 56", calls, device, 100, "nn.Conv3d")


def step(device: str) -> None:
    """Print how long a training step takes, with SGD, on one published clip."""
    clip = torch.randn(1, 3, 30, 150, 224, device=device)
    label = torch.zeros(1, dtype=torch.int64, device=device)

    def call(network: nn.Module) -> Callable[[], object]:
        network.train()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(clip), label).backward()
            optimizer.step()

        return run

    names = {"3d_resnet18": "3D", "3t_resnet18": "ours"}
    calls = {shown: call(zoo.load(name, weights=None, device=device)) for name, shown in names.items()}
    compare("training step of ResNet-18 on 1 x 3 x 30 x 150 x 224", calls, device, 8, "3D")


def compare(title: str, calls: dict[str, Callable[[], object]], device: str, repeats: int, peer: str) -> None:
    """Print the times of both calls and their ratio."""
    found = milliseconds(calls, device, repeats, title)
    times = ", ".join(f"{name} {value:.3g} ms" for name, value in found.items())
    print(f"{title}: {times}; ours over {peer} {found['ours'] / found[peer]:.3f}, {found[peer] / found['ours']:.2f} x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    device = parser.parse_args().device
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    devices.keep_freed_memory()  # as `zoo train` does, for all alike
    print(f"{device}, {torch.get_num_threads()} CPU threads, float32, medians")
    building(256, 256, 3, device)
    building(3, 64, 7, device)
    forward(64, 64, 3, device)
    forward(256, 256, 3, device)
    step(device)

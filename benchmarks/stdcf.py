"""STDCF: `python benchmarks/stdcf.py [--device cuda]`.

The two ways of a layer, with the whole kernel and atom by atom, forward and forward with backward, at sizes of the
networks and at some where few atoms make a large kernel; and which of the two the layer takes by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from timing import milliseconds

from zoo import devices
from zoo_stdcf.layer import StdcfConv3d, Way

#: Title, channels in and out, kernel, atoms (M, N), input N x T x H x W.
CASES = (
    ("conv2 of stdcf_kth", 16, 32, (5, 3, 3), (5, 3), (4, 16, 32, 32)),
    ("conv3 of stdcf_kth", 32, 64, (3, 3, 3), (5, 2), (4, 8, 16, 16)),
    ("res3 of stdcf_r50", 128, 128, (3, 3, 3), (5, 3), (1, 8, 28, 28)),
    ("res5 of stdcf_r50", 512, 512, (3, 3, 3), (5, 3), (1, 8, 7, 7)),
    ("5 x 5 x 5, few atoms", 32, 64, (5, 5, 5), (2, 1), (1, 8, 28, 28)),
    ("5 x 5 x 5, few atoms, wide", 64, 256, (5, 5, 5), (3, 2), (1, 8, 14, 14)),
    ("7 x 7 x 7, few atoms", 64, 128, (7, 7, 7), (5, 3), (1, 8, 28, 28)),
)


def case(
    title: str,
    into: int,
    out: int,
    kernel: tuple[int, int, int],
    atoms: tuple[int, int],
    shape: tuple[int, int, int, int],
    device: str,
) -> None:
    """Print the times of both ways, and whether the layer takes the faster one."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    layer = StdcfConv3d(into, out, kernel, spatial_atoms=atoms[0], temporal_atoms=atoms[1], padding=padding).to(device)
    clip = torch.randn(shape[0], into, *shape[1:], device=device)
    costs = layer.cost(clip.shape)

    def call(way: Way, *, learning: bool) -> Callable[[], object]:
        def run() -> None:
            layer.way = way
            with torch.set_grad_enabled(learning):
                y = layer(clip)
                if learning:
                    y.sum().backward()

        return run

    chosen = min(costs, key=lambda way: costs[way])
    for learning, name in ((False, "forward"), (True, "forward and backward")):
        calls = {way: call(way, learning=learning) for way in costs}
        found = milliseconds({str(way): run for way, run in calls.items()}, device, 10, f"{title}, {name}")
        faster = min(found, key=lambda way: found[way])
        told = ", ".join(f"{way} {value:.3g} ms" for way, value in found.items())
        right = "the faster" if faster == chosen else f"the slower, by {found[chosen] / found[faster]:.2f} times"
        ratio = costs["dense"] / costs["atoms"]
        print(f"{title}, {name}: {told}; costs dense over atoms {ratio:.2f}; taken: {chosen}, {right}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    device = parser.parse_args().device
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    devices.keep_freed_memory()
    print(f"{device}, {torch.get_num_threads()} CPU threads, float32, medians")
    for row in CASES:
        case(*row, device)

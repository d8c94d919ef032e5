"""STFT blocks: `python benchmarks/stft.py [PART ...] [--device cuda]`.

`layer`: the fixed Fourier layers, forward and backward, as one grouped convolution, as separable passes along one axis
after the other, and as `zoo_stft.execution` runs them; and, in eval mode, before BatchNorm and with it folded in.
`network`: every network of the plugin beside I3D on the same clips, in parameters, operations and time, in eval mode,
with BatchNorm folded (`zoo_stft.fusion.fuse`), and for a training step; with `--small` those a fourth as wide.
`reading`: where the time of a network goes, operation by operation.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import milliseconds
from torch import Tensor, nn

import zoo
from zoo import devices
from zoo.models import flops
from zoo_stft import execution
from zoo_stft.blocks import Unit
from zoo_stft.fusion import fuse
from zoo_stft.layer import FREQUENCIES, Axes, ShortTimeFourier3d

NETWORKS = ("t_stft", "s_stft", "st_stft", "fact_dw", "relpv")


def separable(x: Tensor, axes: Axes, n: int = 3) -> Tensor:
    """The fixed filters as successive passes along one axis each, partial results shared between frequencies.

    Along an axis, a component of v is 0 or 1/n; of -1/n it is the conjugate. Parts are N x C x T x H x W.
    """
    steps = torch.arange(n, dtype=x.dtype, device=x.device) - n // 2
    waves = {0: (torch.ones_like(steps), None), 1: ((math.tau / n * steps).cos(), (math.tau / n * steps).sin())}

    def along(part: Tensor, axis: int, taps: Tensor) -> Tensor:
        """Apply one filter, along one axis, to every map."""
        shape, padding = [1, 1, 1], [0, 0, 0]
        shape[axis], padding[axis] = n, n // 2
        maps = part.shape[1]
        weight = taps.view(1, 1, *shape).expand(maps, 1, *shape)
        return execution.depthwise(part, weight, None, (1, 1, 1), (padding[0], padding[1], padding[2]))

    found: dict[tuple[int, ...], tuple[Tensor, Tensor | None]] = {(): (x, None)}
    for axis, letter in enumerate("thw"):
        after: dict[tuple[int, ...], tuple[Tensor, Tensor | None]] = {}
        for v, (real, imaginary) in found.items():
            if letter not in axes:
                after[*v, 0] = real, imaginary
                continue
            passed = {
                (part, kind): along(value, axis, taps)
                for part, value in (("re", real), ("im", imaginary))
                if value is not None
                for kind, taps in zip("0cs", (waves[0][0], *waves[1]), strict=True)
                if taps is not None
            }
            after[*v, 0] = passed["re", "0"], passed.get(("im", "0"))
            rc, rs = passed["re", "c"], passed["re", "s"]
            if imaginary is None:
                after[*v, 1] = rc, rs
                continue
            ic, is_ = passed["im", "c"], passed["im", "s"]
            after[*v, 1] = rc - is_, ic + rs
            after[*v, -1] = rc + is_, ic - rs
        found = after
    parts = [part for v in FREQUENCIES[axes] for part in found[v] if part is not None]
    return torch.stack(parts, dim=2).flatten(1, 2)


def layer(axes: Axes, shape: tuple[int, ...], device: str) -> None:
    """Print how long each execution of one layer takes."""
    own = ShortTimeFourier3d(shape[1], axes).to(device)
    x = execution.channels_together(torch.randn(shape, device=device)).requires_grad_()
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "grouped": lambda x: F.conv3d(x, own.weight, padding=own.padding, groups=shape[1]),
        "separable": lambda x: separable(x, axes),
        "ours": own,
    }
    upstream = torch.randn_like(own(x))

    def both(way: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(way(x.clone()), x, upstream)  # a leaf itself cannot be counted

    def forward(way: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[], object]:
        return lambda: way(given)

    title = f"fixed layer {axes} on {' x '.join(map(str, shape))}"
    compare(f"{title}, forward and backward", {n: both(w) for n, w in ways.items()}, device, 10, "grouped")
    unit = Unit(own, own.out_channels, "leaky_relu").to(device).eval()
    folded = fuse(unit)
    with torch.inference_mode():
        still = x.detach().clone()
        calls = {name: forward(way, still) for name, way in ways.items()}
        compare(f"{title}, forward", calls, device, 20, "grouped")
        calls = {"BatchNorm apart": forward(unit, still), "ours": forward(folded, still)}
        compare(f"{title}, forward with BatchNorm and activation", calls, device, 20, "BatchNorm apart")


def networks(device: str, suffix: str, batch: int) -> None:
    """Print parameters, operations and times of every network as shares of I3D's, on the same clips."""
    nets, entries = {}, {}
    for name in ("i3d", *NETWORKS):
        entries[name] = zoo.info(name + suffix)
        nets[name] = zoo.load(name + suffix, weights=None, device=device)
    folded = {name: fuse(net) for name, net in nets.items()}
    clips = torch.randn(batch, *entries["i3d"].input.shape[1:], device=device)
    print(f"clips of {' x '.join(map(str, clips.shape))}; shares of i3d{suffix}:")
    with torch.inference_mode():
        plain = milliseconds({name: lambda net=net: net(clips) for name, net in nets.items()}, device, 6, "forward")
        calls = {name: lambda net=net: net(clips) for name, net in folded.items()}
        fused = milliseconds(calls, device, 6, "BatchNorm folded")
    steps = milliseconds({name: step(net, clips) for name, net in nets.items()}, device, 4, "training step")
    counted = {name: flops.flops(entry) for name, entry in entries.items()}
    sizes = {name: sum(value.numel() for value in net.parameters()) for name, net in nets.items()}
    for name in nets:
        shares = [found[name] / found["i3d"] for found in (sizes, counted, plain, fused, steps)]
        print(
            f"{name}: parameters {sizes[name]:,} ({shares[0]:.2f}), {counted[name] / 1e9:.3g} GFLOP a clip "
            f"({shares[1]:.2f}), eval {plain[name]:.4g} ms ({shares[2]:.2f}), BatchNorm folded {fused[name]:.4g} ms "
            f"({shares[3]:.2f}), training step {steps[name]:.4g} ms ({shares[4]:.2f})"
        )


def step(network: nn.Module, clips: Tensor) -> Callable[[], object]:
    """Run a training step: forward, backward and SGD."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)
    labels = torch.zeros(len(clips), dtype=torch.int64, device=clips.device)

    def run() -> None:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(clips), labels).backward()
        optimizer.step()

    return run


def reading(device: str, suffix: str, batch: int) -> None:
    """Print the operations that a forward pass spends its time on."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    for name in ("i3d", "t_stft"):
        net = zoo.load(name + suffix, weights=None, device=device)
        clips = torch.randn(batch, *zoo.info(name + suffix).input.shape[1:], device=device)
        with torch.inference_mode():
            for _ in range(2):
                net(clips)
            with profile(activities=activities) as found:
                net(clips)
        own = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
        rows = sorted(found.key_averages(), key=lambda row: -float(getattr(row, own)))
        total = sum(float(getattr(row, own)) for row in rows)
        shares = ", ".join(f"{row.key} {100 * float(getattr(row, own)) / total:.0f} %" for row in rows[:6])
        print(f"{name}{suffix}, {total / 1000:.4g} ms: {shares}")


def compare(title: str, calls: dict[str, Callable[[], object]], device: str, repeats: int, peer: str) -> None:
    """Print the times of calls, and each as a share of the peer's."""
    found = milliseconds(calls, device, repeats, title)
    times = ", ".join(f"{name} {value:.3g} ms" for name, value in found.items())
    shares = ", ".join(f"{name} {value / found[peer]:.2f}" for name, value in found.items() if name != peer)
    print(f"{title}: {times}; over {peer}: {shares}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["layer", "network", "reading"], metavar="PART")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--small", action="store_true", help="networks a fourth as wide, on 16 x 64 x 64")
    parser.add_argument("--batch", type=int, default=1, help="clips at once")
    asked = parser.parse_args()
    parts = asked.parts or ["layer", "network", "reading"]
    suffix = "_w16" if asked.small else ""
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    devices.keep_freed_memory()  # as `zoo train` does, for all alike
    print(f"{asked.device}, {torch.get_num_threads()} CPU threads, float32, medians")
    if "layer" in parts:
        for channels, frames, side in ((16, 8, 16), (24, 8, 8), (32, 4, 4)):
            layer("t", (16, channels, frames, side, side), asked.device)
            layer("hw", (16, channels, frames, side, side), asked.device)
            layer("thw", (16, channels, frames, side, side), asked.device)
    if "network" in parts:
        networks(asked.device, suffix, asked.batch)
    if "reading" in parts:
        reading(asked.device, suffix, asked.batch)

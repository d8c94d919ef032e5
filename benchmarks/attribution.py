"""Attribution: `python benchmarks/attribution.py [PART ...] [--device cuda]`.

Each figure on torchvision's r3d_18 (random weights) and one clip of 1 x 3 x 16 x 112 x 112, over what the model's own
passes take: floating-point operations as torch counts them, and median times of calls made in turns. The parts:

shared      gradient methods, both Grad-CAMs and the activations of all stages in one call, over forward and backward
grad_cam    Grad-CAM at layer3 and layer4 over a forward pass, and pytorch-grad-cam (the extra "benchmarks") over it
integrated  integrated gradients with its delta over its 32 forward and backward passes
occlusion   occlusion over the forward passes of its windows
memory      the most bytes alive at once, over those of one forward pass
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from memory import LiveBytes
from timing import flops, milliseconds
from torch import Tensor, nn

import explain
import zoo
from explain.attribution.occlusion import default_blocks, window_count
from explain.model.preservation import prepared
from explain.model.targets import resolve
from zoo import devices

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
SHARED = (
    "saliency",
    "input_x_gradient",
    "grad_cam",
    "grad_cam_per_frame",
    *(f"layer_activation@{stage}" for stage in STAGES),
)


class Bench:
    """The model, the clip, and what the model's own passes cost."""

    def __init__(self, frames: int, side: int, device: str, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self.model: nn.Module = zoo.load("r3d_18", weights=None, device=device)
        self.batch = torch.randn(1, 3, frames, side, side, generator=torch.Generator().manual_seed(0)).to(device)
        with prepared(self.model):
            self.forward_flops = flops(self.forward)
            self.both_flops = flops(self.both)

    def forward(self) -> None:
        """Run one forward pass, without recording."""
        with torch.no_grad():
            self.model(self.batch)

    def both(self) -> Tensor:
        """Run one forward pass and the backward pass to the input; parameters are frozen within `prepared`."""
        inputs = self.batch.clone().requires_grad_()
        return torch.autograd.grad(self.model(inputs.clone()).amax(dim=1).sum(), inputs)[0]

    def attribute(self, method: str | tuple[str, ...], **options: Any) -> Callable[[], object]:
        """Call `explain.attribute`."""
        return lambda: explain.attribute(self.model, self.batch, method=method, **options)

    def compare(self, what: str, calls: dict[str, Callable[[], Any]], ratio: tuple[str, str], limit: str) -> None:
        """Print the median times of calls taken in turns, and the ratio of two of them."""
        if self.repeats:
            found = milliseconds(calls, self.device, self.repeats, what)
            print("  " + ", ".join(f"{name} {value:.0f} ms" for name, value in found.items()))
            told(what, found[ratio[0]] / found[ratio[1]], limit)


def told(what: str, ratio: float, limit: str) -> None:
    """Print one ratio beside its limit."""
    print(f"  {what}: {ratio:.3f} (limit: {limit})", flush=True)


def shared(bench: Bench) -> None:
    """Time many methods in one call."""
    call = bench.attribute(SHARED, layer="layer3")
    print(f"{len(SHARED)} maps in one call: {', '.join(SHARED)}")
    told("FLOPs over one forward and backward", flops(call) / bench.both_flops, "at most 1.1")
    with prepared(bench.model):
        calls = {"forward and backward": bench.both, "one call": call}
        ratio = "one call", "forward and backward"
        bench.compare("time over one forward and backward", calls, ratio, "at most 1.1")


def grad_cam(bench: Bench) -> None:
    """Time Grad-CAM at two layers, and the most used package for it."""
    print("Grad-CAM, target and map included")
    for layer, limit in (("layer4", 1.05), ("layer3", 1.15)):
        call = bench.attribute("grad_cam", layer=layer)
        told(f"{layer}, FLOPs over one forward", flops(call) / bench.forward_flops, f"at most {limit}")
    try:
        from pytorch_grad_cam import GradCAM
    except ImportError:
        print("  pytorch-grad-cam is not installed: pip install -e '.[benchmarks]'")
        return
    theirs = zoo.load("r3d_18", weights=None, device=bench.device)  # it leaves gradients behind: a model of its own
    theirs.requires_grad_()
    for layer in ("layer4", "layer3"):
        with GradCAM(model=theirs, target_layers=[theirs.get_submodule(layer)]) as cam:
            calls = {
                "pytorch-grad-cam": lambda cam=cam: cam(input_tensor=bench.batch, targets=None),
                "ours": bench.attribute("grad_cam", layer=layer),
                "forward": bench.forward,
            }
            ratio = flops(calls["pytorch-grad-cam"]) / flops(calls["ours"])
            told(f"{layer}, FLOPs of pytorch-grad-cam over ours", ratio, "none")
            what = f"{layer}, time of pytorch-grad-cam over ours"
            bench.compare(what, calls, ("pytorch-grad-cam", "ours"), "at least 2.5")


def integrated(bench: Bench, steps: int = 32) -> None:
    """Time integrated gradients with its delta; the target is known, as in a report, or found by the call itself."""
    passes = steps * bench.both_flops
    print(f"integrated gradients, {steps} steps, delta included, FLOPs over {steps} forward and backward passes")
    with prepared(bench.model):
        target = resolve(bench.model, bench.batch)
    for rule in ("gausslegendre", "riemann_trapezoid"):
        options = {"n_steps": steps, "integration": rule}
        call = bench.attribute("integrated_gradients", target=target, **options)
        told(f"{rule}, target known", flops(call) / passes, "at most 1.03")
        found = flops(bench.attribute("integrated_gradients", **options))
        told(
            f"{rule}, the target's own forward counted among the passes",
            found / (passes + bench.forward_flops),
            "at most 1.03",
        )
        told(f"{rule}, and not counted", found / passes, "none")


def occlusion(bench: Bench) -> None:
    """Occlusion: how many windows the default gives, and what windows cost (fewer of them, it takes minutes)."""
    frames, rows, columns = bench.batch.shape[2:]
    extent = (frames, rows, columns)
    print("occlusion")
    print(f"  default window and stride: {window_count(extent, *default_blocks(extent))} windows (limit: at most 300)")
    window = (frames // 2, rows // 2, columns // 2)
    passes = 1 + window_count(extent, window, (frames // 4, rows // 4, columns // 4))
    call = bench.attribute("occlusion", window=window)
    told(f"FLOPs over {passes} forward passes", flops(call) / (passes * bench.forward_flops), "at most 1.03")

    def forwards() -> None:
        for _ in range(passes):
            bench.forward()

    with prepared(bench.model):
        calls = {"passes": forwards, "occlusion": call}
        bench.compare(f"time over {passes} forward passes", calls, ("occlusion", "passes"), "at most 1.03")


def memory(bench: Bench) -> None:
    """Measure the peak memory of methods, without parameters and the clip."""
    print("most bytes of tensors alive at once")
    bare: dict[str, Callable[[], Any]] = {"one forward": bench.forward, "one forward and backward": bench.both}
    methods: dict[str, dict[str, Any]] = {
        "saliency": {},
        "grad_cam": {"layer": "layer3"},
        "integrated_gradients": {"n_steps": 4},
        "occlusion": {"window": tuple(size // 2 for size in bench.batch.shape[2:])},
        "lrp": {},
        "deep_lift": {},
        "rise": {"n_samples": 8},
    }
    first = 0
    for name, call in {**bare, **{name: bench.attribute(name, **options) for name, options in methods.items()}}.items():
        with prepared(bench.model), LiveBytes() as live:
            call()
        first = first or live.peak
        print(f"  {name}: {live.peak / 2**20:.0f} MiB, {live.peak / first:.1f} times one forward", flush=True)


PARTS = {part.__name__: part for part in (shared, grad_cam, integrated, occlusion, memory)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--repeats", type=int, default=7, help="Timed turns; 0 counts operations alone.")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=112)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    devices.keep_freed_memory()  # as `explain` does
    measured = Bench(given.frames, given.side, given.device, given.repeats)
    print(f"{given.device}, {torch.get_num_threads()} CPU threads, {tuple(measured.batch.shape)}")
    print(f"forward {measured.forward_flops / 1e9:.1f} GFLOP, with backward {measured.both_flops / 1e9:.1f} GFLOP")
    for part in given.parts or PARTS:
        PARTS[part](measured)

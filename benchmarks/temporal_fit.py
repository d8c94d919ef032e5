"""Recovery of planted motion from slices: `python benchmarks/temporal_fit.py [PART ...] [--kernels K ...]`.

`planted`: windows on images that move, content beyond every border (`planted_motion`, made by scipy alone), medians
over identified filters. `padded`: slices made with zeros outside, as a 3TConv makes them. `unrelated`: how often
unrelated slices seem to move. `speed`: time for large layers, beside their own forward pass on
a clip of 8 frames of 28 x 28.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import planted_motion
import torch
from torch import nn

from explain.temporal.fitting import Fit, fit

#: Of each row with planted motion, and of each with none, where few seem to move.
FILTERS, UNRELATED = 24, 150


def medians(found: Fit, planted: planted_motion.Planted, k: int) -> str:
    """Share identified, and median errors of those: scale, rotation in degrees, shift in pixels."""
    known, half = found.identified[0].numpy(), (k - 1) / 2
    scale, turn, x, y = (
        getattr(found, name)[0].numpy() for name in ("scale", "rotation", "translate_x", "translate_y")
    )
    wrong = (
        abs(1 / scale - planted.scale),
        abs(-np.degrees(turn) - planted.rotation),
        np.hypot(-half * x - planted.right, -half * y - planted.down),
    )
    each = [float(np.median(one[known])) if known.any() else float("nan") for one in wrong]
    return f"{known.mean():.2f}  {each[0]:.4f} {each[1]:.3f} {each[2]:.4f}"


def planted_table(device: str, kernels: Sequence[int]) -> None:
    """Report errors by kernel, resampling, noise and kind of motion."""
    print("planted: k, channels, order, noise, motion; share identified, median error of scale, degrees, pixels")
    for k in kernels:
        channels = 16 if k == 3 else 8
        for order, noise in ((1, 0.0), (3, 0.0), (1, 0.1)):
            for number, kind in enumerate(planted_motion.KINDS):
                draw = np.random.default_rng([k, order, round(10 * noise), number])
                planted = planted_motion.motions(kind, FILTERS, draw)
                slices = planted_motion.windows(planted, channels, k, draw, order=order, noise=noise)
                found = medians(fit(slices.to(device)), planted, k)
                print(f"{k} {channels:2} {order} {noise:.1f} {kind:7} {found}", flush=True)


def padded_table(device: str, kernels: Sequence[int]) -> None:
    """Report, for slices of a 3TConv in float32: share found padded, share identified of those, and largest error."""
    print("padded: k, channels; share found padded, largest error of the parameters where identified")
    for k in kernels:
        for channels in (1, 16):
            draw = np.random.default_rng([k, channels])
            planted = planted_motion.motions("mixed", FILTERS, draw)
            at = slice(planted_motion.MARGIN, planted_motion.MARGIN + k)
            slices = torch.from_numpy(planted_motion.images(FILTERS, channels, k, draw)[..., at, at])
            found = fit(planted_motion.padded(planted, slices).float().to(device))
            print(
                f"{k} {channels:2} {float(found.padded.double().mean()):.2f} {medians(found, planted, k)}", flush=True
            )


def unrelated_table(device: str, kernels: Sequence[int]) -> None:
    """Report how often unrelated slices seem to move."""
    print("unrelated: k, channels; share identified of white ones, of smooth ones")
    for k in kernels:
        for channels in (1, 4, 8):
            shares = []
            for smooth in (False, True):
                draw = np.random.default_rng([k, channels, smooth])
                found = fit(planted_motion.unrelated(UNRELATED, channels, k, draw, smooth=smooth).to(device))
                shares.append(f"{float(found.identified.double().mean()):.4f}")
            print(f"{k} {channels:2} {'  '.join(shares)}", flush=True)


def speed_table(device: str, _: Sequence[int]) -> None:
    """Measure seconds for whole layers; CPU time of all threads on a CPU, to be independent of other load."""
    print("seconds: layer, fit, its forward pass")
    torch.manual_seed(0)
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


PARTS = {"planted": planted_table, "padded": padded_table, "unrelated": unrelated_table, "speed": speed_table}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--kernels", type=int, nargs="+", default=[3, 5, 7, 9])
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in given.parts or PARTS:
        PARTS[part](given.device, given.kernels)

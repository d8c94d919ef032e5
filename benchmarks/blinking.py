"""Blinking digits: `python benchmarks/blinking.py [--device cuda]`.

Clips a second of the renderer, beside its limit of 2,000; and, for the convolutional networks, a training step's
features, forward and backward, where clips are not empty (`zoo_spatiotemporal_mnist.sparse`) beside whole clips.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from timing import milliseconds
from torch import Tensor

from zoo import devices
from zoo_spatiotemporal_mnist import blinking, sparse, training

CLIPS, BATCHES = 256, 20
#: Clips of a training step.
BATCH = 16


def rendering(images: Tensor, labels: Tensor) -> None:
    """Print clips a second."""
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    for _ in range(BATCHES):
        clips = blinking.render(images, blinking.draw(CLIPS, labels, generator=generator))
    float(clips[0, 0, 0, 0, 0])  # waits for a GPU
    rate = CLIPS * BATCHES / (time.perf_counter() - started)
    print(f"{rate:,.0f} clips/s, {rate / 2000:.1f} times the limit")


def step(design: str, images: Tensor, labels: Tensor, device: str) -> None:
    """Print the times of a network's features with their gradients, one way and the other."""
    network = training.build(design=design).network.to(device).train()
    clips = blinking.render(images, blinking.draw(BATCH, labels, generator=torch.Generator().manual_seed(0)))

    def call(body: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: network.pooled(body()).square().sum().backward()

    def whole() -> Tensor:
        return network.body(clips.to(memory_format=torch.channels_last_3d).float().div_(255))

    calls = {"whole": call(whole), "where clips are not empty": call(lambda: sparse.body(network.body, clips))}
    found = milliseconds(calls, device, 3, f"features of {design}, {BATCH} clips, forward and backward")
    times = ", ".join(f"{name} {value:.0f} ms" for name, value in found.items())
    ratio = found["whole"] / found["where clips are not empty"]
    print(f"features of {design}, {BATCH} clips, forward and backward: {times}; {ratio:.1f} times as fast")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    device = parser.parse_args().device
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    devices.keep_freed_memory()  # as `zoo train` does
    print(f"{device}, {torch.get_num_threads()} CPU threads, float32")
    digits = torch.zeros(60_000, 28, 28, dtype=torch.uint8)
    digits[:, 4:24, 6:22] = torch.randint(256, (60_000, 20, 16), dtype=torch.uint8)  # about where MNIST has its ink
    classes = torch.randint(10, (60_000,))
    rendering(digits.to(device), classes)
    for design in ("conv3d", "conv3d_xl", "ts_conv3d_xl"):
        step(design, digits.to(device), classes, device)

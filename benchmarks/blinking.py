"""Clips a second of the blinking-digits renderer: `python benchmarks/blinking.py`; the limit is 2,000."""

from __future__ import annotations

import time

import torch

from zoo_spatiotemporal_mnist import blinking

CLIPS, BATCHES = 256, 20

if __name__ == "__main__":
    images = torch.randint(256, (60_000, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (60_000,))
    generator = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    for _ in range(BATCHES):
        blinking.render(images, blinking.draw(CLIPS, labels, generator=generator))
    rate = CLIPS * BATCHES / (time.perf_counter() - started)
    print(f"{rate:,.0f} clips/s on {torch.get_num_threads()} threads, {rate / 2000:.1f} times the limit")

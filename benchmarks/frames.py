"""Rules for the frame that causes a unit's highest activation, compared with blanking every frame in turn.

python benchmarks/frames.py [MODEL ...]
"""

from __future__ import annotations

import sys
from collections import Counter

import torch
from torch import Tensor, nn

import explain
import zoo
from explain.fields.theoretical import trace
from explain.model.targets import Score

MODELS = ("conv3d", "ts_conv3d_xl")
LAYERS = (*(f"body.res{stage}_1.main.conv" for stage in range(1, 5)), "lstm")
CLIPS = ("sample:blinking_mnist/0", "sample:blinking_mnist/3")
#: Units of each layer, the first ones.
UNITS = 6


def answers(model: nn.Module, batch: Tensor, layer: str, unit: int, middles: list[int]) -> dict[str, int] | None:
    """Return each rule's frame; None if blanking no frame lowers the activation."""
    found = explain.attribute(model, batch, method="saliency", target=f"{layer}/{unit}:max")
    score = Score(model, found.target)
    left = []
    with torch.no_grad():
        for frame in range(batch.shape[2]):
            blanked = batch.clone()
            blanked[:, :, frame] = 0
            left.append(float(score(blanked, torch.zeros(1, dtype=torch.long))))
    fall = float(found.target.value[0]) - torch.tensor(left)
    if fall.max() <= 0:
        return None
    return {
        "blanking": int(fall.argmax()),
        "gradient x input (`.frame`)": int(found.frame[0]),
        "the same, magnitudes": int((found.raw * batch).abs().sum(dim=(0, 1, 3, 4)).argmax()),
        "gradient's magnitude": int(found.time[0].argmax()),
        "middle of the window": middles[int(found.target.positions[0, 0])],
    }


def main() -> None:
    """Print, for each model and layer, how often each rule finds the frame without which the activation falls most."""
    for name in sys.argv[1:] or MODELS:
        model = zoo.load(name)
        batches = [zoo.preprocess(clip, model) for clip in CLIPS]
        traced = trace(model, tuple(batches[0].shape))
        for layer in LAYERS:
            middles = traced.stand(next(row for row in traced.followed if row.layer == layer))
            hits: Counter[str] = Counter()
            for batch in batches:
                for unit in range(UNITS):
                    said = answers(model, batch, layer, unit, middles)
                    hits.update({rule: frame == said["blanking"] for rule, frame in said.items()} if said else {})
            shares = ", ".join(
                f"{rule} {hit / hits['blanking']:.0%}" for rule, hit in hits.items() if rule != "blanking"
            )
            print(f"{name} {layer} ({hits['blanking']} units): {shares}", flush=True)


if __name__ == "__main__":
    main()

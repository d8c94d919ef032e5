"""How the weights files of this package were trained. Data only.

The tasks are learned in turns: single quadrants, then short excerpts of fast blinking clips, then whole clips. All of
it was run on two CPU cores; `training.py` says what the losses are.
"""

from __future__ import annotations

from typing import Any

from zoo.training.recipes import Recipe, Stage

_HERE = "zoo_spatiotemporal_mnist"


def _stage(name: str, **settings: Any) -> Stage:
    return Stage(
        name=name,
        data=f"{_HERE}.training:clips",
        loss=f"{_HERE}.training:loss",
        weight_decay=0.01,
        clip_norm=5.0,
        warmup=100,
        **settings,
    )


CONV3D = Recipe(
    name="conv3d.blinking_mnist",
    summary="Excerpts of 10 and 16 frames with short periods, then whole clips, then averaged weights",
    build=f"{_HERE}.training:build",
    export=f"{_HERE}.training:export",
    evaluate=f"{_HERE}.evaluation:evaluate",
    example=f"{_HERE}.evaluation:example",
    arguments={"network": "conv3d"},
    seed=1,
    stages=(
        _stage(
            "excerpts",
            steps=1_800,
            batch_size=64,
            learning_rate=3e-3,
            final_rate=0.3,
            arguments={"frames": 10, "periods": 3, "late_start": True, "whole": 0.25},
        ),
        _stage(
            "longer_excerpts",
            steps=1_600,
            batch_size=40,
            learning_rate=2e-3,
            final_rate=0.3,
            arguments={"frames": 16, "periods": 6, "late_start": True},
        ),
        _stage(
            "clips",
            steps=2_600,
            batch_size=24,
            learning_rate=2e-3,
            final_rate=0.1,
            arguments={"frames": 48},
        ),
        _stage(
            "averaged",
            steps=1_600,
            batch_size=24,
            learning_rate=1e-3,
            averaging=0.99,
            recalibration=40,
            arguments={"frames": 48, "frame_weight": 0.5},
        ),
    ),
)

RECIPES: tuple[Recipe, ...] = (CONV3D,)

"""Training recipes of this package's weights. Data only.

The tasks are learned in turns: single quadrants, then short excerpts of fast blinking clips, then whole clips. All
runs used two CPU cores; `training.py` describes the losses.
"""

from __future__ import annotations

from typing import Any

from zoo.entries.recipes import Recipe, Stage

_HERE = "zoo_spatiotemporal_mnist"


def _stage(name: str, steps: int, batch_size: int, learning_rate: float, **settings: Any) -> Stage:
    return Stage(
        name=name,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        data=f"{_HERE}.training:clips",
        loss=f"{_HERE}.training:loss",
        weight_decay=0.01,
        clip_norm=5.0,
        warmup=100,
        **settings,
    )


def _recipe(design: str, summary: str, *stages: Stage, **arguments: Any) -> Recipe:
    return Recipe(
        name=f"{design}.blinking_mnist",
        summary=summary,
        build=f"{_HERE}.training:build",
        export=f"{_HERE}.training:export",
        evaluate=f"{_HERE}.evaluation:evaluate",
        arguments={"design": design, **arguments},
        seed=1,
        stages=stages,
    )


def _grown(small: str, refined: Stage) -> Recipe:
    """Return the recipe of the wide network, initialized by growing a small one."""
    summary = f"Grown from the trained {small}, then whole clips at a low rate, averaged weights"
    return _recipe(f"{small}_xl", summary, refined, grown_from=f"{small}.blinking_mnist")


def _excerpts(steps: int, batch_size: int) -> Stage:
    """Ten frames that blink fast, a quarter of them whole digits: what a frame shows, and the first orders."""
    arguments = {"frames": 10, "periods": 3, "late_start": True, "whole": 0.25}
    return _stage("excerpts", steps, batch_size, 3e-3, final_rate=0.3, arguments=arguments)


def _longer_excerpts(steps: int, batch_size: int) -> Stage:
    arguments = {"frames": 16, "periods": 6, "late_start": True}
    return _stage("longer_excerpts", steps, batch_size, 2e-3, final_rate=0.3, arguments=arguments)


def _clips(
    steps: int, batch_size: int, learning_rate: float = 2e-3, *, frame_weight: float = 1.0, name: str = "clips"
) -> Stage:
    arguments = {"frames": 48} if frame_weight == 1 else {"frames": 48, "frame_weight": frame_weight}
    return _stage(name, steps, batch_size, learning_rate, final_rate=0.1, arguments=arguments)


def _averaged(
    steps: int, batch_size: int, learning_rate: float = 1e-3, *, frame_weight: float = 0.5, name: str = "averaged"
) -> Stage:
    """Whole clips at a falling rate; the running average of the weights is kept."""
    arguments = {"frames": 48, "frame_weight": frame_weight}
    return _stage(name, steps, batch_size, learning_rate, averaging=0.99, recalibration=40, arguments=arguments)


def _supervised(
    steps: int, batch_size: int, learning_rate: float, *, name: str = "supervised", **settings: Any
) -> Stage:
    """Whole clips in float32, for a network that strides in time: each step is asked for all of its frames."""
    arguments = {"frames": 48, "frame_weight": 0.3}
    return _stage(name, steps, batch_size, learning_rate, autocast=False, arguments=arguments, **settings)


def _refined(steps: int, batch_size: int, learning_rate: float) -> Stage:
    """Whole clips at a low rate, for networks that know their tasks; their auxiliary heads know nothing, and rest."""
    arguments = {"frames": 48, "frame_weight": 0, "track_weight": 0}
    return _stage("refined", steps, batch_size, learning_rate, averaging=0.99, recalibration=40, arguments=arguments)


_FROM_NOTHING = "Excerpts of 10 and 16 frames with short periods, then whole clips, then averaged weights"

RECIPES: tuple[Recipe, ...] = (
    _recipe(
        "conv2d",
        _FROM_NOTHING,
        _excerpts(1_800, 64),
        _longer_excerpts(1_600, 40),
        _clips(5_000, 32),
        _averaged(1_600, 32),
    ),
    _recipe(
        "conv3d",
        _FROM_NOTHING,
        _excerpts(1_800, 64),
        _longer_excerpts(1_600, 40),
        _clips(2_600, 24),
        _averaged(1_600, 24),
    ),
    _recipe(
        "convlstm",
        _FROM_NOTHING,
        _excerpts(1_400, 64),
        _longer_excerpts(1_000, 40),
        _clips(1_000, 24),
        _averaged(500, 24),
    ),
    _grown("conv2d", _refined(400, 32, 2e-4)),
    _grown("conv3d", _refined(300, 16, 2e-4)),
    _recipe(
        "ts_conv3d_xl",
        "Begun with the weights of the trained conv3d, at other strides in time; later asked for single frames as well",
        _clips(900, 32, frame_weight=0),
        _averaged(500, 32, frame_weight=0),
        _clips(700, 32, frame_weight=0, name="more_clips"),
        _averaged(400, 32, frame_weight=0, name="averaged_again"),
        # Run later, from the weights file that the stages above had left: the auxiliary heads, which it does not hold,
        # began anew.
        _supervised(1_100, 32, 1.5e-3, final_rate=0.1),
        _supervised(600, 32, 1e-3, name="supervised_again", final_rate=0.1),
        _supervised(800, 32, 1e-3, name="supervised_more", final_rate=0.1),
        _supervised(240, 32, 3e-4, name="averaged_last", averaging=0.99, recalibration=40),
        _supervised(5_000, 32, 1e-3, name="supervised_long", final_rate=0.05),
        _supervised(300, 32, 2e-4, name="averaged_long", averaging=0.99, recalibration=40),
        grown_from="conv3d.blinking_mnist",
    ),
    _grown("convlstm", _refined(60, 16, 5e-4)),
)

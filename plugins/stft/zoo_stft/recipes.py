"""The training recipe shared by all of this package's weights. Data only.

From orthogonal weights, 32 clips a step, as in section 5.2 of the paper; with AdamW, because stochastic gradient
descent as described there makes no progress in so few steps (see the cards). All runs used one CPU core.
"""

from __future__ import annotations

from dataclasses import asdict

from zoo.entries import InputSpec
from zoo.entries.recipes import Recipe, Stage
from zoo_motion_mnist import MOTIONS

_HERE = "zoo_stft"

#: Default number of frames of a clip.
FRAMES = 16


def clips_of(frames: int) -> InputSpec:
    """Return the input spec of gray clips of 64 x 64 pixels."""
    return InputSpec(channels="L", frames=frames, size=(64, 64))


def arguments(kind: str) -> dict[str, object]:
    """Return the arguments of `networks.build`: all widths divided by 4."""
    return {"kind": kind, "classes": len(MOTIONS), "narrowed": 4, "in_channels": 1}


def _recipe(kind: str, frames: int = FRAMES) -> Recipe:
    other = frames != FRAMES
    said = asdict(clips_of(frames))
    return Recipe(
        name=f"{kind}_w16.motion_mnist" + (f"_{frames}" if other else ""),
        summary=f"Nine motions of digits in {frames} frames",
        build=f"{_HERE}.training:build",
        evaluate=f"{_HERE}.evaluation:evaluate",
        evaluate_arguments={"frames": frames} if other else {},
        example=f"{_HERE}.evaluation:example",
        example_arguments={"frames": frames} if other else {},
        arguments=arguments(kind),
        seed=1,
        header={"input": {name: said[name] for name in ("channels", "frames", "size")}} if other else {},
        stages=(
            Stage(
                name="clips",
                steps=500,
                batch_size=32,
                learning_rate=3e-3,
                warmup=50,
                data=f"{_HERE}.training:clips",
                loss=f"{_HERE}.training:loss",
                autocast=False,
                recalibration=20,
                arguments={"frames": frames},
            ),
        ),
    )


RECIPES: tuple[Recipe, ...] = (
    *(_recipe(kind) for kind in ("st_stft", "s_stft", "t_stft", "fact_dw", "relpv", "i3d")),
    *(_recipe(kind, frames) for frames in (8, 32) for kind in ("t_stft", "i3d")),
)

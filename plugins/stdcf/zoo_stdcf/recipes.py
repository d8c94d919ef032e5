"""Training recipes of this package's weights. Data only.

All runs used one CPU core; `training.py` describes the losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.entries.recipes import Recipe, Stage
from zoo_motion_mnist import MOTIONS

_HERE = "zoo_stdcf"

#: Epochs over the 10,000 fixed clips of TR-MNIST, in batches of 64 (appendix B).
EPOCHS = 50
#: Longest gradient, where none is to be cut.
_UNCUT = 1e9


def _reconstruction(kernel: str, seed: int) -> Recipe:
    """Return the recipe of appendix B: L2, Adam at 1e-3 (AdamW without decay), batches of 64, 50 epochs."""
    tag = "tr_mnist" if seed == 1 else f"tr_mnist_seed{seed}"
    return Recipe(
        name=f"{kernel}_autoencoder.{tag}",
        summary=f"Reconstruction of two digits that move and turn, seed {seed}",
        build=f"{_HERE}.training:build",
        evaluate=f"{_HERE}.evaluation:evaluate_reconstruction",
        arguments={"design": "autoencoder", "kernel": kernel},
        seed=seed,
        stages=(
            Stage(
                name="clips",
                steps=-(-EPOCHS * 10_000 // 64),
                batch_size=64,
                learning_rate=1e-3,
                final_rate=1.0,
                clip_norm=_UNCUT,
                autocast=False,
                data=f"{_HERE}.training:fixed_clips",
                loss=f"{_HERE}.training:squared_error",
            ),
        ),
    )


#: Steps of joint training on whole clips: at length, and so few that not everything is learned.
STEPS, FEW = 400, 120
#: Rounds of the alternating recipes.
ROUNDS = 2


def _stage(name: str, steps: int, arguments: Mapping[str, Any], *, last: bool = True) -> Stage:
    return Stage(
        name=name,
        steps=steps,
        batch_size=32,
        learning_rate=5e-3,
        warmup=20,
        final_rate=0.0 if last else 0.3,
        autocast=False,
        data=f"{_HERE}.training:moving_clips",
        loss=f"{_HERE}.training:cross_entropy",
        arguments=arguments,
    )


def _alternating(steps: int) -> tuple[Stage, ...]:
    """ITSL with the operations of `steps` on whole clips, three tenths of them on whole clips at the end.

    Stage t learns φ and alpha on whole lengths of small frames, stage s ψ and alpha on few whole frames; a step of
    either takes a fourth of the operations of one on whole clips.
    """
    each = steps * 7 // 10
    stages: list[Stage] = []
    for number in range(1, ROUNDS + 1):
        stages += [
            _stage(f"t{number}", 2 * each // ROUNDS, {"size": 32, "learned": ["phi", "alpha"]}, last=False),
            _stage(f"s{number}", 2 * each // ROUNDS, {"frames": 4, "learned": ["psi", "alpha"]}, last=False),
        ]
    return (*stages, _stage("all", steps - each, {}))


def _motion(architecture: str, tag: str, summary: str, stages: tuple[Stage, ...]) -> Recipe:
    kernel = architecture.partition("_")[0]
    return Recipe(
        name=f"{architecture}.{tag}",
        summary=summary,
        build=f"{_HERE}.training:build",
        evaluate=f"{_HERE}.evaluation:evaluate_motion",
        arguments={
            "design": "action",
            "kernel": "3d" if kernel == "conv3d" else kernel,
            "classes": len(MOTIONS),
        },
        seed=1,
        header={"arguments": {"classes": len(MOTIONS)}, "outputs": [{"labels": list(MOTIONS)}]},
        stages=stages,
    )


_NINE = "Nine motions of digits"
_BY_TURNS = "atoms in time and in space learned by turns (ITSL)"

RECIPES: tuple[Recipe, ...] = (
    *(_reconstruction(kernel, seed) for seed in (1, 2, 3) for kernel in ("stdcf", "rank1")),
    *(
        _motion(f"{kernel}_kth", "motion_mnist", _NINE, (_stage("clips", STEPS, {}),))
        for kernel in ("stdcf", "rank1", "conv3d")
    ),
    _motion("stdcf_kth", "motion_mnist_itsl", f"{_NINE}, {_BY_TURNS}", _alternating(STEPS)),
    _motion("stdcf_kth", "motion_mnist_short", f"{_NINE}, a short run", (_stage("clips", FEW, {}),)),
    _motion("stdcf_kth", "motion_mnist_itsl_short", f"{_NINE}, {_BY_TURNS}, a short run", _alternating(FEW)),
)

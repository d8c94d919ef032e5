"""How the weights files of this package were trained. Data only.

All of it was run on two CPU cores; `training.py` says what the losses are.
"""

from __future__ import annotations

from typing import Any

from zoo.training.recipes import Recipe, Stage

_HERE = "zoo_tconv3"

#: What the classes are, by the kind of motion in the clips; "static" clips show still digits, None is every kind.
CLASSES: dict[str | None, tuple[str, ...]] = {
    None: ("zoom in", "zoom out", "clockwise", "counter-clockwise", "left", "right", "up", "down", "still"),
    "zoom": ("zoom in", "zoom out"),
    "rotation": ("clockwise", "counter-clockwise"),
    "translation": ("left", "right", "up", "down"),
    "static": tuple("0123456789"),
}

#: Weight of the sum of the temporal parameters' deviations from the identity, where it is part of the loss.
PULL = 1e-3


def _recipe(architecture: str, tag: str, summary: str, *, steps: int, kind: str | None = None, **more: Any) -> Recipe:
    """Clips of one kind of motion for a network with all widths divided by 4, in float32.

    `more`: of the stage `pull` and `frames`, of the build `inflated_from`.
    """
    kernel, design, _ = architecture.split("_")
    classes = CLASSES[kind]
    of_build = {name: more.pop(name) for name in ("inflated_from",) if name in more}
    arguments = {"design": design, "kernel": kernel, "classes": len(classes), "narrowed": 4, "in_channels": 1}
    frames = more.get("frames")
    own = kind is not None and frames != 1
    return Recipe(
        name=f"{architecture}.{tag}",
        summary=summary,
        build=f"{_HERE}.training:build",
        export=f"{_HERE}.training:export",
        evaluate=f"{_HERE}.evaluation:evaluate" + ("_images" if frames == 1 else f"_{kind}" if kind else ""),
        example=f"{_HERE}.evaluation:example" + ("_image" if frames == 1 else ""),
        arguments={**arguments, **of_build},
        seed=1,
        header={"arguments": {"classes": len(classes)}, "outputs": [{"labels": list(classes)}]} if own else {},
        stages=(
            Stage(
                name="clips",
                steps=steps,
                batch_size=64,
                learning_rate=3e-3,
                warmup=50,
                data=f"{_HERE}.training:clips",
                loss=f"{_HERE}.training:loss",
                autocast=False,
                recalibration=20,
                arguments={name: value for name, value in {"kind": kind, **more}.items() if value is not None},
            ),
        ),
    )


def _single(kind: str, summary: str, *, steps: int = 800) -> Recipe:
    """A single kind of motion; temporal parameters that it does not need are drawn back to the identity."""
    summary = f"{summary}; temporal parameters are drawn to the identity"
    return _recipe("3t_resnet18_w16", kind, summary, steps=steps, kind=kind, pull=PULL)


_NINE = "Nine motions of digits"

RECIPES: tuple[Recipe, ...] = (
    _recipe("2d_resnet18_w16", "still_digits", "Still digits, in images", steps=1200, kind="static", frames=1),
    _recipe("3t_resnet18_w16", "motion_mnist", _NINE, steps=1000),
    _recipe(
        "3t_resnet18_w16",
        "motion_mnist_pretrained",
        f"{_NINE}, begun with the convolutions of 2d_resnet18_w16.still_digits",
        steps=1000,
        inflated_from="2d_resnet18_w16.still_digits",
    ),
    _recipe("3d_resnet18_w16", "motion_mnist", _NINE, steps=1000),
    _recipe("3t_googlenet_w16", "motion_mnist", _NINE, steps=1200),
    _recipe("3d_googlenet_w16", "motion_mnist", _NINE, steps=1200),
    _single("zoom", "Digits that zoom in or out"),
    _single("rotation", "Digits that turn clockwise or counter-clockwise"),
    _single("translation", "Digits that move left, right, up or down"),
    _single("static", "Still digits", steps=1500),
)

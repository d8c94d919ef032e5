"""Training recipes of this package's weights. Data only.

All runs used two CPU cores; `training.py` describes the losses.
"""

from __future__ import annotations

from zoo.entries.recipes import Recipe, Stage
from zoo_motion_mnist import KINDS, MOTIONS

_HERE = "zoo_tconv3"

#: Classes by the kind of motion in the clips; "static" clips show static digits, None is every kind.
CLASSES: dict[str | None, tuple[str, ...]] = {
    None: MOTIONS,
    **{kind: names for kind, names in KINDS.items() if kind != "static"},
    "static": tuple("0123456789"),
}

#: Weight of the sum of the temporal parameters' deviations from the identity, where it is part of the loss.
PULL = 1e-3


def _recipe(
    architecture: str,
    tag: str,
    summary: str,
    *,
    steps: int,
    kind: str | None = None,
    images: bool = False,
    pull: float = 0.0,
    inflated_from: str | None = None,
) -> Recipe:
    """Return the recipe on clips, or images, of one kind of motion, for widths divided by 4, in float32."""
    kernel, design, _ = architecture.split("_")
    classes = CLASSES[kind]
    arguments = {"design": design, "kernel": kernel, "classes": len(classes), "narrowed": 4, "in_channels": 1}
    of_stage = {"kind": kind, "frames": 1 if images else None, "pull": pull or None}
    own = kind is not None and not images
    return Recipe(
        name=f"{architecture}.{tag}",
        summary=summary,
        build=f"{_HERE}.training:build",
        evaluate=f"{_HERE}.evaluation:evaluate",
        evaluate_arguments=({"kind": kind} if kind else {}) | ({"frames": 1} if images else {}),
        example=f"{_HERE}.evaluation:example_image" if images else "",
        arguments=arguments | ({"inflated_from": inflated_from} if inflated_from else {}),
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
                arguments={name: value for name, value in of_stage.items() if value is not None},
            ),
        ),
    )


def _single(kind: str, summary: str, *, steps: int = 800) -> Recipe:
    """Return the recipe of a single kind of motion; unneeded temporal parameters are regularized to the identity."""
    summary = f"{summary}; temporal parameters are drawn to the identity"
    return _recipe("3t_resnet18_w16", kind, summary, steps=steps, kind=kind, pull=PULL)


_NINE = "Nine motions of digits"

RECIPES: tuple[Recipe, ...] = (
    _recipe("2d_resnet18_w16", "still_digits", "Still digits, in images", steps=1200, kind="static", images=True),
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

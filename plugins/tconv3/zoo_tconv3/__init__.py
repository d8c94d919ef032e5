"""3TConv networks: filters that scale, turn and move from frame to frame (Ras et al., arXiv 2006.15983). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import bundled_weights
from zoo.entries import InputSpec, ModelEntry, OutputSpec, WeightsEntry
from zoo.registry.hookspecs import hookimpl
from zoo_motion_mnist import SAMPLE
from zoo_tconv3.recipes import CLASSES, RECIPES

if TYPE_CHECKING:
    from zoo.entries.recipes import Recipe

_PAPER = (
    "Gabrielle Ras, Luca Ambrogioni, Pim Haselager, Marcel van Gerven, Umut Güçlü: Explainable 3D Convolutional Neural "
    "Networks by Learning Temporal Transformations. arXiv 2006.15983, 2020"
)
#: Clips of Jester, and ImageNet's normalization (supplement of the paper).
_GESTURES = InputSpec(frames=30, size=(150, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_MOTION = InputSpec(channels="L", frames=16, size=(64, 64))
_STILL = InputSpec(layout="NCHW", channels="L", frames=1, size=(64, 64))
_SAMPLES = (SAMPLE,)

#: Every architecture: name, summary, parameters, floating-point operations of one sample.
_ARCHITECTURES = (
    (
        "3t_resnet18",
        "ResNet-18 of 3TConvs: filters that scale, turn and move from frame to frame",
        11_222_619,
        43_912_712_704,
    ),
    ("3d_resnet18", "ResNet-18 of 3D convolutions", 33_217_755, 43_511_636_992),
    (
        "3t_googlenet",
        "GoogLeNet of 3TConvs: filters that scale, turn and move from frame to frame",
        7_419_121,
        64_132_819_872,
    ),
    ("3d_googlenet", "GoogLeNet of 3D convolutions", 14_078_833, 64_015_337_472),
    ("3t_resnet18_w16", "ResNet-18 of 3TConvs, a fourth as wide", 709_753, 219_935_360),
    ("3d_resnet18_w16", "ResNet-18 of 3D convolutions, a fourth as wide", 2_079_577, 196_348_160),
    ("3t_googlenet_w16", "GoogLeNet of 3TConvs, a fourth as wide", 474_035, 250_748_784),
    ("3d_googlenet_w16", "GoogLeNet of 3D convolutions, a fourth as wide", 886_259, 245_864_160),
    (
        "2d_resnet18_w16",
        "ResNet-18 for images, a fourth as wide: what a transfer to video begins with",
        701_818,
        18_909_696,
    ),
)


def _entry(name: str, summary: str, parameters: int, flops: int, weights: tuple[WeightsEntry, ...]) -> ModelEntry:
    kernel, design, *narrowed = name.split("_")
    arguments = {"design": design, "kernel": kernel}
    if not narrowed:
        return ModelEntry(
            name=name,
            builder="zoo_tconv3.networks:build",
            arguments={**arguments, "classes": 27},
            summary=summary,
            parameters=parameters,
            flops=flops,
            input=_GESTURES,
            outputs=(OutputSpec(argument="classes"),),
            paper=_PAPER,
        )
    labels = CLASSES["static" if kernel == "2d" else None]
    return ModelEntry(
        name=name,
        builder="zoo_tconv3.networks:build",
        arguments={**arguments, "classes": len(labels), "narrowed": 4, "in_channels": 1},
        summary=summary,
        parameters=parameters,
        flops=flops,
        input=_STILL if kernel == "2d" else _MOTION,
        outputs=(OutputSpec(labels=labels, argument="classes"),),
        weights=weights,
        samples=_SAMPLES,
        paper=_PAPER,
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """Return the architectures of this plugin."""
    order = ("motion_mnist", "motion_mnist_pretrained", "zoom", "rotation", "translation", "static")
    weights = bundled_weights("zoo_tconv3", order=order)
    return [_entry(*row, weights.get(row[0], ())) for row in _ARCHITECTURES]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """Return the training recipes of this plugin's weights."""
    return list(RECIPES)

"""3TConv networks: filters that scale, turn and move from frame to frame (Ras et al., arXiv 2006.15983). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import bundled_weights
from zoo.datasets.motion_names import MOTIONS
from zoo.entries import InputSpec, ModelEntry, OutputSpec, Sample, WeightsEntry
from zoo.registry.hookspecs import hookimpl
from zoo_tconv3.recipes import CLASSES, RECIPES

if TYPE_CHECKING:
    from zoo.entries.recipes import Recipe

_PAPER = (
    "Gabrielle Ras, Luca Ambrogioni, Pim Haselager, Marcel van Gerven, Umut Güçlü: Explainable 3D Convolutional Neural "
    "Networks by Learning Temporal Transformations. arXiv 2006.15983, 2020"
)
#: Clips of Jester, and ImageNet's normalisation (supplement of the paper).
_GESTURES = InputSpec(frames=30, size=(150, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_MOTION = InputSpec(channels="L", frames=16, size=(64, 64))
_STILL = InputSpec(layout="NCHW", channels="L", frames=1, size=(64, 64))
_SAMPLES = (
    Sample(
        name="motion_mnist",
        resource="zoo_tconv3:samples/motion_mnist.safetensors",
        labels=(
            "digit 3, zoom in 3.1 % per frame",
            "digit 0, zoom out 2.7 % per frame",
            "digit 9, clockwise 6.9° per frame",
            "digit 8, counter-clockwise 3.3° per frame",
            "digit 6, left 0.9 pixels per frame",
            "digit 5, right 1.0 pixels per frame",
            "digit 8, up 1.3 pixels per frame",
            "digit 5, down 0.8 pixels per frame",
            "digit 7, still",
            "digit 4, zoom in 4.2 % per frame, clockwise 5.4° per frame",
            "digit 4, zoom in 4.1 % per frame, counter-clockwise 3.5° per frame, left 1.2 pixels per frame",
        ),
        # The last two move in several ways at once, which is no class.
        classes=(
            *({"digit": digit, "motion": motion} for digit, motion in zip("309865857", MOTIONS, strict=True)),
            {"digit": "4"},
            {"digit": "4"},
        ),
        license="CC-BY-SA-3.0",
        source="Test digits of the MNIST database (LeCun, Cortes, Burges), zoomed, turned and moved",
    ),
)

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
    """The architectures of this plugin."""
    order = ("motion_mnist", "motion_mnist_pretrained", "zoom", "rotation", "translation", "static")
    weights = bundled_weights("zoo_tconv3", order=order)
    return [_entry(*row, weights.get(row[0], ())) for row in _ARCHITECTURES]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """How the weights of this plugin were trained."""
    return list(RECIPES)

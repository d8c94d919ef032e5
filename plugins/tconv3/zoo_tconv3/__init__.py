"""3TConv networks: filters that scale, turn and move from frame to frame (Ras et al., arXiv 2006.15983). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, WeightsEntry
from zoo.registry.hookspecs import hookimpl
from zoo_motion_mnist import SAMPLE
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
_SAMPLES = (SAMPLE,)

#: Of each weights file by name: bytes, SHA-256, accuracy on the fixed test clips.
_FILES: dict[str, tuple[int, str, float]] = {
    "2d_resnet18_w16.still_digits": (
        2_827_536,
        "631b371069e60f587417779726adb97e3f88b4ad556cea57b81c3add000fe87a",
        0.9737,
    ),
    "3t_resnet18_w16.motion_mnist": (
        2_865_252,
        "3fed1cc2a23edd3dee36eb7a33c25b9da0fa0f1e33a7f6e2fdc493fc7d9505b3",
        0.9972,
    ),
    "3t_resnet18_w16.motion_mnist_pretrained": (
        2_865_252,
        "4fbd8524659f08fd8a4248ceb472f25845ab5f1bbbb89dee3134ef2888b50be8",
        0.9997,
    ),
    "3d_resnet18_w16.motion_mnist": (
        8_338_708,
        "d83e235b2565609f50227d8df13e081f1027c53b7a97b158d8bc1be797af8e3d",
        1.0,
    ),
    "3t_googlenet_w16.motion_mnist": (
        1_954_868,
        "fe5f30c86635e3b89683dd710d445eb1f432b45de294803a308fd8d1254084b2",
        0.9989,
    ),
    "3d_googlenet_w16.motion_mnist": (
        3_596_028,
        "9541c04f86e6deeb81f547806a49c46bd0f0a6eebd8534a5ad2f31720cab61b2",
        1.0,
    ),
    "3t_resnet18_w16.zoom": (
        2_861_720,
        "7f16250453ab25223961bbdb1ecd50250ba26109ebbc0222f3ce8af969a5ebc4",
        0.9999,
    ),
    "3t_resnet18_w16.rotation": (
        2_861_728,
        "66a7e95902955e4ddbf6419294aa6f1508428ed1b37050c7ca2957077787005a",
        0.9989,
    ),
    "3t_resnet18_w16.translation": (
        2_862_760,
        "29f07be138cd19ee56a7a0e146c79a27412ac50143fbdb31f5261f2ca7d41f51",
        0.9997,
    ),
    "3t_resnet18_w16.static": (
        2_865_912,
        "bb247999a52a94938faff0d875cf6b4f5f6fde92c711cd7516d84fed7fee5f87",
        0.954,
    ),
}

#: Of 3t_resnet18_w16 without its last layer, in which each class has 129.
_PARAMETERS_BUT_CLASSES = 708_592

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


def _weights(recipe: Recipe) -> WeightsEntry:
    tag = recipe.name.partition(".")[2]
    size, sha256, accuracy = _FILES[recipe.name]
    place = f"zoo_tconv3:weights/{recipe.name}"
    kind = recipe.stages[0].arguments.get("kind")
    own = bool(recipe.header)
    metric = Metric(
        dataset="motion_mnist" + (f", {kind}" if kind else ""),
        split="test",
        name="digit accuracy" if kind == "static" else "motion accuracy",
        value=accuracy,
    )
    return WeightsEntry(
        tag=tag,
        source=f"{place}.safetensors",
        bytes=size,
        sha256=sha256,
        recipe=recipe.name,
        metrics=(metric,),
        golden=f"{place}.golden.safetensors",
        record=f"{place}.json",
        arguments={"classes": len(CLASSES[kind])} if own else None,
        outputs=(OutputSpec(labels=CLASSES[kind], argument="classes"),) if own else None,
        parameters=_PARAMETERS_BUT_CLASSES + 129 * len(CLASSES[kind]) if own else None,
    )


def _entry(name: str, summary: str, parameters: int, flops: int) -> ModelEntry:
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
        weights=tuple(
            _weights(recipe) for recipe in RECIPES if recipe.name in _FILES and recipe.name.partition(".")[0] == name
        ),
        samples=_SAMPLES,
        paper=_PAPER,
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """The architectures of this plugin."""
    return [_entry(*row) for row in _ARCHITECTURES]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """How the weights of this plugin were trained."""
    return list(RECIPES)

"""STFT blocks: fixed Fourier filters between 1x1x1 convolutions (Kumawat et al., arXiv 2007.11365). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, Sample, WeightsEntry
from zoo.registry.hookspecs import hookimpl
from zoo_motion_mnist import MOTIONS
from zoo_stft.recipes import FRAMES, RECIPES, arguments, clips_of

if TYPE_CHECKING:
    from zoo.entries.recipes import Recipe

_PAPER = (
    "Sudhakar Kumawat, Manisha Verma, Yuta Nakashima, Shanmuganathan Raman: Depthwise Spatio-Temporal STFT "
    "Convolutional Neural Networks for Human Action Recognition. arXiv 2007.11365, 2020"
)
#: Clips of Something-Something (section 5.2), whose classes Table 2 counts with. The paper names no normalisation.
_ACTIONS = InputSpec(frames=16, size=(112, 112))
_SAMPLES = (
    Sample(
        name="motion_mnist_32",
        resource="zoo_stft:samples/motion_mnist.safetensors",
        labels=(
            "digit 4, zoom in 1.4 % per frame",
            "digit 2, zoom out 1.8 % per frame",
            "digit 0, clockwise 3.2° per frame",
            "digit 8, counter-clockwise 3.3° per frame",
            "digit 1, left 0.5 pixels per frame",
            "digit 3, right 0.4 pixels per frame",
            "digit 6, up 0.4 pixels per frame",
            "digit 9, down 0.8 pixels per frame",
            "digit 5, still",
        ),
        classes=tuple({"digit": digit, "motion": motion} for digit, motion in zip("420813695", MOTIONS, strict=True)),
        license="CC-BY-SA-3.0",
        source="Test digits of the MNIST database (LeCun, Cortes, Burges), zoomed, turned and moved",
    ),
)

#: Of each weights file by name: bytes, SHA-256, accuracy on the fixed test clips.
_FILES: dict[str, tuple[int, str, float]] = {
    "st_stft_w16.motion_mnist": (
        789_160,
        "7ae9af387705a01b20346ed4bdf875a7f388add04f478a1ac88cc408a85dec44",
        0.9961,
    ),
    "s_stft_w16.motion_mnist": (
        825_496,
        "b811359ed9d49a30d5af2ecf8698cf7ea6abeebb42c91c9ccb768e4067f7efa1",
        0.9746,
    ),
    "t_stft_w16.motion_mnist": (
        880_804,
        "99bbc1c276b198871805aac2c83f60507c1913075ca8fb3c2f99f98e04b83862",
        0.9706,
    ),
    "fact_dw_w16.motion_mnist": (
        892_268,
        "0322e8b11717cc9d251007960d450b76d8415be19eacdca77a56947a8e9f73a5",
        0.9949,
    ),
    "relpv_w16.motion_mnist": (
        544_808,
        "0c2678eb2218ad2eb55cc7f77a5f384e792ea34d552e8d70150a795288cd3e2f",
        0.993,
    ),
    "i3d_w16.motion_mnist": (
        3_146_364,
        "08328aab5820ac215d889fd13ee085065b69799559ca2a55a03b42b18c754661",
        0.9999,
    ),
    "t_stft_w16.motion_mnist_8": (
        880_868,
        "e802fb50372cacf8059ac940415383eaf3718e15e539a237ae9f587ea9b988ed",
        0.9865,
    ),
    "i3d_w16.motion_mnist_8": (
        3_146_436,
        "e3f26872e0f55a729fe1f606ee4b19d95a48ca1afde3e13eebc346cae71402f4",
        0.9995,
    ),
    "t_stft_w16.motion_mnist_32": (
        880_876,
        "363fb7301fb204a1121e9507338bda56ae67318f9e33fa15879164763e83f171",
        0.9428,
    ),
    "i3d_w16.motion_mnist_32": (
        3_146_436,
        "47c6f2802d4b6021c56b5f73f0038be041ef90545e2f432ce4664f8920dcac77",
        0.9996,
    ),
}

#: Every kind of network: summary; parameters and floating-point operations of one sample, at full width (174 classes)
#: and with all widths divided by 4 (9 classes, grey clips of 64 x 64).
_KINDS: dict[str, tuple[str, tuple[int, int], tuple[int, int] | None]] = {
    "st_stft": (
        "Inception network of fixed Fourier filters over space and time",
        (2_793_013, 6_048_359_080),
        (179_720, 213_397_696),
    ),
    "s_stft": (
        "Inception network of fixed Fourier filters over space, trainable ones over time",
        (2_983_031, 2_693_550_848),
        (184_104, 74_378_496),
    ),
    "t_stft": (
        "Inception network of trainable filters over space, fixed Fourier filters over time",
        (3_217_866, 1_720_406_848),
        (199_479, 39_895_872),
    ),
    "fact_dw": (
        "Inception network of trainable filters over space and over time, map by map",
        (3_227_100, 1_720_406_848),
        (201_801, 39_895_872),
    ),
    "relpv": (
        "Inception network of fixed Fourier filters over space and time on a single map each",
        (1_732_841, 800_099_648),
        (120_642, 46_345_600),
    ),
    "i3d": ("Inception network of 3D convolutions", (12_465_614, 13_832_333_312), (774_369, 306_030_080)),
    "s3d_inception": ("Inception network of convolutions over space, then over time", (8_088_398, 8_948_336_640), None),
}


def _weights(recipe: Recipe) -> WeightsEntry:
    size, sha256, accuracy = _FILES[recipe.name]
    place = f"zoo_stft:weights/{recipe.name}"
    frames = recipe.stages[0].arguments["frames"]
    other = frames != FRAMES
    metric = Metric(
        dataset="motion_mnist" + (f", {frames} frames" if other else ""),
        split="test",
        name="motion accuracy",
        value=accuracy,
    )
    return WeightsEntry(
        tag=recipe.name.partition(".")[2],
        source=f"{place}.safetensors",
        bytes=size,
        sha256=sha256,
        recipe=recipe.name,
        metrics=(metric,),
        golden=f"{place}.golden.safetensors",
        record=f"{place}.json",
        input=clips_of(frames) if other else None,
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """The architectures of this plugin."""
    entries = []
    for kind, (summary, whole, narrow) in _KINDS.items():
        entries.append(
            ModelEntry(
                name=kind,
                builder="zoo_stft.networks:build",
                arguments={"kind": kind, "classes": 174},
                summary=summary,
                parameters=whole[0],
                flops=whole[1],
                input=_ACTIONS,
                outputs=(OutputSpec(argument="classes"),),
                paper=_PAPER,
            )
        )
        if narrow:
            own = [recipe for recipe in RECIPES if recipe.name.partition(".")[0] == f"{kind}_w16"]
            entries.append(
                ModelEntry(
                    name=f"{kind}_w16",
                    builder="zoo_stft.networks:build",
                    arguments=arguments(kind),
                    summary=f"{summary}, a fourth as wide",
                    parameters=narrow[0],
                    flops=narrow[1],
                    input=clips_of(FRAMES),
                    outputs=(OutputSpec(labels=MOTIONS, argument="classes"),),
                    weights=tuple(_weights(recipe) for recipe in own if recipe.name in _FILES),
                    samples=_SAMPLES,
                    paper=_PAPER,
                )
            )
    return entries


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """How the weights of this plugin were trained."""
    return list(RECIPES)


@hookimpl
def explain_sections(context: Any) -> list[Any]:
    """Which frequencies the blocks of a network use, and the kernels that they amount to."""
    from zoo_stft import view  # it draws, which `zoo list` need not wait for

    return view.sections(context)
